"""Put a run's figures into README.md, between its two markers.

Run: .venv/bin/python scripts/readme_table.py runs/demo/results.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rlco.core.progress import clock
from rlco.evals.report import percent, points

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


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


def main() -> None:
    """Rewrite the README."""
    results = json.loads(Path(sys.argv[1]).read_text())
    episodes = max(found["episodes"] for found in results["rates"].values())
    seconds = sum(results["seconds"].values())
    caption = f"{episodes} episodes a method; 95 % intervals in brackets; the whole run took {clock(seconds)}."
    before, rest = README.read_text().split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n{table(results)}\n\n{caption}\n{END}{after}")


if __name__ == "__main__":
    main()
