"""pi0.5 as a policy: supervised loss, sampling, scoring. One prefix function and one expert function serve all three.

Letters: B batch, N flow copies, K denoising steps, H horizon, A padded action dimension, S state.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rlco.algos.flow import draw_time, flow_loss, interpolate, time_grid
from rlco.core.policy import Batch, Evaluation, Observation, Sample, Trace
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data.normalise import Codec
from rlco.policies.pi.config import PiConfig
from rlco.policies.pi.heads import NoiseHead, ValueHead
from rlco.policies.pi.inputs import Preprocessor
from rlco.policies.pi.network import PiNetwork, Prefix
from rlco.policies.pi.tokenizer import bin_rows, structured_bins
from rlco.policies.pi.walk import Walk, walk

Trainable = Literal["all", "expert"]
_PREFIX_KEYS = ("key", "value", "is_valid", "summary")


class PiPolicy(nn.Module):
    """See ``rlco.core.policy.Policy``."""

    def __init__(self, config: PiConfig, codec: Codec, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.codec = codec
        self.preprocessor = Preprocessor(config, codec)
        self.trainable: Trainable = "all"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PiNetwork(config)
            self.noise_head = NoiseHead(config)
            self.value_head = ValueHead(self.network.summary_dim, state_dim=STATE_DIM)
        with torch.no_grad():
            if config.vocabulary <= 1024:  # the built-in tokenizer
                self.network.embedding[bin_rows()] = structured_bins(config.language.width)
        # Noise is added only to what is executed: the rest is moved along the flow without it.
        counts = torch.zeros(config.horizon, config.model_action_dim, dtype=torch.bool)
        counts[: config.executed, :ACTION_DIM] = True
        self.stochastic = nn.Buffer(counts, persistent=False)

    @property
    def horizon(self) -> int:
        """Return H, the predicted control steps."""
        return self.config.horizon

    @property
    def executed(self) -> int:
        """Return how many control steps of a chunk are executed."""
        return self.config.executed

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Return the shape (H, A) of one sample's initial noise."""
        return self.config.horizon, self.config.model_action_dim

    def set_trainable(self, part: Trainable) -> None:
        """Train everything, or the action expert and the heads alone (the prefix is then constant)."""
        self.trainable = part
        for parameter in self.network.prefix_parameters():
            parameter.requires_grad_(part == "all")

    def encode(self, observation: Observation) -> Prefix:
        """Return the prefix of observations, without gradient where the prefix is not trained."""
        frozen = self.trainable == "expert"
        with torch.no_grad() if frozen else nullcontext():
            return self.network.prefix(self.preprocessor(observation))

    def loss(self, batch: Batch, *, generator: torch.Generator, prefix: Prefix | None = None) -> Float[Tensor, " B"]:
        """Return the flow-matching loss ||v(x_t, t) - (noise - action)||^2 of each sample.

        Mean over real action dimensions and unpadded steps only. ``prefix`` saves encoding where it is known.
        """
        prefix = self.encode(batch.observation) if prefix is None else prefix
        action = self._padded(self.codec.action.do(batch.action))[:, None]
        shape = (len(batch), self.config.flow_copies)
        time = draw_time(shape, generator=generator)
        noise = torch.randn(*shape, *self.noise_shape, generator=generator)
        velocity, _ = self.network.expert(interpolate(action, noise, time), time, prefix)
        counts = (~batch.is_pad)[..., None] & (torch.arange(self.config.model_action_dim) < ACTION_DIM)
        return flow_loss(velocity, noise - action, counts)

    def sample(
        self,
        observation: Observation,
        *,
        explore: bool,
        generator: torch.Generator,
        noise: Float[Tensor, "B H A"] | None = None,
    ) -> Sample:
        """Draw chunks by K Euler steps from noise; ``explore`` makes every step Gaussian (Flow-Noise).

        ``noise`` is the initial noise where the caller draws it itself (evaluation on fixed states).
        """
        prefix = self.encode(observation)
        start = torch.randn(len(observation), *self.noise_shape, generator=generator) if noise is None else noise

        def draw(_: int, mean: Tensor, std: Tensor) -> Tensor:
            return mean + std * torch.randn(mean.shape, generator=generator) if explore else mean

        drawn = self._walk(start, draw, prefix)
        grid = time_grid(self.config.denoise_steps)
        trace = {"chain": drawn.chain, "time": grid.expand(len(observation), -1)}
        if self.trainable == "expert":
            trace |= {f"prefix_{name}": getattr(prefix, name) for name in _PREFIX_KEYS}
        return Sample(
            action=self.codec.action.undo(drawn.chain[:, -1, :, :ACTION_DIM]),
            log_prob=drawn.log_prob,
            value=self._value(prefix, observation),
            trace=trace,
        )

    def evaluate(self, observation: Observation, trace: Trace) -> Evaluation:
        """Score drawn chains under the present parameters, with the sampler's own steps.

        Raises ``ValueError`` if the chain was drawn on another time grid.
        """
        if not torch.equal(trace["time"][0], time_grid(self.config.denoise_steps)):
            raise ValueError(f"The chain was drawn on the time grid {trace['time'][0].tolist()}, not on this policy's.")
        prefix, chain = self._prefix_of(observation, trace), trace["chain"]
        again = self._walk(chain[:, 0], lambda k, _mean, _std: chain[:, k + 1], prefix)
        return Evaluation(log_prob=again.log_prob, entropy=again.entropy, value=self._value(prefix, observation))

    def value(self, observation: Observation) -> Float[Tensor, " B"]:
        """Return V(s) alone, for bootstrapping."""
        return self._value(self.encode(observation), observation)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only the value uses."""
        return list(self.value_head.parameters())

    def actor_parameters(self) -> list[nn.Parameter]:
        """Return every other trainable parameter."""
        critic = {id(p) for p in self.critic_parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in critic]

    def _prefix_of(self, observation: Observation, trace: Trace) -> Prefix:
        if self.trainable == "expert" and "prefix_key" in trace:
            return Prefix(**{name: trace[f"prefix_{name}"] for name in _PREFIX_KEYS})
        return self.encode(observation)

    def _walk(
        self, start: Float[Tensor, "B H A"], stochastic: Callable[[int, Tensor, Tensor], Tensor], prefix: Prefix
    ) -> Walk:
        """Go from noise to actions, and score the way: the same function of the same inputs in both."""

        def step(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            velocity, features = self.network.expert(x[:, None], t.view(1, 1), prefix)
            return velocity[:, 0], self.noise_head(features.detach())[:, 0]

        grid = time_grid(self.config.denoise_steps)
        return walk(start, step, stochastic, grid=grid, counts=self.stochastic)

    def _value(self, prefix: Prefix, observation: Observation) -> Float[Tensor, " B"]:
        return self.value_head(prefix.summary, self.codec.state.do(observation.state).clamp(-1.5, 1.5))

    def _padded(self, action: Float[Tensor, "B H 7"]) -> Float[Tensor, "B H A"]:
        return F.pad(action, (0, self.config.model_action_dim - ACTION_DIM))
