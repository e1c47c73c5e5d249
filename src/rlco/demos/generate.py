"""Generate demonstrations in the twin from real seeds (MimicGen-style, free space pruned)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlco.core.episode import Episode
from rlco.core.files import fingerprint, write_manifest
from rlco.core.progress import Reporter, Silent
from rlco.core.rng import numpy_generator, seed_of
from rlco.core.scene import InitialState
from rlco.data.reader import Dataset
from rlco.data.writer import DatasetWriter
from rlco.demos.attempt import Attempt
from rlco.demos.attempts import Attempts, Limits, SlotResult
from rlco.demos.keep import finished_report
from rlco.demos.layouts import Layouts, cell
from rlco.demos.plan import PlanConfig
from rlco.demos.replay import steps_for
from rlco.demos.segments import Segment, read_segments, write_segments
from rlco.demos.sources import Seeds, known_states, seeds_of
from rlco.demos.tally import Tally
from rlco.tasks import Task, task, task_fingerprint
from rlco.worlds.make import make_world

_HOPELESS_ATTEMPTS = 60
_HOPELESS_RATE = 0.05
"""Fewer successes than this share of at least so many attempts: the seeds do not fit the twin, give up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateReport:
    """What generation did; also in the dataset's manifest."""

    count: int
    attempts: int
    """In all slots up to that of the last kept demonstration."""
    success_rate: float
    replay_success_rate: float
    """Share of the real demonstrations whose actions alone succeed in the twin."""
    replay_failures: dict[str, str]
    """Seed episode -> why its replay failed."""
    sources: int
    """Real demonstrations that are used."""
    unused: dict[str, str]
    """Seed episode -> why it is not used although its replay succeeded."""
    mean_length: float
    """Control steps of a kept demonstration."""
    mean_pruned: float
    """Control steps that were left out of a seed."""
    simulated_steps: int
    """Control steps of all attempts."""
    rejected: dict[str, int]
    """Reason -> attempts."""
    given_up: int
    """Layouts in which no attempt succeeded; others took their place."""
    lost: int
    """Attempts that were made again because their worker died."""
    success_rate_by_label: dict[str, float]
    """Such as ``place=left`` -> share of the attempts there that succeed."""
    labels: dict[str, dict[str, Any]]
    """The same with attempts, kept, given_up and rejected by reason."""
    cells: dict[str, dict[str, Any]]
    """Of every combination of labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig:
    """What is generated. Everything here changes the result; how many environments run does not."""

    task: str
    objects: tuple[str, ...] | None = None
    """Of the objects in the twin; None: all."""
    count: int = 300
    """Successful demonstrations."""
    seed: int = 0
    image_size: int = 96
    plan: PlanConfig = field(default_factory=PlanConfig)
    stable_steps: int = 3
    """Further control steps for which the goal must be met; they are not recorded."""
    attempts_per_layout: int = 6
    """Attempts in one layout before another one takes its place."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"GenerateConfig.count must be 1 or more, got {self.count}.")
        if self.stable_steps < 0 or self.attempts_per_layout < 1:
            raise ValueError(f"GenerateConfig needs stable_steps >= 0 and attempts_per_layout >= 1, got {self}.")


def generate_demonstrations(
    folder: Path,
    demonstrations: Dataset,
    config: GenerateConfig,
    *,
    num_envs: int = 16,
    num_workers: int | None = None,
    reporter: Reporter | None = None,
) -> GenerateReport:
    """Write demonstrations generated in the twin from real ones to ``folder``; a finished dataset is kept.

    An interrupted generation goes on where it was. The same seed gives the same demonstrations on any number of
    environments and workers. Raises ``ValueError`` in one line if ``demonstrations`` cannot be replayed, does not fit
    the twin, or ``folder`` holds something else.
    """
    the_task = task(config.task)
    segments = read_segments(demonstrations.folder, the_task, lengths=[len(span) for span in demonstrations.episodes])
    states = [None if state is None else state.to_json() for state in demonstrations.initial_states]
    inputs = {
        "demonstrations": demonstrations.fingerprint,
        "initial_states": fingerprint(states),
        "segments": _name(segments),
        "scene": task_fingerprint(config.task),
        **asdict(config),
    }
    done = finished_report(folder, inputs=inputs)
    if done is not None:
        return GenerateReport(**done)
    known_states(the_task, demonstrations)
    layouts = Layouts.of(the_task, config.count, seed=config.seed, objects=config.objects)
    writer = DatasetWriter(
        folder, fps=round(the_task.control_hz), robot_type="panda-twin", inputs=_plain(inputs), sidecar=True
    )
    with writer, _twin(config, demonstrations, num_envs=num_envs, num_workers=num_workers) as world:
        seeds = seeds_of(world, the_task, demonstrations, window=config.plan.window, segments=segments)
        generation = _Generation(config, seeds, layouts)
        generation.run(world, writer, reporter or Silent())
        report = generation.report()
        writer.finish(lambda root: write_manifest(root, inputs=inputs, outputs=asdict(report)))
    return report


def propose_segments(demonstrations: Dataset, config: GenerateConfig, *, num_envs: int = 16) -> Path:
    """Replay the demonstrations and write where their stages are into a file beside them, to be corrected by hand.

    Return its path. Raises ``ValueError`` if there is one already, or the demonstrations cannot be replayed.
    """
    the_task = task(config.task)
    lengths = [len(span) for span in demonstrations.episodes]
    if read_segments(demonstrations.folder, the_task, lengths=lengths) is not None:
        return write_segments(demonstrations.folder, the_task, [])  # refuses
    with _twin(config, demonstrations, num_envs=num_envs, num_workers=None) as world:
        seeds = seeds_of(world, the_task, demonstrations, window=config.plan.window)
    # the twin may take some steps after the last action: they are not the demonstration's
    found = [None if its is None else _within(its, length) for its, length in zip(seeds.segments, lengths, strict=True)]
    return write_segments(demonstrations.folder, the_task, found)


