"""How a policy comes about: the methods that tables compare, each a stage of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from rlco.core.files import read_manifest
from rlco.core.rng import seed_of
from rlco.evals.outcome import EvaluationResult
from rlco.recipes import stages
from rlco.recipes.config import RunConfig
from rlco.recipes.references import POLICY
from rlco.recipes.stages import Demonstrations
from rlco.train.rl import RLConfig
from rlco.train.sft import SFTConfig

STANDIN, TWIN = "standin", "twin"
StageConfig = TypeVar("StageConfig", SFTConfig, RLConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Where a policy is evaluated."""

    domain: str = STANDIN
    shift: str | None = None
    """The distribution shift of the initial states."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One run folder."""

    folder: Path
    config: RunConfig
    device: str = "cpu"
    """Where policies learn and are evaluated; another one changes figures by rounding only."""

    @property
    def real(self) -> Path:
        """Folder of the real demonstrations."""
        return self.folder / "record"

    @property
    def sim(self) -> Path:
        """Folder of the generated demonstrations."""
        return self.folder / "generate"

    def placed(self, config: StageConfig) -> StageConfig:
        """Return a stage's configuration on the run's device."""
        return replace(config, compute=replace(config.compute, device=self.device))

    def policy(self, method: Method | None) -> str | Path:
        """Return what a stage starts from: another method's policy; None: the base."""
        return self.config.base if method is None else self.folder / method.stage / POLICY


@runtime_checkable
class Method(Protocol):
    """One row of a table."""

    @property
    def stage(self) -> str:
        """Folder of its stage in the run."""
        ...

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def needs(self) -> tuple[Method, ...]:
        """Methods that are trained before."""
        ...

    def train(self, run: Run) -> object:
        """Train it, from what the run folder holds."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Supervised:
    """Supervised fine-tuning of the base."""

    stage: str
    name: str
    data: Callable[[Run], Demonstrations]
    config: Callable[[RunConfig], SFTConfig]

    @property
    def needs(self) -> tuple[Method, ...]:
        """Nothing but demonstrations."""
        return ()

    def train(self, run: Run) -> object:
        """Fine-tune."""
        return stages.sft(
            run.folder / self.stage,
            start=run.policy(None),
            demonstrations=self.data(run),
            config=run.placed(self.config(run.config)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Reinforced:
    """Stage II from another method's policy; the real term is there where beta is above 0."""

    stage: str
    name: str
    after: Method
    config: Callable[[RLConfig], RLConfig] = lambda rl: rl
    """How it differs from the job's Stage II."""

    @property
    def needs(self) -> tuple[Method, ...]:
        """Return the method that it goes on from."""
        return (self.after,)

    def train(self, run: Run) -> object:
        """Reinforce."""
        config = self.config(run.config.rl)
        return stages.rl(
            run.folder / self.stage,
            start=run.policy(self.after),
            real=run.real if config.beta > 0 else None,
            task_name=run.config.task,
            config=run.placed(config),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Continued:
    """Stage I continued for as many gradient samples as a Stage II used: the compute-matched control."""

    stage: str
    name: str
    after: Supervised
    matched: Reinforced

    @property
    def needs(self) -> tuple[Method, ...]:
        """Return what it goes on from and what it is matched to."""
        return (self.after, self.matched)

    def train(self, run: Run) -> object:
        """Continue."""
        manifest = read_manifest(run.folder / self.matched.stage)
        assert manifest is not None, "the matched stage is trained before"
        before = self.after.config(run.config)
        steps = -(-manifest["outputs"]["gradient_samples"] // before.batch_size)
        # a seed of its own: Stage I goes on with new draws, it does not see its first ones again
        config = replace(before, steps=steps, seed=seed_of(before.seed, "control"))
        return stages.sft(
            run.folder / self.stage,
            start=run.policy(self.after),
            demonstrations=self.after.data(run),
            config=run.placed(config),
        )


def real_data(run: Run) -> Demonstrations:
    """Return the real demonstrations alone."""
    return Demonstrations(real=run.real)


def both(run: Run) -> Demonstrations:
    """Return the mixture of Stage I (eq. 7)."""
    return Demonstrations(real=run.real, sim=run.sim, alpha=run.config.alpha)


REAL_ONLY = Supervised(stage="sft-real", name="real-only SFT", data=real_data, config=lambda job: job.real_only)
COTRAINING = Supervised(stage="sft-cotrain", name="SFT co-training", data=both, config=lambda job: job.cotraining)
RLCO = Reinforced(stage="rl", name="RL-Co", after=COTRAINING)
CONTROL = Continued(stage="sft-control", name="compute-matched SFT", after=COTRAINING, matched=RLCO)
NO_REAL_TERM = Reinforced(
    stage="rl-no-real-term",
    name="RL without the real term",
    after=COTRAINING,
    config=lambda rl: replace(rl, beta=0.0),
)


def evaluate(run: Run, method: Method, world: World) -> EvaluationResult:
    """Evaluate a trained method on the fixed list of initial states; a finished evaluation is kept."""
    return stages.evaluation(
        run.folder / evaluation_folder(method.stage, world),
        name=method.name,
        policy=run.policy(method),
        settings=replace(run.config.evaluation(world.domain), shift=world.shift),
        num_states=run.config.num_states,
        device=run.device,
    )


def evaluation_folder(stage: str, world: World) -> str:
    """Return where in a run a stage's evaluation is. A run's report reads those without a shift."""
    if world.shift is None:
        return f"eval/{stage}-{world.domain}"
    return f"shifts/{stage}-{world.domain}-{world.shift}"


METHODS: tuple[Method, ...] = (REAL_ONLY, COTRAINING, CONTROL, NO_REAL_TERM, RLCO)
"""In the order of tables."""


def in_order(methods: tuple[Method, ...]) -> tuple[Method, ...]:
    """Return the methods and what they need, each after what it needs."""
    ordered: dict[str, Method] = {}
    for method in methods:
        for needed in (*in_order(method.needs), method):
            ordered.setdefault(needed.stage, needed)
    return tuple(ordered.values())
