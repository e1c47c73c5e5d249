"""Training stages and evaluation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from rlco.evals.report_endings import endings_lines
from rlco.evals.report_text import percent
from rlco.evals.suite import EvaluationSettings, States
from rlco.recipes import stages
from rlco.recipes.references import policy_config
from rlco.recipes.stages import Demonstrations, Figures
from rlco.train.checkpoints import KEEP
from rlco.train.pretrain import PretrainConfig
from rlco.train.rl import RLConfig
from rlco.train.sft import SFTConfig

Flat = tyro.conf.OmitArgPrefixes
"""The configuration's fields are flags of their own: --steps, not --config.steps."""


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Arguments of ``rlco pretrain``."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where pictures, checkpoints and the base (in policy/) are kept."""
    config: Flat[PretrainConfig]

    def run(self) -> None:
        """See the overview."""
        show(stages.pretrain(self.folder, self.config))


@dataclass(frozen=True, kw_only=True)
class Sft:
    """Arguments of ``rlco sft``."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where checkpoints, metrics and the policy (in policy/) are kept."""
    start: Annotated[str, tyro.conf.arg(aliases=["--policy"])] = "pi05-nano"
    """The policy to start from: a shipped base by name, or a folder."""
    real: Path | None = None
    """Dataset of real demonstrations."""
    sim: Path | None = None
    """Dataset of simulated demonstrations."""
    alpha: float | None = None
    """Probability in [0, 1] that a sample is simulated; needed with both datasets."""
    data: tuple[Path, ...] = ()
    """Any number of datasets, instead of --real and --sim."""
    weights: tuple[float, ...] = ()
    """How often each dataset of --data is drawn."""
    keep: int = KEEP
    """Newest checkpoints that stay on disk."""
    config: Flat[tyro.conf.AvoidSubcommands[SFTConfig]]

    def run(self) -> None:
        """See the overview."""
        demonstrations = Demonstrations(
            real=self.real, sim=self.sim, alpha=self.alpha, data=self.data, weights=self.weights
        )
        show(
            stages.sft(self.folder, start=self.start, demonstrations=demonstrations, config=self.config, keep=self.keep)
        )


@dataclass(frozen=True, kw_only=True)
class Rl:
    """Arguments of ``rlco rl``."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Where checkpoints, metrics and the policy (in policy/) are kept."""
    start: Annotated[str, tyro.conf.arg(aliases=["--policy"])]
    """The policy of Stage I: a folder, or a shipped base by name."""
    real: Path | None = None
    """Dataset of real demonstrations; needed unless beta is 0."""
    task: str = "push-cube"
    keep: int = KEEP
    """Newest checkpoints that stay on disk; the best one stays too."""
    config: Flat[RLConfig]

    def run(self) -> None:
        """See the overview."""
        arguments = {"start": self.start, "real": self.real, "task_name": self.task}
        show(stages.rl(self.folder, **arguments, config=self.config, keep=self.keep))


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Arguments of ``rlco eval``."""

    policy: Annotated[str, tyro.conf.Positional]
    """A policy's folder, or a shipped base by name."""
    folder: Path
    """Where the outcome of every episode is written."""
    task: str = "push-cube"
    domain: str = "standin"
    """World: standin, twin or robot."""
    reality: int = 0
    """Which hidden draw of the stand-in."""
    num_states: int = 150
    """Named initial states; the first ones of one fixed list."""
    repeats: int = 2
    """Episodes on each initial state."""
    states: States = "eval"
    """Which fixed list: eval is reported; choose settings on dev, none of whose states is in the other."""
    shift: str | None = None
    """Draw the initial states under a distribution shift; ``rlco tasks`` lists those of each task."""
    temperature: float | None = None
    """OpenVLA: draw tokens at it; 0 takes the likeliest. None: the policy's own (0.6 where nothing else was said)."""
    image_size: int | None = None
    """Height and width of a picture [pixels]. None: the policy's own."""
    num_envs: int = 8
    """Environments side by side; changes figures by rounding only."""
    device: str = "cpu"
    """Where the policy runs: cpu, cuda or cuda:N; changes figures by rounding only."""
    seed: int = 0
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """See the overview."""
        settings = EvaluationSettings(
            task=self.task,
            domain=self.domain,
            reality=self.reality,
            image_size=policy_config(self.policy).image_size if self.image_size is None else self.image_size,
            num_envs=self.num_envs,
            repeats=self.repeats,
            seed=self.seed,
            shift=self.shift,
            temperature=self.temperature,
            states=self.states,
        )
        result = stages.evaluation(
            self.folder,
            name=self.policy,
            policy=self.policy,
            settings=settings,
            num_states=self.num_states,
            device=self.device,
        )
        rate = result.rate()
        if self.json:
            counts = {"episodes": len(result.outcomes), "lost": result.num_lost}
            show({**asdict(rate), **counts, "endings": result.endings})
            return
        interval = f"95 % interval {percent(rate.low)} to {percent(rate.high)}"
        print(f"success {percent(rate.value)}, {interval}, {len(result.outcomes)} episodes, {result.num_lost} lost")
        print("\n".join(endings_lines(result)))


def show(figures: Figures) -> None:
    """Print JSON."""
    print(json.dumps(figures, indent=2))
