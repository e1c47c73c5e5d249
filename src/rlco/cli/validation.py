"""Finding out what is wrong with a dataset, and putting it right in a new one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from rlco.cli import BAD_USAGE, FAILED, OK, complain
from rlco.core.progress import progress
from rlco.data.validation.repair import Repair, RepairOptions, Unit, repair, require_destination
from rlco.data.validation.validate import IDLE_S, Examined, count_episodes, examine
from rlco.tasks import task


@dataclass(frozen=True, kw_only=True)
class Validate:
    """Find what is wrong with a dataset: broken files, counts, times, units, jumps, pauses, frozen cameras.

    Reads LeRobot v3.0, v2.1 and v2.0. Exit code 0: no errors (warnings at most); 1: errors; 2: bad usage. With
    --repair the code is that of the repaired dataset.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    """A LeRobot dataset. Nothing in it is changed."""
    repair: Path | None = None
    """Write what can be kept to this new folder (LeRobot v3.0)."""
    units: tuple[Unit, ...] = ()
    """For --repair: the values that no arm has are in these units; convert them to metres and radians."""
    trim_idle: bool = False
    """For --repair: cut the pauses at the start and the end of episodes."""
    fps: int | None = None
    """For --repair: the true frame rate [Hz], if info.json is wrong about it."""
    idle_s: float = IDLE_S
    """A longer pause than this is found [s]."""
    skip_pictures: bool = False
    """Count the frames of the videos, but do not look at them: faster."""
    replay: str | None = None
    """Also replay the actions, open loop, in the twin of this task, and say how far it drifts from the recording.
    With --repair, those of the repaired dataset."""
    plot: Path | None = None
    """For --replay: draw the drift into this PNG."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        """See the overview."""
        if self.replay is not None:
            task(self.replay)
        try:
            options = self._options()
            if self.repair is not None:
                require_destination(self.folder, self.repair)
            examined = self._examined(self.folder, pictures=self.repair is not None)
        except ValueError as error:
            return complain(error, code=BAD_USAGE)
        if self.repair is None:
            self._show(examined, None, None)
            return FAILED if examined.validation.errors else OK
        with progress("repair", total=len(examined.survey.episodes), unit="episode") as bar:
            done = repair(examined, self.repair, options=options, reporter=bar)
        after = self._examined(self.repair, pictures=False)
        self._show(examined, done, after)
        return FAILED if after.validation.errors else OK

    def _options(self) -> RepairOptions:
        given = [
            name
            for name, value in (("--units", self.units), ("--trim-idle", self.trim_idle), ("--fps", self.fps))
            if value
        ]
        if self.plot is not None and self.replay is None:
            raise ValueError("--plot belongs to --replay: say in which task's twin the actions are to be replayed.")
        if given and self.repair is None:
            raise ValueError(f"{given[0]} belongs to --repair: say where the repaired dataset is to be written.")
        return RepairOptions(units=self.units, trim_idle=self.trim_idle, idle_s=self.idle_s, fps=self.fps)

    def _examined(self, folder: Path, *, pictures: bool) -> Examined:
        with progress("validate", total=count_episodes(folder), unit="episode") as bar:
            decode = not self.skip_pictures
            return examine(folder, idle_s=self.idle_s, decode=decode, pictures=pictures, reporter=bar)

    def _replayed(self, examined: Examined, task: str) -> dict[str, Any]:
        """Return the drift, or why there is none: the rest of the report is worth as much without it."""
        if examined.validation.errors:
            return {"not replayed": "the dataset has errors: it cannot be opened as it is"}
        from rlco.cli.recovery import replay_check

        try:
            return replay_check(examined.survey.folder, task, self.plot)
        except (ValueError, LookupError) as error:
            return {"not replayed": str(error)}

    def _show(self, before: Examined, done: Repair | None, after: Examined | None) -> None:
        replayed = None if self.replay is None else self._replayed(after or before, self.replay)
        if self.json:
            found: dict[str, Any] = before.validation.to_json()
            if replayed is not None:
                found["replay"] = replayed
            if done is not None and after is not None:
                found |= {"repair": done.to_json(), "repaired": after.validation.to_json()}
            print(json.dumps(found, indent=2))
            return
        lines = before.validation.lines()
        if done is not None and after is not None:
            lines += ["", *done.lines(), "", *after.validation.lines()]
        if replayed is not None:
            lines += ["", f"Replay in the twin of {self.replay}: {json.dumps(replayed, indent=2)}"]
        print("\n".join(lines))
