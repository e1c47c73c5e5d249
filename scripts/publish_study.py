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


def publish(folder: Path, results: Path = RESULTS) -> Path:
    """Copy what a study's page shows, its films left out; return where.

    Episodes are packed, so that the same ones give the same bytes. Raises ``ValueError`` for a study, or a part of it,
    that was made from source that no commit holds.
    """
    name = folder.name
    commits = json.loads((folder / f"{name}.json").read_text())["provenance"]["commits"]
    if not commits or any(not set(commit) <= set(hexdigits) for commit in commits.split(", ")):
        made = commits or "none is noted"
        raise ValueError(
            f"Made from source that no commit holds ({made}). Commit, and run those jobs again from nothing."
        )
    out = results / name
    out.mkdir(parents=True, exist_ok=True)
    for path in (folder / f"{name}.json", *folder.glob(f"{name}-*.svg")):
        shutil.copy(path, out)
    page, *_ = (folder / f"{name}.md").read_text().split("\n## Films\n")
    (out / f"{name}.md").write_text(f"{page.rstrip()}\n")
    episodes = (folder / f"{name}-episodes.jsonl").read_bytes()
    (out / f"{name}-episodes.jsonl.gz").write_bytes(gzip.compress(episodes, mtime=0))
    return out


if __name__ == "__main__":
    try:
        print(publish(Path(sys.argv[1])))
    except ValueError as error:
        sys.exit(str(error))
