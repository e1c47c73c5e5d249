"""Single stages: files in, files out. A finished stage of the same inputs is kept, an interrupted one resumes."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlco.core.files import exclusive, is_finished, read_manifest, require_writable, write_manifest
from rlco.core.policy import FRONT
from rlco.core.progress import progress
from rlco.core.rng import numpy_generator
from rlco.core.scene import InitialState
from rlco.data.augment import ColourJitter
from rlco.data.chunks import ChunkDataset
from rlco.data.mixture import Mixture, require_alpha
from rlco.data.reader import Dataset
from rlco.evals.outcome import EvaluationResult
from rlco.evals.suite import EvaluationSettings, evaluate
from rlco.policies.checkpoint import save_policy
from rlco.policies.contract import AnyPolicy, Preprocessor
from rlco.policies.families import PolicyConfig
from rlco.policies.interface import CONTROL_HZ
from rlco.recipes.dump import replayable
from rlco.recipes.references import POLICY, open_policy, policy_config, policy_preprocessor, weights_fingerprint
from rlco.rollout.collect import Collector
from rlco.rollout.groups import GroupCollector
from rlco.rollout.steady import SteadyCollector
from rlco.tasks import task, task_fingerprint
from rlco.train.checkpoints import KEEP, require_keep
from rlco.train.clipping import clipped_line, clipped_shares
from rlco.train.compute import identity, require_device
from rlco.train.fits import require_fits
from rlco.train.memory import Load
from rlco.train.pretrain import PretrainConfig, run_pretrain
from rlco.train.real_term import RealTerm
from rlco.train.rl import RLConfig, StageTwo, run_rl
from rlco.train.sft import SFTConfig, run_sft
from rlco.worlds.make import make_world
from rlco.worlds.world import World

RESULT = "result.json"
"""The file of an evaluation."""
PROBED_STARTS = 100
"""Starts of a task whose instructions are tried on a policy before it plays."""
_YOUNGER_SETTINGS = (("shift", None), ("temperature", None), ("states", "eval"))
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstrations:
    """What supervised training learns from: real and simulated sets mixed by alpha, or any sets with their weights."""

    real: Path | None = None
    sim: Path | None = None
    alpha: float | None = None
    """Probability that a sample is simulated; needed where both sets are given."""
    data: tuple[Path, ...] = ()
    """Any number of sets, instead of ``real`` and ``sim``."""
    weights: tuple[float, ...] = ()
    """How often each of ``data`` is drawn; divided by their sum."""

    def __post_init__(self) -> None:
        if self.data:
            self._check_weights()
            return
        if self.weights:
            raise ValueError("weights belong to data; real and simulated demonstrations are mixed by alpha.")
        if self.real is None and self.sim is None:
            raise ValueError("Supervised training needs demonstrations: real ones, simulated ones or both.")
        if (self.alpha is None) == (self.real is not None and self.sim is not None):
            raise ValueError("alpha is given exactly when there are both real and simulated demonstrations.")
        if self.alpha is not None:
            require_alpha(self.alpha)

    def _check_weights(self) -> None:
        if self.real is not None or self.sim is not None or self.alpha is not None:
            raise ValueError("Give either data with weights, or real and simulated demonstrations with alpha.")
        if len(self.weights) != len(self.data) or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ValueError(
                f"{len(self.data)} datasets need as many weights, none below 0, not all 0; got {list(self.weights)}."
            )

    def open(self) -> tuple[list[Dataset], list[float]]:
        """Return the datasets, simulated first, and how often each is drawn."""
        if self.data:
            return [_opened(folder) for folder in self.data], [w / sum(self.weights) for w in self.weights]
        folders = [folder for folder in (self.sim, self.real) if folder is not None]
        weights = [1.0] if self.alpha is None else [self.alpha, 1.0 - self.alpha]
        return [_opened(folder) for folder in folders], weights


def _opened(folder: Path) -> Dataset:
    """Return the dataset. Raises ``ValueError`` if its rate is not the one at which policies act."""
    return Dataset.open(folder, control_hz=CONTROL_HZ)


def data_prompt_tokens(policy: Preprocessor, datasets: Sequence[Dataset]) -> int:
    """Return the tokens of the longest prompt.

    Raises ``ValueError`` in one line where the policy cannot be trained on a dataset: before anything is decoded.
    """
    most = 0
    for dataset in datasets:
        source = f"the dataset '{dataset.folder}'"
        policy.require_cameras([FRONT], source=source)  # a dataset in our form has this camera only
        try:
            most = max(most, policy.prompt_tokens(episode.task for episode in dataset.episodes))
        except ValueError as error:
            raise ValueError(f"In {source}: {error}") from error
    return most


def world_prompt_tokens(policy: Preprocessor, states: Sequence[InitialState]) -> int:
    """Return the tokens of the longest prompt.

    Raises ``ValueError`` in one line where the policy cannot act in a world: before the world is started.
    """
    policy.require_cameras([FRONT], source="the world")
    return policy.prompt_tokens(state.instruction for state in states)


@replayable
def sft(
    folder: Path, *, start: str | Path, demonstrations: Demonstrations, config: SFTConfig, keep: int = KEEP
) -> Figures:
    """Fine-tune ``start`` on demonstrations; the policy is in ``folder/policy``. ``keep``: checkpoints on disk."""
    require_keep(keep)
    datasets, weights = demonstrations.open()
    size = policy_config(start)
    config = config.for_policy(size)
    inputs = {
        "start": weights_fingerprint(start),
        "datasets": [d.fingerprint for d in datasets],
        "weights": weights,
        "config": identity(config, size),
    }
    kept = finished(folder, inputs=inputs)
    if kept is not None:
        return kept
    prompt_tokens = data_prompt_tokens(policy_preprocessor(start), datasets)
    require_fits("sft", sft_load(size, config, prompt_tokens))
    policy = open_policy(start)
    mixture = Mixture(datasets, weights, horizon=policy.horizon, batch_size=config.batch_size, seed=config.seed)
    clipped = _told_clipped(policy, datasets, weights)
    with exclusive(folder), progress(f"sft {folder.name}", total=config.steps) as bar:
        figures = run_sft(policy, mixture, config, folder=folder, inputs=inputs, progress=bar.reach, keep=keep)
    figures |= {"gradient_samples": config.steps * config.batch_size, "sft/clipped": clipped}
    return finish(folder, policy, inputs=inputs, figures=figures)


def _told_clipped(policy: AnyPolicy, datasets: Sequence[Dataset], weights: Sequence[float]) -> float:
    """Return the share of demonstrated numbers that ``policy`` is taught the nearest of instead; say it, if any."""
    shares = clipped_shares(policy, [dataset.action for dataset in datasets], weights)
    if line := clipped_line(shares):
        print(line, file=sys.stderr)
    return float(shares.mean())


def sft_load(policy: PolicyConfig, config: SFTConfig, prompt_tokens: int) -> Load:
    """Return what a step of supervised training computes and keeps."""
    return Load(
        policy=policy,
        trainable=config.part,
        compute=config.compute,
        samples=config.batch_size,
        prompt_tokens=prompt_tokens,
        ema=config.ema > 0,
    )


@replayable
def rl(
    folder: Path, *, start: str | Path, real: Path | None, task_name: str, config: RLConfig, keep: int = KEEP
) -> Figures:
    """Run Stage II from ``start`` in the twin; the policy is in ``folder/policy``. ``real`` is for beta above 0."""
    require_keep(keep)
    if (real is None) != (config.beta == 0):
        raise ValueError(f"beta is {config.beta:g}, but real demonstrations were {'not ' * (real is None)}given.")
    dataset = _opened(real) if real is not None else None
    size = policy_config(start)
    config = config.for_policy(size)
    inputs = {
        "start": weights_fingerprint(start),
        "real": dataset.fingerprint if dataset else None,
        "task": task(task_name).name,
        "scene": task_fingerprint(task_name),
        "config": identity(config, size),
    }
    kept = finished(folder, inputs=inputs)
    if kept is not None:
        return kept
    require_whole_episodes(task_name, size, config)
    preprocessor, most = policy_preprocessor(start), 0
    if dataset is not None:
        most = data_prompt_tokens(preprocessor, [dataset])
    starts = task(task_name).fixed_states(PROBED_STARTS, seed=config.seed, prefix="prompt")
    most = max(most, world_prompt_tokens(preprocessor, starts))
    require_fits("rl", rl_load(size, dataset, config, most))
    policy = open_policy(start)
    clipped = {} if dataset is None else {"rl/clipped": _told_clipped(policy, [dataset], [1.0])}
    config.prepare(policy)
    with make_world(
        task_name,
        domain="twin",
        num_envs=config.num_envs,
        seed=config.seed,
        reward=config.reward,
        # a dense reward pays for every step: if success ended it, the best policy would be one that never succeeds
        end_on_success=config.reward == "sparse",
        image_size=policy.config.image_size,
        random_look=config.random_look,
    ) as world:
        stage = StageTwo(policy, collector(world, config), real_term(policy, dataset, config), config)
        with exclusive(folder), progress(f"rl {folder.name}", total=config.iterations, unit="iteration") as bar:
            figures = run_rl(stage, folder=folder, inputs=inputs, progress=bar.reach, keep=keep)
    figures = figures | clipped | {"gradient_samples": stage.gradient_samples}
    return finish(folder, policy, inputs=inputs, figures=figures)


def require_whole_episodes(task_name: str, policy: PolicyConfig, config: RLConfig) -> None:
    """Raise ``ValueError`` where GRPO's iteration is shorter than an episode: before anything is loaded."""
    least = -(-task(task_name).max_steps // policy.executed)
    if config.algo == "grpo" and config.decisions < least:
        raise ValueError(
            f"GRPO plays whole episodes: {task_name} needs --decisions {least} or more (chunks of {policy.executed} "
            f"control steps), got {config.decisions}."
        )


def rl_load(policy: PolicyConfig, real: Dataset | None, config: RLConfig, prompt_tokens: int) -> Load:
    """Return what an update of Stage II computes and what the stage keeps."""
    return Load(
        policy=policy,
        exploration=config.exploration,
        trainable=config.part,
        compute=config.compute,
        samples=config.sft_batch_size if real is not None else 0,
        decisions=config.minibatch,
        envs=config.num_envs,
        experience=config.num_envs * config.decisions,
        real_frames=len(real.action) if real is not None else 0,
        prompt_tokens=prompt_tokens,
        ema=config.ema > 0,
    )


def collector(world: World, config: RLConfig) -> SteadyCollector:
    """Return what plays in the twin: episodes on and on, or for GRPO whole ones in groups from the same start."""
    if config.algo == "ppo":
        return SteadyCollector(Collector(world))

    def start(number: int) -> InitialState:
        return world.task.sample_initial_state(numpy_generator(config.seed, "group-start", number))

    return SteadyCollector(GroupCollector(world, group_size=config.group_size, starts=start))


def real_term(policy: AnyPolicy, dataset: Dataset | None, config: RLConfig) -> RealTerm | None:
    """Return the supervised term on real demonstrations, or None where there are none."""
    if dataset is None:
        return None
    return RealTerm(
        policy,
        ChunkDataset.of(dataset, horizon=policy.horizon),
        batch_size=config.sft_batch_size,
        jitter=ColourJitter(),
        seed=config.seed,
        cache_bytes=config.compute.prefix_cache_bytes,
    )


def fixed_list(settings: EvaluationSettings, num_states: int) -> list[InitialState]:
    """Return the named initial states that every method is evaluated on: the first of a list that never changes."""
    return task(settings.task).fixed_states(num_states, seed=0, prefix=settings.states, shift=settings.shift)


def evaluation(
    folder: Path, *, name: str, policy: str | Path, settings: EvaluationSettings, num_states: int, device: str = "cpu"
) -> EvaluationResult:
    """Evaluate ``policy``, called ``name`` in tables, on the task's fixed list; the answer is in ``folder``."""
    require_device("--device", device)
    inputs = {
        "policy": weights_fingerprint(policy),
        "name": name,
        # an evaluation without one of these keeps the identity that it had before there were any
        "settings": {k: v for k, v in asdict(settings).items() if k != "num_envs" and (k, v) not in _YOUNGER_SETTINGS},
        "num_states": num_states,
        "scene": task_fingerprint(settings.task),
    }
    if finished(folder, inputs=inputs) is not None:
        return EvaluationResult.load(folder / RESULT)
    states = fixed_list(settings, num_states)
    world_prompt_tokens(policy_preprocessor(policy), states)
    opened = open_policy(policy)
    if settings.temperature is not None:
        opened = opened.at_temperature(settings.temperature)
    opened.to(device).eval()
    total = num_states * settings.repeats
    with progress(f"eval {name} in the {settings.domain}", total=total, unit="episode") as bar:
        result = evaluate(
            opened, name=name, settings=settings, initial_states=states, make_world=make_world, reporter=bar
        )
    result.save(folder / RESULT)
    write_manifest(folder, inputs=inputs, outputs={"episodes": len(result.outcomes), "lost": result.num_lost})
    return result


@replayable
def pretrain(folder: Path, config: PretrainConfig) -> Figures:
    """Make the base that every method starts from; it is in ``folder/policy``, in 16-bit floats."""
    inputs = config.identity()
    kept = finished(folder, inputs=inputs)
    if kept is not None:
        return kept
    with exclusive(folder), progress("pretrain", total=config.looks) as bar:
        policy, figures = run_pretrain(config, folder=folder, progress=bar.reach)
    return finish(folder, policy, inputs=inputs, figures=figures, half=True)


def finished(folder: Path, *, inputs: Figures) -> Figures | None:
    """Return the figures of a finished stage of these inputs, or None. Raises ``ValueError`` for another one's."""
    require_writable(folder.parent)
    if not is_finished(folder, inputs=inputs):
        return None
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest["outputs"]


def finish(folder: Path, policy: AnyPolicy, *, inputs: Figures, figures: Figures, half: bool = False) -> Figures:
    """Keep the trained policy, then mark the stage finished; a figure that is not finite is left out."""
    outputs = {name: value for name, value in figures.items() if math.isfinite(value)}
    save_policy(folder / POLICY, policy, provenance={**inputs, **outputs}, half=half)
    write_manifest(folder, inputs=inputs, outputs=outputs)
    return outputs
