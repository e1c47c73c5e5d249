"""pi0.5 as a policy: supervised loss, sampling, scoring. One prefix function and one expert function serve all three.

Letters: B batch, N flow copies, K denoising steps, H horizon, A padded action dimension, S state.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rlco.algos.flow import TrustRegion, draw_time, flow_loss, interpolate, time_grid
from rlco.core.policy import Batch, Evaluation, Observation, Sample, Trace
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.policies.adapters import LoraConfig, linear_maps
from rlco.policies.contract import Trainable, VlaPolicy, prefix_bytes
from rlco.policies.exploration import Exploration
from rlco.policies.pi.config import TOWERS, PiConfig, ValueFrom
from rlco.policies.pi.exploration import FlowExploration
from rlco.policies.pi.heads import NoiseHead, ValueHead
from rlco.policies.pi.inputs import Preprocessor
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.network import PiNetwork, Prefix
from rlco.policies.pi.walk import KERNELS, Flow, Gaussian, Walk, euler_chain, walk
from rlco.policies.words import STATE_BINS, bin_rows, structured_rows

_PREFIX_KEYS = tuple(field.name for field in fields(Prefix))


class PiPolicy(VlaPolicy[PiConfig, Prefix]):
    """See ``rlco.core.policy.Policy``."""

    def __init__(
        self, config: PiConfig, interface: Interface, *, seed: int = 0, network: PiNetwork | None = None
    ) -> None:
        """Draw the weights from ``seed``; a ``network`` that is given brings its own, or will be loaded."""
        super().__init__()
        self.config = config
        self.interface = interface
        self.codec = interface.codec
        self.preprocessor = Preprocessor(config, interface)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = PiNetwork(config) if network is None else network
            self.noise_head = self._new_noise_head()
            self.value_head = self._new_value_head()
        with torch.no_grad():
            if network is None and config.vocabulary <= 1024:  # the built-in tokenizer
                self.network.embedding[bin_rows()] = structured_rows(STATE_BINS + 1, config.language.width)
        # Noise is added only to what is executed: the rest is moved along the flow without it.
        counts = torch.zeros(config.horizon, config.model_action_dim, dtype=torch.bool)
        counts[: config.executed, :ACTION_DIM] = True
        self.stochastic = nn.Buffer(counts, persistent=False)

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Return the shape (H, A) of one sample's initial noise."""
        return self.config.horizon, self.config.model_action_dim

    def clipped(self, action: Float[Tensor, "N A"]) -> Bool[Tensor, "N A"]:
        """Return none: a flow ends at any number."""
        return torch.zeros_like(action, dtype=torch.bool)

    def adapted_maps(self, lora: LoraConfig) -> list[str]:
        """Return the names of the network's linear maps that ``lora`` means."""
        pattern = lora.pattern(TOWERS, family=self.config.family)
        # the word embedding is kept as a linear map that is never called
        return linear_maps(self.network, pattern, without=[self.network.paligemma_with_expert.paligemma.lm_head.weight])

    def _frozen(self, part: Trainable) -> set[int]:
        prefix = {id(p) for p in self.network.prefix_parameters()}
        towers = prefix | {id(p) for p in self.network.paligemma_with_expert.parameters()}
        return {"all": set[int](), "expert": prefix, "lora": towers}[part]

    @property
    def prefix_trains(self) -> bool:
        """Return whether anything upstream of the prefix learns; where nothing does, a prefix can be kept."""
        return any(p.requires_grad for p in self.network.prefix_parameters())

    def explore_as(self, exploration: Exploration, *, seed: int = 0) -> None:
        """Take the flow's part of ``exploration``."""
        self.set_exploration(exploration.flow, value_from=exploration.value_from, seed=seed)

    @property
    def trust_region(self) -> TrustRegion:
        """Return what the reduction of the chain's log-probability asks for."""
        return self.config.exploration.trust_region

    def set_exploration(
        self, exploration: FlowExploration, *, value_from: ValueFrom | None = None, seed: int = 0
    ) -> None:
        """Say how chunks are drawn in reinforcement learning, and what the critic reads (None: what it read so far).

        A head is drawn anew, from ``seed``, where it would mean something else than before: the noise head when its
        bounds or its start change, the value head when its input does. Call it before an optimiser is made.
        """
        before, exploration = self.config, exploration.resolved()
        self.config = replace(before, exploration=exploration, value_from=value_from or before.value_from)
        like = next(self.value_head.parameters())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if _noise_range(exploration) != _noise_range(before.exploration):
                self.noise_head = self._new_noise_head().to(like)
            if self.config.value_from != before.value_from:
                self.value_head = self._new_value_head().to(like)

    def encode(self, observation: Observation) -> Prefix:
        """Return the prefix of observations, without gradient where the prefix is not trained."""
        with nullcontext() if self.prefix_trains else torch.no_grad():
            return self.network.prefix(self.preprocessor(observation).to(self.device))

    def loss(self, batch: Batch, *, generator: torch.Generator, prefix: Prefix | None = None) -> Float[Tensor, " B"]:
        """Return the flow-matching loss ||v(x_t, t) - (noise - action)||^2 of each sample.

        Mean over real action dimensions and unpadded steps only. ``prefix`` saves encoding where it is known.
        """
        prefix = self.encode(batch.observation) if prefix is None else prefix
        action = self._padded(self.codec.action.do(batch.action)).to(self.device)[:, None]
        shape = (len(batch), self.config.flow_copies)
        time = draw_time(shape, generator=generator).to(self.device)
        noise = torch.randn(*shape, *self.noise_shape, generator=generator).to(self.device)
        velocity, _ = self.network.expert(interpolate(action, noise, time), time, prefix)
        counts = (~batch.is_pad)[..., None] & (torch.arange(self.config.model_action_dim) < ACTION_DIM)
        return flow_loss(velocity, noise - action, counts.to(self.device))

    def sample(
        self,
        observation: Observation,
        *,
        explore: bool,
        generator: torch.Generator,
        noise: Float[Tensor, "B H A"] | None = None,
    ) -> Sample:
        """Draw chunks by K Euler steps from noise; ``explore`` adds noise as ``set_exploration`` says.

        ``noise`` is the initial noise where the caller draws it itself (evaluation on fixed states).
        """
        prefix, device = self.encode(observation), self.device
        start = torch.randn(len(observation), *self.noise_shape, generator=generator) if noise is None else noise
        if explore:
            drawn, trace = self._draw(start.to(device), prefix, generator=generator)
            trace["time"] = self._grid().expand(len(observation), -1)
            log_prob = drawn.log_prob(self.stochastic, reduction=self.config.exploration.reduction)
        else:
            chain = euler_chain(start.to(device), self._flow(prefix), time=self._grid())
            log_prob, trace = chain.new_zeros(len(chain)), {"chain": chain}
        if not self.prefix_trains and prefix_bytes(prefix) <= self.most_prefix_bytes:
            trace |= {f"prefix_{name}": getattr(prefix, name) for name in _PREFIX_KEYS}
        return Sample(
            action=self.codec.action.undo(trace["chain"][:, -1, :, :ACTION_DIM]),
            log_prob=log_prob,
            value=self._value(prefix, observation),
            trace=trace,
        )

    def evaluate(self, observation: Observation, trace: Trace) -> Evaluation:
        """Score drawn chains under the present parameters, with the sampler's own steps.

        Raises ``ValueError`` if the chain was drawn on another time grid, or with another choice of stochastic steps.
        """
        self._require_own(trace)
        prefix = self._prefix_of(observation, trace)
        again, counts = self._score(trace, prefix), self.stochastic
        return Evaluation(
            log_prob=again.log_prob(counts, reduction=self.config.exploration.reduction),
            entropy=again.entropy(counts),
            value=self._value(prefix, observation),
        )

    def value(self, observation: Observation) -> Float[Tensor, " B"]:
        """Return V(s) alone, for bootstrapping."""
        return self._value(self.encode(observation), observation)

    def answering_as(self, config: PiConfig) -> PiPolicy:
        """Return this policy: a flow's chunk has one length."""
        if config != self.config:
            raise ValueError("A policy of pi0 or pi0.5 answers in one way.")
        return self

    @property
    def place_features_dim(self) -> int:
        """Return the number of features in ``place_features``."""
        return self.network.summary_dim

    def place_features(self, prefix: Prefix) -> Float[Tensor, "B features"]:
        """Return what a reader of the named thing's place reads in pretraining."""
        return prefix.summary

    def pointing(self, observation: Observation) -> Float[Tensor, "B heads cells"]:
        """Return where the grounding heads look, before the softmax."""
        network, inputs = self.network, self.preprocessor(observation).to(self.device)
        assert network.grounding is not None
        return network.grounding.look(inputs.pixels[:, 0], network.embed(inputs.tokens).float(), inputs.is_word)[0]

    def _prefix_of(self, observation: Observation, trace: Trace) -> Prefix:
        if "prefix_key" in trace and not self.prefix_trains:
            return Prefix(**{name: trace[f"prefix_{name}"] for name in _PREFIX_KEYS})
        return self.encode(observation)

    def _draw(
        self, start: Float[Tensor, "B H A"], prefix: Prefix, *, generator: torch.Generator
    ) -> tuple[Walk, dict[str, Tensor]]:
        """Go from noise to actions with exploration noise; return what was drawn, and the trace that scores it."""
        time, counts, step = self._grid(), self.stochastic, None
        if self.config.exploration.draws_one_step:
            step = torch.randint(self.config.denoise_steps, (len(start),), generator=generator).to(start.device)
            steps = torch.arange(self.config.denoise_steps, device=start.device)
            counts = (steps[:, None] == step)[..., None, None] & counts
            # each sample has its own times when it is scored: the same shapes give the same bits
            time = time.expand(len(start), -1)

        def draw(_: int, mean: Tensor, std: Tensor) -> Tensor:
            return mean + std * torch.randn(mean.shape, generator=generator).to(mean.device)

        drawn = walk(start, self._flow(prefix), self._kernel, draw=draw, time=time, counts=counts)
        if step is None:
            return drawn, {"chain": drawn.chain}
        return drawn.at(step), {"chain": drawn.chain, "step": step}

    def _score(self, trace: Trace, prefix: Prefix) -> Walk:
        """Walk a recorded chain again, under the present parameters.

        Where one step was stochastic it alone is walked, from where the record stands: one call of the expert.
        """
        chain, time, flow = trace["chain"], self._grid(), self._flow(prefix)
        if "step" in trace:
            step = trace["step"]
            ends = torch.stack([step, step + 1], dim=1)
            time, chain = time[0][ends], chain[torch.arange(len(step), device=step.device)[:, None], ends]
        return walk(
            chain[:, 0],
            flow,
            self._kernel,
            draw=lambda k, _mean, _std: chain[:, k + 1],
            time=time,
            counts=self.stochastic,
        )

    def _require_own(self, trace: Trace) -> None:
        grid = self._grid()
        if "time" not in trace:
            raise ValueError("The chain was drawn without exploration: it has no log-probability.")
        if not torch.equal(trace["time"], grid.expand(len(trace["time"]), -1)):
            odd = next(row for row in trace["time"] if not torch.equal(row, grid[0]))
            raise ValueError(f"The chain was drawn on the time grid {odd.tolist()}, not on this policy's.")
        if ("step" in trace) != self.config.exploration.draws_one_step:
            drawn, wanted = ("one", "all") if "step" in trace else ("all", "one")
            raise ValueError(f"The chain was drawn with {drawn} of its steps stochastic, this policy scores {wanted}.")
        if "step" in trace and not bool(((trace["step"] >= 0) & (trace["step"] < grid.shape[1] - 1)).all()):
            raise ValueError(f"The trace names step {int(trace['step'].max())}, there are {grid.shape[1] - 1}.")

    def _flow(self, prefix: Prefix) -> Callable[[Tensor, Tensor], Flow]:
        around = self.network.surroundings(prefix, copies=1)

        def flow(x: Tensor, time: Tensor) -> Flow:
            velocity, features = self.network.expert(x[:, None], time[:, :1], prefix, surroundings=around)
            return Flow(x=x, velocity=velocity[:, 0], features=features[:, 0], time=time)

        return flow

    def _kernel(self, flow: Flow) -> Gaussian:
        exploration = self.config.exploration
        return KERNELS[exploration.method](flow, exploration, self.noise_head)

    def _grid(self) -> Float[Tensor, "1 K_plus_1"]:
        return time_grid(self.config.denoise_steps)[None].to(self.device)

    def _value(self, prefix: Prefix, observation: Observation) -> Float[Tensor, " B"]:
        """Return V(s): one function for rollout, bootstrap and training, of the observation alone."""
        state = self.codec.state.do(observation.state).clamp(-1.5, 1.5)
        return self.value_head(self.critic_input(prefix), state.to(self.device))

    def critic_input(self, prefix: Prefix) -> Float[Tensor, "B features"]:
        """Return what the critic reads beside the state: the prefix's outputs, or the expert's on a chunk of zeros."""
        if self.config.value_from == "prefix":
            return prefix.summary
        # averaged over the sampled chain, the features would depend on its noise: V would be no function of the state
        nothing = prefix.summary.new_zeros(len(prefix.summary), 1, *self.noise_shape)
        with torch.no_grad():
            _, features = self.network.expert(nothing, nothing.new_ones(1, 1), prefix)
        return features[:, 0].mean(1)

    def _new_noise_head(self) -> NoiseHead:
        config = self.config
        return NoiseHead(config.exploration, width=config.expert.width, action_dim=config.model_action_dim)

    def _new_value_head(self) -> ValueHead:
        from_expert = self.config.value_from == "expert"
        features = self.config.expert.width if from_expert else self.network.summary_dim
        return ValueHead(features, state_dim=STATE_DIM)

    def _padded(self, action: Float[Tensor, "B H 7"]) -> Float[Tensor, "B H A"]:
        return F.pad(action, (0, self.config.model_action_dim - ACTION_DIM))


def _noise_range(exploration: FlowExploration) -> tuple[tuple[float, float], float]:
    return exploration.std_bounds, exploration.std_start
