"""Put the figures of demos into README.md, between its markers: push-cube's in full, one line for each task.

Run: .venv/bin/python scripts/readme_table.py runs/demo/results.json open-drawer=runs/demo-open-drawer/results.json ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rlco.core.progress import clock
from rlco.evals.report_text import percent, points

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- {}:begin -->", "<!-- {}:end -->"


def table(results: dict[str, Any]) -> str:
    """Return the rates and the paired differences as a Markdown table."""
    columns = [name for name in next(iter(results["rates"].values())) if name not in ("episodes", "lost")]
    names = [name if name == "twin" else f"stand-in, {name}" for name in columns]
    head = ["method", *names, f"{results['compared']} is better by (points, stand-in)"]
    rows = [
        [method, *(rate(found[c]) for c in columns), gap(results, method)] for method, found in results["rates"].items()
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rate(found: dict[str, float]) -> str:
    """Return a rate with its Wilson 95 % interval."""
    return f"**{percent(found['value'])}** ({100 * found['low']:.0f} to {100 * found['high']:.0f})"


def gap(results: dict[str, Any], method: str) -> str:
    """Return the paired difference with its 95 % interval."""
    if method == results["compared"]:
        return ""
    found = results["paired_differences"][method]["all"]["difference"]
    return f"**{points(found['value'])}** ({points(found['low'])} to {points(found['high'])})"


def tasks_table(results: dict[str, dict[str, Any]]) -> str:
    """Return one line for each task: success on the stand-in of every method, and ours in the twin."""
    methods = list(next(iter(results.values()))["rates"])
    head = ["task", *methods, f"{methods[-1]}, twin", "time"]
    rows = [
        [
            name,
            *(rate(found["rates"][method]["all"]) for method in methods),
            rate(found["rates"][methods[-1]]["twin"]),
            clock(sum(found["seconds"].values())),
        ]
        for name, found in results.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *rows])


def put(name: str, text: str) -> None:
    """Write ``text`` between the markers of that name."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = README.read_text().split(begin)
    README.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


def main() -> None:
    """Rewrite the README."""
    demo = json.loads(Path(sys.argv[1]).read_text())
    others = dict(argument.split("=", 1) for argument in sys.argv[2:])
    episodes = max(found["episodes"] for found in demo["rates"].values())
    seconds = sum(demo["seconds"].values())
    caption = f"{episodes} episodes a method; 95 % intervals in brackets; the whole run took {clock(seconds)}."
    put("results", f"{table(demo)}\n\n{caption}")
    tasks = {"push-cube": demo} | {name: json.loads(Path(path).read_text()) for name, path in others.items()}
    put("tasks", tasks_table(tasks))


if __name__ == "__main__":
    main()
