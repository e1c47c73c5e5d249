"""Keep a study's results in ``results/``: its tables, every episode, its figures.

Run: .venv/bin/python scripts/publish_study.py runs/studies/table1-openvla-nano
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from pathlib import Path
from string import hexdigits

RESULTS = Path(__file__).parent.parent / "results"


def publish(folder: Path) -> Path:
    """Copy what a study's page shows; return where. Episodes are packed, so that the same ones give the same bytes."""
    name = folder.name
    found = json.loads((folder / f"{name}.json").read_text())
    commits = found["provenance"]["commits"]
    if any(not set(commit) <= set(hexdigits) for commit in commits.split(", ")):
        raise SystemExit(f"Made from source that no commit holds ({commits}): commit it, and run those jobs again.")
    out = RESULTS / name
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / f"{name}.json", out)
    for figure in folder.glob(f"{name}-*.svg"):
        shutil.copy(figure, out)
    episodes = (folder / f"{name}-episodes.jsonl").read_bytes()
    (out / f"{name}-episodes.jsonl.gz").write_bytes(gzip.compress(episodes, mtime=0))
    return out


def jobs_table(found: dict) -> str:
    """Return a line for each job: every method outside of the twin, and what the compared one gains on each."""
    parts = [part for part in found["parts"] if part["domain"] != "twin"]
    rows, compared = list(dict.fromkeys(part["row"] for part in parts)), found["compared"]
    head = ["job", *rows, *(f"{compared} minus {row}" for row in rows if row != compared)]
    lines = [head, ["---"] * len(head)]
    for job in dict.fromkeys(part["part"] for part in parts):
        cells = {part["row"]: part for part in parts if part["part"] == job}
        gains = [points(cells[row]["gain"]) for row in rows if row != compared]
        lines.append([job, *(share(cells[row]) for row in rows), *gains])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def share(cell: dict) -> str:
    """Return a rate with its interval [%]."""
    return f"{100 * cell['value']:.1f} ({100 * cell['low']:.1f} to {100 * cell['high']:.1f})"


def points(gain: dict) -> str:
    """Return a difference with its interval, in points."""
    return f"{100 * gain['value']:+.1f} ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"


def main() -> None:
    """Publish one study and print its jobs as a Markdown table."""
    folder = Path(sys.argv[1])
    out = publish(folder)
    print(jobs_table(json.loads((out / f"{folder.name}.json").read_text())))


if __name__ == "__main__":
    main()
