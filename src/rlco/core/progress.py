"""Progress with rate and ETA: a live bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

PLAIN_INTERVAL_S = 20.0
"""Seconds between two lines when nobody watches a terminal."""
WORTH_TELLING_S = 2.0
"""Shorter work says nothing unless somebody watches a terminal."""


@runtime_checkable
class Reporter(Protocol):
    """Told how far the work is."""

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """``count`` more units are done; ``note`` is the latest figure worth seeing."""
        ...

    def reach(self, done: int, total: int) -> None:
        """``done`` of ``total`` units are done, those of an earlier, interrupted run included."""
        ...


class Silent:
    """Says nothing."""

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """Do nothing."""

    def reach(self, done: int, total: int) -> None:
        """Do nothing."""


@dataclass
class Pace:
    """How much is done, and how fast it goes since this process started."""

    total: int
    unit: str
    done: int = 0
    found: int | None = None
    """What an earlier run had done already; it says nothing about the speed of this one."""
    began: float = field(default_factory=lambda: time.monotonic())

    def advance(self, count: int) -> None:
        """Count work done now."""
        self.found = self.found or 0
        self.done += count

    def reach(self, done: int, total: int) -> None:
        """Count work up to ``done``. The first call may include an earlier run's: one unit of it is new.

        Less done than before, or another total, is the next part of the work, which has a pace of its own.
        """
        if done < self.done or total != self.total:
            self.began, self.found = time.monotonic(), None
        self.found = done - 1 if self.found is None else self.found
        self.done, self.total = done, total

    @property
    def figures(self) -> str:
        """Return rate and time left."""
        seconds = time.monotonic() - self.began
        return speed(new=self.done - (self.found or 0), left=self.total - self.done, seconds=seconds, unit=self.unit)


@dataclass
class PlainReporter:
    """Writes a line every ``PLAIN_INTERVAL_S``, and one at the end of work that took over two seconds."""

    description: str
    pace: Pace
    note: str = ""
    began: float = field(default_factory=lambda: time.monotonic())
    spoke: float = field(default_factory=lambda: time.monotonic())
    said: int | None = None
    """How much was done by the last line."""

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """See ``Reporter``."""
        self.pace.advance(count)
        self.note = note or self.note
        self.speak_if_due()

    def reach(self, done: int, total: int) -> None:
        """See ``Reporter``."""
        self.pace.reach(done, total)
        self.speak_if_due()

    def speak_if_due(self) -> None:
        """Write a line if the last one is old."""
        if time.monotonic() - self.spoke >= PLAIN_INTERVAL_S:
            self.speak()

    def finish(self) -> None:
        """Say the last word, unless it was said."""
        is_worth_telling = time.monotonic() - self.began >= WORTH_TELLING_S
        if is_worth_telling and self.said != self.pace.done:
            self.speak()

    def speak(self) -> None:
        """Write one line."""
        self.spoke, self.said = time.monotonic(), self.pace.done
        note = f", {self.note}" if self.note else ""
        text = f"{self.description}: {self.pace.done}/{self.pace.total} {self.pace.unit}, {self.pace.figures}{note}"
        print(text, file=sys.stderr, flush=True)


@dataclass
class LiveReporter:
    """Moves a rich progress bar."""

    bar: Progress
    task: TaskID
    pace: Pace
    note: str = ""

    def advance(self, count: int = 1, *, note: str = "") -> None:
        """See ``Reporter``."""
        self.pace.advance(count)
        self.note = note or self.note
        self.show()

    def reach(self, done: int, total: int) -> None:
        """See ``Reporter``."""
        self.pace.reach(done, total)
        self.show()

    def show(self) -> None:
        """Redraw."""
        pace = self.pace
        self.bar.update(self.task, completed=pace.done, total=pace.total, figures=pace.figures, note=self.note)


def speed(*, new: int, left: int, seconds: float, unit: str) -> str:
    """Return rate and time left, for example ``12.3 step/s, 1:05 left``."""
    if new <= 0 or seconds <= 0:
        return "starting"
    rate = new / seconds
    text = f"{rate:.3g} {unit}/s" if rate >= 1 else f"{1 / rate:.3g} s/{unit}"
    return f"{text}, {clock(left / rate)} left" if left > 0 else f"{text}, took {clock(seconds)}"


def clock(seconds: float) -> str:
    """Return ``1:05`` or ``2:03:04``."""
    minutes, second = divmod(round(max(seconds, 0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


@contextmanager
def progress(description: str, *, total: int, unit: str = "step", quiet: bool = False) -> Iterator[Reporter]:
    """Report work of ``total`` units on stderr.

    ``with progress("sft", total=1000) as bar: bar.advance(note="loss 0.31")``
    """
    if quiet:
        yield Silent()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        plain = PlainReporter(description=description, pace=Pace(total=total, unit=unit))
        try:
            yield plain
        finally:
            plain.finish()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[figures]}"),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=total, figures="starting", note="")
        yield LiveReporter(bar=bar, task=task, pace=Pace(total=total, unit=unit))
