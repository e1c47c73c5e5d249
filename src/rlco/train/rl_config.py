"""Everything that decides Stage II."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from rlco.algos.flow import TrustRegion
from rlco.algos.gae import DiscountPer
from rlco.policies.contract import AnyPolicy, Trainable
from rlco.policies.exploration import Exploration
from rlco.policies.families import PolicyConfig, family
from rlco.train.beta import BetaControl
from rlco.train.compute import ComputeConfig, require_trainable
from rlco.train.ema import require_decay
from rlco.train.schedule import Schedule, learning_rate, require_schedule

Algorithm = Literal["ppo", "grpo"]
_POSITIVE = (
    *("iterations", "num_envs", "decisions", "epochs", "minibatch", "sft_batch_size", "save_every"),
    *("lr", "value_lr", "value_clip", "value_huber", "clip_grad"),
)
_CHOICES = {
    "algo": get_args(Algorithm),
    "discount_per": get_args(DiscountPer),
    "reward": ("sparse", "dense"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class RLConfig:
    """Stage II. One decision is one executed action chunk."""

    iterations: int = 40
    num_envs: int = 64
    decisions: int = 12
    """Per environment and iteration. GRPO plays as many whole episodes as fit in."""
    trainable: Trainable | None = None
    """What learns: everything, the action expert (of a token policy the language model), or adapters; the heads of
    reinforcement learning always do. None: adapters for the released sizes, the expert for small ones."""
    algo: Algorithm = "ppo"
    """ppo: a critic tells how much better than expected; grpo: the other episodes from the same start do."""
    group_size: int = 8
    """GRPO: episodes from the same start."""
    exploration: Exploration = field(default_factory=Exploration)
    """How actions are drawn and what the critic reads; what is another family's is refused."""
    beta: float = 1.0
    """Weight of the supervised loss on the real demonstrations, at first; 0 is plain RL."""
    beta_control: BetaControl = field(default_factory=BetaControl)
    sft_batch_size: int = 128
    """Real samples per update, whatever the PPO minibatch."""
    epochs: int = 2
    minibatch: int = 256
    clip: float | None = None
    """None: the default of the exploration's log-probability (0.2; 0.01 for a mean over steps and entries)."""
    value_clip: float = 0.2
    value_huber: float = 1.0
    """Error of the value beyond which its loss grows linearly (RL4VLA: 10)."""
    kl_stop: float | None = None
    """Leave an iteration's updates when a minibatch's KL estimate is above this. None: like ``clip`` (0.1; 2.5e-4)."""
    discount: float = 0.99
    discount_per: DiscountPer = "chunk"
    """Discount once a decision, or once for every control step that it lasted."""
    lam: float = 0.95
    entropy: float = 0.0
    """Weight of the entropy: of the tokens' distributions, or of a flow's steps where their deviation is learned."""
    lr: float = 1e-4
    lr_warmup: int = 0
    """Updates in which the policy's rate rises to ``lr``: Adam's first steps are as long as its rate everywhere."""
    lr_schedule: Schedule = "constant"
    """Of the policy's rate over the iterations; the critic's is constant."""
    lr_floor: float = 0.1
    """Share of ``lr`` that the cosine ends at."""
    ema: float = 0.0
    """Decay of the policy's moving average, which is then what is kept; 0 keeps the last weights."""
    ema_warmup: bool = True
    """Average over less in the first updates."""
    value_lr: float = 1e-3
    clip_grad: float = 1.0
    """Largest norm of the policy's gradient; the critic's is not cut."""
    critic_warmup: int = 1
    """First iterations in which only the critic learns; GRPO has none."""
    reward: Literal["sparse", "dense"] = "sparse"
    """``sparse``: an episode ends at success; ``dense``: it goes on to the clock, for success pays at every step."""
    random_look: bool = False
    """Domain randomisation: every episode in the twin has a lamp and a camera of its own (PPO)."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    save_every: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            _require(self, name, f"one of {', '.join(known)}", getattr(self, name) in known)
        self.beta_control.require(self.beta)
        require_trainable("RLConfig", self.trainable)
        require_schedule("RLConfig", self.lr_schedule, self.lr_floor)
        if self.ema:
            require_decay("RLConfig.ema", self.ema)
        _require(self, "lr_warmup", "0 or more", self.lr_warmup >= 0)
        _require(self, "entropy", "0 or more and finite", self.entropy >= 0 and math.isfinite(self.entropy))
        for name in _POSITIVE:
            _require(self, name, "above 0", getattr(self, name) > 0)
        for name in ("discount", "lam"):
            _require(self, name, "in [0, 1]", 0 <= getattr(self, name) <= 1)
        _require(self, "critic_warmup", "in [0, iterations]", 0 <= self.critic_warmup <= self.iterations)
        _require(self, "clip", "in (0, 1)", self.clip is None or 0 < self.clip < 1)
        _require(self, "kl_stop", "above 0", self.kl_stop is None or self.kl_stop > 0)
        _require_sense(self)

    def for_policy(self, policy: PolicyConfig) -> RLConfig:
        """Return the same with the values that are the policy's where None stands for them.

        Raises ``ValueError`` where an option is given that the policy does not read, or adapters where it has no place
        for them or they are not trained.
        """
        parts = family(policy.family).explores_by
        self.exploration.require_read(parts, family=policy.family)
        self.exploration.require_entropy_matters(self.entropy, parts)
        part = self.trainable or ("lora" if policy.is_large else "expert")
        return replace(self, trainable=part, compute=self.compute.for_policy(policy, part))

    @property
    def part(self) -> Trainable:
        """Return what learns, after ``for_policy``."""
        assert self.trainable is not None, "for_policy says what learns"
        return self.trainable

    def prepare(self, policy: AnyPolicy) -> None:
        """Bring ``policy`` to its device and into the form that it learns in, once, before ``StageTwo`` is made."""
        own = self.for_policy(policy.config)
        own.compute.prepare(policy, own.part)

    def trust_region(self, usual: TrustRegion) -> TrustRegion:
        """Return the clip range and the KL stop, as given or as ``usual`` for the policy's log-probability."""
        return TrustRegion(
            clip=usual.clip if self.clip is None else self.clip,
            kl_stop=usual.kl_stop if self.kl_stop is None else self.kl_stop,
        )

    @property
    def warmup_iterations(self) -> int:
        """Return the first iterations in which only the critic learns."""
        return self.critic_warmup if self.algo == "ppo" else 0

    def rate(self, update: int, *, iteration: int) -> float:
        """Return the policy's learning rate of its ``update`` (0-based) in ``iteration`` (0-based)."""
        learning = self.iterations - self.warmup_iterations
        return learning_rate(
            update,
            peak=self.lr,
            schedule=self.lr_schedule,
            progress=(iteration - self.warmup_iterations) / max(learning, 1),
            warmup_steps=self.lr_warmup,
            floor=self.lr_floor,
        )

    @property
    def gradient_samples(self) -> int:
        """Return how many samples give a gradient to the policy over the whole stage, at most.

        An early KL stop, and with GRPO what comes after an episode's end, make it fewer.
        """
        per_iteration = self.num_envs * self.decisions
        updates = -(-per_iteration // self.minibatch) * self.epochs
        real = updates * self.sft_batch_size if self.beta > 0 else 0
        return (self.iterations - self.warmup_iterations) * (per_iteration * self.epochs + real)


def _require_sense(config: RLConfig) -> None:
    """Refuse what would have no effect or could not run."""
    if config.algo == "grpo":
        config.exploration.require_critic_is_read()
        _require(config, "group_size", "2 or more", config.group_size >= 2)
        _require(config, "random_look", "off for grpo", not config.random_look)
        fits = config.num_envs % config.group_size == 0
        _require(config, "num_envs", f"a multiple of group_size {config.group_size} for grpo", fits)


def _require(config: RLConfig, name: str, range_: str, holds: bool) -> None:  # noqa: FBT001
    if not holds:
        raise ValueError(f"RLConfig.{name} must be {range_}, got {getattr(config, name)}.")
