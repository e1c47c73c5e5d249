"""What exists here, and whether the machine is fit."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from rlco.evals.task_card import TaskCard


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Arguments of ``rlco tasks``."""

    task: Annotated[str | None, tyro.conf.Positional] = None
    """Only this one; all of them by default, and the policies, bases and recipes."""
    show: Path | None = None
    """Draw that task's worlds, regions and ten starts into this PNG file."""
    reality: int = 0
    """Which draw of the stand-in the picture shows."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """See the overview."""
        from rlco.evals.task_card import card
        from rlco.tasks import TASKS, task

        chosen = list(TASKS.values()) if self.task is None else [task(self.task)]
        if self.show is not None:
            self._show(self.show)
        cards = [card(one) for one in chosen]
        others = _others() if self.task is None else {}
        if self.json:
            known = {"tasks": {one.name: asdict(one) for one in cards}, **others}
            print(json.dumps(known, indent=2))
        else:
            print("\n\n".join(_text(one) for one in cards))
            if others:
                print("\n" + "\n".join(f"{kind}: {', '.join(names)}" for kind, names in others.items()))

    def _show(self, path: Path) -> None:
        """Refuse what cannot be drawn before any world starts."""
        from rlco.core.files import require_writable
        from rlco.tasks import TASKS

        if self.task is None:
            raise ValueError(f"--show draws one task: rlco tasks TASK --show {path}. Known: {', '.join(TASKS)}.")
        if path.suffix.lower() != ".png":
            raise ValueError(f"--show writes a PNG file, got '{path}'.")
        if path.is_dir():
            raise ValueError(f"'{path}' is a folder, --show needs a file.")
        require_writable(path.parent)
        from rlco.evals.task_picture import draw_task

        draw_task(self.task, path, reality=self.reality)


def _others() -> dict[str, list[str]]:
    from rlco.policies.checkpoint import base_folder
    from rlco.policies.families import CONFIGS
    from rlco.recipes import RECIPES

    return {
        "policies": sorted(CONFIGS),
        "pretrained bases": sorted(name for name in CONFIGS if base_folder(name) is not None),
        "recipes": sorted(RECIPES),
    }


def _text(card: TaskCard) -> str:
    """Return a card as lines of a name and its value."""
    hold = "" if card.hold_steps == 1 else f", for {card.hold_steps} control steps"
    lines: dict[str, Any] = {
        "instruction": f"{card.instruction}  (or: {'; '.join(card.paraphrases)})",
        "clock": f"{card.control_hz:g} Hz, at most {card.max_steps} control steps ({card.seconds:g} s)",
        "success": card.success + hold,
        "sparse": card.sparse,
        "dense": f"{card.dense}; 1 at success",
        "objects": ", ".join(card.objects),
        "unseen": ", ".join(card.unseen_objects),
        "shifts": ", ".join(card.shifts),
    }
    return "\n".join([card.name, *(f"  {name:<12} {value}" for name, value in lines.items() if value)])


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
