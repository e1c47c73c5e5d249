"""Record demonstrations of the scripted operator as a LeRobot dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from rlco.core.errors import unknown_name
from rlco.core.files import write_manifest
from rlco.core.progress import Reporter, Silent
from rlco.data.writer import write_dataset
from rlco.demos.keep import Keeper, finished_report
from rlco.demos.operator import STYLES, TELEOP, Operator, TeleopStyle
from rlco.rollout.record import record
from rlco.tasks import task
from rlco.worlds.make import make_world

_ATTEMPTS_PER_DEMONSTRATION = 2
"""An operator that fails more often than one in this many is not recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordReport:
    """What recording did; also in the dataset's manifest."""

    count: int
    attempts: int
    """Up to and including the last kept one."""
    success_rate: float
    """Of the operator."""
    mean_length: float
    """Control steps of a kept demonstration."""
    rejected: dict[str, int]
    """Reason -> attempts."""
    lost: int
    success_rate_by_label: dict[str, float]
    """Such as ``place=left`` -> share of the attempts there that succeed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordConfig:
    """What is recorded. Everything here changes the result; how many environments run does not."""

    task: str
    domain: str = "standin"
    reality: int = 0
    objects: tuple[str, ...] | None
    """Of the objects that exist there; None: all."""
    count: int = 50
    """Successful demonstrations."""
    seed: int = 0
    image_size: int = 96
    style: TeleopStyle = TELEOP

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"RecordConfig.count must be 1 or more, got {self.count}.")


def style(name: str) -> TeleopStyle:
    """Return the operator's style of that name. Raises ``LookupError`` naming the nearest one."""
    if name not in STYLES:
        raise unknown_name("operator style", name, STYLES)
    return STYLES[name]


def record_demonstrations(
    folder: Path, config: RecordConfig, *, num_envs: int = 8, reporter: Reporter | None = None
) -> RecordReport:
    """Write successful demonstrations of the scripted operator to ``folder``; a finished recording is kept.

    Initial states go into a sidecar of the dataset. Raises ``ValueError`` in one line before anything is recorded if
    ``folder`` holds something else.
    """
    inputs = asdict(config)
    done = finished_report(folder, inputs=inputs)
    if done is not None:
        return RecordReport(**done)
    the_task = task(config.task)
    attempts = _ATTEMPTS_PER_DEMONSTRATION * config.count + 10
    states = the_task.fixed_states(attempts, seed=config.seed, prefix="record", objects=config.objects)
    operator = Operator(the_task, num_envs=num_envs, seed=config.seed, style=config.style)
    keeper = Keeper(count=config.count)
    with make_world(
        config.task,
        domain=config.domain,
        reality=config.reality,
        num_envs=num_envs,
        seed=config.seed,
        image_size=config.image_size,
    ) as world:
        kept = (episode for _, episode in keeper.successes(record(world, operator, states), reporter or Silent()))
        write_dataset(
            folder,
            kept,
            fps=round(the_task.control_hz),
            robot_type=f"panda-{config.domain}",
            sidecar=True,
            finish=lambda root: write_manifest(root, inputs=inputs, outputs=asdict(_report(keeper))),
        )
    return _report(keeper)


def _report(keeper: Keeper) -> RecordReport:
    return RecordReport(
        count=keeper.count,
        attempts=keeper.attempts,
        success_rate=keeper.success_rate,
        mean_length=keeper.mean_length,
        rejected=dict(keeper.rejected),
        lost=keeper.lost,
        success_rate_by_label=keeper.success_rate_by_label,
    )
