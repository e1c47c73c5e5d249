"""What exists here, and whether the machine is fit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Arguments of ``rlco tasks``."""

    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """See the overview."""
        from rlco.policies.checkpoint import WEIGHTS
        from rlco.policies.pi05.config import CONFIGS
        from rlco.recipes import RECIPES
        from rlco.tasks import TASKS

        known = {
            "tasks": sorted(TASKS),
            "policies": sorted(CONFIGS),
            "pretrained bases": sorted(path.name for path in WEIGHTS.glob("*") if path.is_dir()),
            "recipes": sorted(RECIPES),
        }
        print(json.dumps(known, indent=2) if self.json else "\n".join(f"{k}: {', '.join(v)}" for k, v in known.items()))


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Arguments of ``rlco doctor``."""

    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """See the overview."""
        from rlco.recipes.doctor import checks

        found = list(checks())
        if self.json:
            print(json.dumps([asdict(check) for check in found], indent=2))
        else:
            for check in found:
                remedy = "" if check.is_ok else f". {check.remedy}"
                print(f"{'ok  ' if check.is_ok else 'FAIL'} {check.name}: {check.found}{remedy}")
        return 0 if all(check.is_ok for check in found) else 1
