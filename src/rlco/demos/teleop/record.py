"""Record demonstrations of a person as a LeRobot dataset."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlco.core.files import write_manifest
from rlco.core.rng import numpy_generator
from rlco.core.scene import InitialState
from rlco.data.writer import DatasetWriter, FinishedEpisode
from rlco.demos.keep import finished_report
from rlco.demos.teleop.attempt import Rig
from rlco.demos.teleop.devices import Device
from rlco.demos.teleop.hand import Clock, Hand, RealClock, polled
from rlco.demos.teleop.keys import EVENT_HELP, MOTION_HELP
from rlco.demos.teleop.mapping import MappingConfig
from rlco.demos.teleop.session import Kept, Session, Starts, Summary
from rlco.demos.teleop.view import View
from rlco.tasks import task
from rlco.worlds.make import make_world
from rlco.worlds.world import World

_PATIENCE = 4
"""A person may take this many times the task's own time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeleopConfig:
    """What is recorded. The device, the speeds and the seat may change from session to session."""

    task: str
    domain: str = "standin"
    engine: str = "mujoco"
    reality: int = 0
    objects: tuple[str, ...] | None = None
    """Of these things only (cube colours, ...); None: those of the training."""
    count: int = 20
    """Demonstrations to keep, those of earlier sessions included."""
    starts: Literal["fixed", "random"] = "fixed"
    """A balanced list in order, each until it is kept; or another one at every try."""
    seed: int = 0
    image_size: int = 96
    max_steps: int | None = None
    """Control steps after which the world stops; None: four times the task's own."""
    mapping: MappingConfig = field(default_factory=MappingConfig)
    require_success: bool = False
    """Keep only what the task's own check confirms."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"TeleopConfig.count must be 1 or more, got {self.count}.")
        if self.starts not in ("fixed", "random"):
            raise ValueError(f"TeleopConfig.starts must be fixed or random, got '{self.starts}'.")

    @property
    def scene(self) -> dict[str, Any]:
        """What every session of one dataset has in common."""
        names = ("task", "domain", "engine", "reality", "objects", "starts", "seed", "image_size", "max_steps")
        return {"operator": "person", **{name: getattr(self, name) for name in names}}


def finished(folder: Path, config: TeleopConfig) -> Summary | None:
    """Return what a finished recording of exactly this configuration holds, or None if it is still to be made.

    Raises ``ValueError`` or ``LookupError`` in one line if ``folder`` holds something else or no such world exists.
    """
    starting_points(config)
    report = finished_report(folder, inputs=_inputs(config))
    return None if report is None else Summary(**report)


def teleoperate(
    folder: Path, config: TeleopConfig, device: Device, view: View, *, clock: Clock | None = None
) -> Summary:
    """Let a person record until ``config.count`` demonstrations are on disk or the person quits; go on if some are.

    ``folder`` appears when the last one is recorded; until then they are in ``folder``.partial, each complete.
    Returns the figures of this session, or those of all sessions if the recording was finished before.
    Raises ``DeviceLostError`` if the device is gone; ``ValueError`` in one line, before a world starts, if ``folder``
    holds something else.
    """
    done = finished(folder, config)
    if done is not None:
        return done
    with _writer(folder, config) as writer:
        _require_room(config, writer)
        before = [_kept(episode) for episode in writer.finished]
        session = _session(config, writer, device, view, RealClock() if clock is None else clock)
        if writer.count < config.count:
            shorter = f", or --count {writer.count} finishes with these" if writer.count else ""
            view.say(f"{writer.count} of {config.count} kept in '{writer.partial}': the same command goes on{shorter}.")
        else:
            report = _report([*before, *session.kept])
            writer.finish(lambda root: write_manifest(root, inputs=_inputs(config), outputs=asdict(report)))
            view.say(f"'{folder}' is complete: {report.line()}")
    return session.summary()


def starting_points(config: TeleopConfig) -> Starts:
    """Return where each demonstration starts. Raises ``LookupError`` on an unknown task or object."""
    chosen = task(config.task)
    fixed = chosen.fixed_states(config.count, seed=config.seed, prefix="teleop", objects=config.objects)

    def random(number: int, tries: int) -> InitialState:
        rng = numpy_generator(config.seed, "teleop", number, tries)
        return chosen.sample_initial_state(rng, objects=config.objects)

    return random if config.starts == "random" else lambda number, tries: fixed[number]


def _session(config: TeleopConfig, writer: DatasetWriter, device: Device, view: View, clock: Clock) -> Session:
    """Run a session, and say what it did however it ends."""
    with _world(config) as world:
        hand = Hand(device, clock)
        rig = Rig(
            world=world,
            hand=hand,
            view=view,
            clock=clock,
            mapping=config.mapping,
            require_success=config.require_success,
        )
        session = Session(rig=rig, sink=writer, starts=starting_points(config), wanted=config.count)
        view.say(f"{MOTION_HELP}\n{EVENT_HELP}   Ctrl-C stop")
        try:
            with polled(hand):
                session.run()
        finally:
            view.say(f"this session: {session.summary().line()}")
    return session


def _world(config: TeleopConfig) -> World:
    own = task(config.task).max_steps
    return make_world(
        config.task,
        domain=config.domain,
        engine=config.engine,
        reality=config.reality,
        seed=config.seed,
        image_size=config.image_size,
        max_steps=_PATIENCE * own if config.max_steps is None else config.max_steps,
    )


def _report(kept: Sequence[Kept]) -> Summary:
    """Return the figures of all sessions; attempts after the last kept one of each are not known any more."""
    discarded: Counter[str] = Counter()
    for one in kept:
        discarded.update(one.provenance["discarded_before"])
    return Summary.of(kept, discarded=discarded)


@contextmanager
def _writer(folder: Path, config: TeleopConfig) -> Iterator[DatasetWriter]:
    """Leave nothing behind where nothing was kept: an empty folder would only stand in the way of other inputs."""
    writer = DatasetWriter(
        folder,
        fps=round(task(config.task).control_hz),
        robot_type=f"panda-{config.domain}",
        inputs=config.scene,
        sidecar=True,
    )
    try:
        with writer:
            yield writer
    finally:
        if writer.count == 0:
            shutil.rmtree(writer.partial, ignore_errors=True)


def _require_room(config: TeleopConfig, writer: DatasetWriter) -> None:
    if writer.count > config.count:
        raise ValueError(f"{writer.count} demonstrations are kept already: count must be that or more.")


def _kept(episode: FinishedEpisode) -> Kept:
    assert episode.provenance is not None
    return Kept(frames=episode.length, provenance=episode.provenance)


def _inputs(config: TeleopConfig) -> dict[str, Any]:
    return {**config.scene, "count": config.count}
