"""Everything that decides the result of a run, resolved."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rlco.data.mixture import require_alpha
from rlco.demos.plan import PlanConfig
from rlco.evals.suite import EvaluationSettings
from rlco.policies import families
from rlco.train.rl import RLConfig
from rlco.train.sft import SFTConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """The main job for one task, one policy and one draw of the stand-in."""

    task: str
    base: str = "pi05-nano"
    """The shipped pretrained base that every method starts from."""
    family: str | None = None
    """A base of another family is refused; None: any."""
    horizon: int | None = None
    """Predicted control steps: a base with others is refused; None: any."""
    reality: int = 0
    """Which hidden draw of the stand-in."""
    real_objects: tuple[str, ...] | None = None
    """Of the objects that exist where real demonstrations are recorded; None: all."""
    real_demonstrations: int = 50
    sim_demonstrations: int = 300
    plan: PlanConfig = field(default_factory=PlanConfig)
    image_size: int = 96
    alpha: float = 0.5
    """Probability that a sample of Stage I is simulated (eq. 7)."""
    real_only: SFTConfig = field(default_factory=SFTConfig)
    cotraining: SFTConfig = field(default_factory=SFTConfig)
    """Stage I."""
    rl: RLConfig = field(default_factory=RLConfig)
    """Stage II."""
    without_real_term: bool = False
    """Also run Stage II with beta = 0: what the real term is worth."""
    num_states: int = 150
    """Named initial states of the evaluation."""
    repeats: int = 2
    """Episodes on each of them."""
    twin_repeats: int | None = None
    """In the twin, where every method is nearly sure; None: as many."""
    num_envs: int = 24
    """For recording, generation and evaluation; changes no episode's draws, and its figures by rounding only."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_alpha(self.alpha)
        if self.family is not None:
            families.family(self.family)
        for name in ("real_demonstrations", "sim_demonstrations", "num_states", "repeats", "twin_repeats", "num_envs"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ValueError(f"RunConfig.{name} must be 1 or more, got {count}.")

    def evaluation(self, domain: str) -> EvaluationSettings:
        """Return the protocol in one world."""
        in_twin = self.repeats if self.twin_repeats is None else self.twin_repeats
        return EvaluationSettings(
            task=self.task,
            domain=domain,
            reality=self.reality,
            image_size=self.image_size,
            num_envs=self.num_envs,
            repeats=in_twin if domain == "twin" else self.repeats,
            seed=self.seed,
        )

    def with_seed(self, seed: int) -> RunConfig:
        """Return the same run under another seed, in every stage."""
        return replace(
            self,
            seed=seed,
            real_only=replace(self.real_only, seed=seed),
            cotraining=replace(self.cotraining, seed=seed),
            rl=replace(self.rl, seed=seed),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)