def _within(segments: tuple[Segment, ...], length: int) -> tuple[Segment, ...] | None:
    cut = tuple(replace(segment, end=min(segment.end, length)) for segment in segments)
    return cut if all(segment.start < segment.end for segment in cut) else None


def _twin(config: GenerateConfig, demonstrations: Dataset, *, num_envs: int, num_workers: int | None) -> Any:  # noqa: ANN401
    lengths = [len(span) for span in demonstrations.episodes]
    return make_world(
        config.task,
        domain="twin",
        num_envs=num_envs,
        num_workers=num_workers,
        seed=config.seed,
        image_size=config.image_size,
        max_steps=steps_for(lengths, least=task(config.task).max_steps + config.stable_steps + 1),
        end_on_success=False,
    )


class _Generation:
    """One run of the generator, up to the wanted number of demonstrations."""

    def __init__(self, config: GenerateConfig, seeds: Seeds, layouts: Layouts) -> None:
        self._config, self._seeds, self._layouts = config, seeds, layouts
        self._task: Task = task(config.task)
        self._tally = Tally()

    def run(self, world: Any, writer: DatasetWriter, reporter: Reporter) -> None:  # noqa: ANN401
        """Fill ``writer`` up to the wanted number, from where an interrupted run was.

        Raises ``ValueError`` if the seeds do not fit the twin.
        """
        first = 0
        if writer.finished:
            extra = writer.finished[-1].extra
            assert extra is not None
            first, self._tally = extra["slot"] + 1, Tally.from_json(extra["tally"])
            reporter.reach(len(writer.finished), self._config.count)
        if writer.count >= self._config.count:
            return
        limits = Limits(
            max_steps=self._task.max_steps,
            stable_steps=self._config.stable_steps,
            attempts_per_layout=self._config.attempts_per_layout,
        )
        attempts = Attempts(world, self._layouts, begin=self._begin, limits=limits)
        for result, episode in self._kept(attempts.run(first)):
            extra = {"slot": result.slot, "tally": self._tally.to_json()}
            writer.add(episode, provenance=self._provenance(result), extra=extra)
            reporter.reach(writer.count, self._config.count)
            if writer.count == self._config.count:
                return
        raise ValueError(self._hopeless(writer.count))

    def _kept(self, results: Iterator[SlotResult]) -> Iterator[tuple[SlotResult, Episode]]:
        """Count every result; yield those with a demonstration. Ends early where there is no hope."""
        for result in results:
            for tried in result.tried:
                self._tally.attempt(tried.initial, None if tried.reject is None else tried.reject.value)
                self._tally.simulated_steps += tried.steps
            self._tally.lost += result.lost
            if result.episode is not None:
                assert result.attempt is not None
                self._tally.steps += len(result.episode)
                labels = np.stack(result.attempt.labels[: len(result.episode)])
                yield (
                    result,
                    replace(result.episode, action=labels) if self._config.plan.clean_label else result.episode,
                )
            else:
                self._tally.give_up(self._layouts.slots[result.slot])
                total = self._tally.total
                if total.attempts >= _HOPELESS_ATTEMPTS and total.kept < _HOPELESS_RATE * total.attempts:
                    return

    def _begin(self, initial: InitialState, slot: int, number: int) -> Attempt:
        rng = numpy_generator(self._config.seed, "generate", slot, number)
        return Attempt(self._task, initial, self._seeds.seeds, self._config.plan, rng)

    def _provenance(self, result: SlotResult) -> dict[str, Any]:
        assert result.attempt is not None
        number = len(result.tried) - 1
        return {
            "slot": result.slot,
            "attempt": number,
            "cell": cell(self._layouts.slots[result.slot]),
            "cell_attempts": self._tally.by_cell[cell(self._layouts.slots[result.slot])].attempts,
            "noise_seed": seed_of(self._config.seed, "generate", result.slot, number),
            "stages": result.attempt.stages,
        }

    def _hopeless(self, count: int) -> str:
        total = self._tally.total
        return (
            f"Only {count} of {self._config.count} demonstrations after {total.attempts} attempts "
            f"(rejected: {dict(total.rejected)}, layouts given up: {total.given_up}): the seeds do not fit the twin."
        )

    def report(self) -> GenerateReport:
        """Return what was done so far."""
        tally, seeds = self._tally, self._seeds
        total = tally.total
        labels = {name: its.to_json() for name, its in sorted(tally.by_label.items())}
        return GenerateReport(
            count=total.kept,
            attempts=total.attempts,
            success_rate=total.kept / max(total.attempts, 1),
            replay_success_rate=seeds.success_rate,
            replay_failures=seeds.failed,
            sources=len(seeds.seeds),
            unused=seeds.unused,
            mean_length=tally.steps / max(total.kept, 1),
            mean_pruned=sum(seed.pruned for seed in seeds.seeds) / len(seeds.seeds),
            simulated_steps=tally.simulated_steps,
            rejected=dict(sorted(total.rejected.items())),
            given_up=total.given_up,
            lost=tally.lost,
            success_rate_by_label={name: its["success_rate"] for name, its in labels.items()},
            labels=labels,
            cells={name: its.to_json() for name, its in sorted(tally.by_cell.items())},
        )


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Return JSON values: tuples as lists."""
    return json.loads(json.dumps(value))


def _name(segments: list[tuple[Segment, ...] | None] | None) -> str | None:
    """Return a name of hand-made segments, None without."""
    if segments is None:
        return None
    return fingerprint([None if its is None else [asdict(segment) for segment in its] for its in segments])
