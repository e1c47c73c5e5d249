"""What every family's policy is to the layers above: training, evaluation and stages know nothing more of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rlco.algos.flow import TrustRegion
from rlco.core.policy import Batch, Evaluation, Observation, Sample, Trace
from rlco.data.normalise import Codec
from rlco.policies.adapters import LoraConfig, adapter_parameters, add_adapters, has_adapters, merged_state
from rlco.policies.exploration import Exploration

Trainable = Literal["all", "expert", "lora"]
"""all: everything. expert: what turns the encoded observation into actions (the action expert of pi0 and pi0.5, the
language model of OpenVLA). lora: adapters beside frozen published weights; what a small size adds to them (grounding
and state tokens) learns in full, and as such a token is upstream of the prefix, ``prefix_trains`` is then true. The
heads of reinforcement learning always learn."""


@runtime_checkable
class Configuration(Protocol):
    """What every family's configuration says beside its sizes."""

    @property
    def family(self) -> str:
        """Return a name in ``FAMILIES``."""
        ...

    @property
    def horizon(self) -> int:
        """Return H, the predicted control steps."""
        ...

    @property
    def executed(self) -> int:
        """Return how many of them are executed."""
        ...

    @property
    def is_large(self) -> bool:
        """Return whether it is trained through adapters unless something else is asked for."""
        ...

    def lora(self, asked: LoraConfig) -> LoraConfig:
        """Return ``asked`` with this policy's values where it gives none.

        Raises ``ValueError`` for a tower that the policy has not.
        """
        ...


ConfigT = TypeVar("ConfigT", bound=Configuration)
PrefixT = TypeVar("PrefixT")


@runtime_checkable
class Preprocessor(Protocol):
    """From an observation to what a network reads, and whether it will be able to."""

    def __call__(self, observation: Observation) -> Any:  # noqa: ANN401  (the family's inputs)
        """Return the inputs. Raises ``ValueError`` where the policy cannot read the observation."""
        ...

    def require_fits(self, instructions: Iterable[str]) -> None:
        """Raise ``ValueError`` unless every instruction fits."""
        ...

    def prompt_tokens(self, instructions: Iterable[str]) -> int:
        """Return how many tokens of a prompt, padding counted, the network reads at most; raises as ``require_fits``.

        There is an instruction.
        """
        ...

    def require_cameras(self, available: Iterable[str], *, source: str) -> None:
        """Raise ``ValueError`` unless ``source`` has what the policy looks through."""
        ...


class VlaPolicy(nn.Module, ABC, Generic[ConfigT, PrefixT]):
    """``rlco.core.policy.Policy``, and what it takes to train one.

    The prefix is what a policy makes of an observation before anything that learns with ``expert``: a dataclass of
    tensors with the batch first. It can be kept where ``prefix_trains`` is false.
    """

    config: ConfigT
    interface: Any
    codec: Codec
    preprocessor: Preprocessor
    network: Any
    value_head: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.most_prefix_bytes: float = math.inf
        """A trace keeps the prefix of a decision where nothing in it learns and it is not larger than this."""

    @property
    def horizon(self) -> int:
        """Return H, the predicted control steps."""
        return self.config.horizon

    @property
    def executed(self) -> int:
        """Return how many control steps of a chunk are executed."""
        return self.config.executed

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Return the shape of the standard normal numbers that decide one sample."""

    @property
    @abstractmethod
    def trust_region(self) -> TrustRegion:
        """Return the clip range and the KL stop that the scale of this policy's log-probability asks for."""

    @property
    @abstractmethod
    def prefix_trains(self) -> bool:
        """Return whether anything upstream of the prefix learns."""

    @abstractmethod
    def explore_as(self, exploration: Exploration, *, seed: int = 0) -> None:
        """Take from ``exploration`` what this family reads of it; heads that mean something else are drawn anew."""

    @abstractmethod
    def encode(self, observation: Observation) -> PrefixT:
        """Return the prefix of observations, without gradient where it is not trained."""

    @abstractmethod
    def loss(self, batch: Batch, *, generator: torch.Generator, prefix: PrefixT | None = None) -> Float[Tensor, " B"]:
        """Return the supervised loss of each sample; ``prefix`` saves encoding where it is known."""

    @abstractmethod
    def sample(
        self, observation: Observation, *, explore: bool, generator: torch.Generator, noise: Tensor | None = None
    ) -> Sample:
        """Draw action chunks; ``noise`` where the caller draws it itself."""

    @abstractmethod
    def evaluate(self, observation: Observation, trace: Trace) -> Evaluation:
        """Score drawn chunks under the present parameters, with gradients."""

    @abstractmethod
    def value(self, observation: Observation) -> Float[Tensor, " B"]:
        """Return V(s) alone, for bootstrapping."""

    @abstractmethod
    def answering_as(self, config: ConfigT) -> VlaPolicy[ConfigT, PrefixT]:
        """Return a policy of the same weights that answers in another way, such as in chunks.

        Raises ``ValueError`` where the weights of ``config`` are others.
        """

    @abstractmethod
    def place_features(self, prefix: PrefixT) -> Float[Tensor, "B features"]:
        """Return what a reader of the named thing's place reads in pretraining."""

    @property
    @abstractmethod
    def place_features_dim(self) -> int:
        """Return the number of features in ``place_features``."""

    @abstractmethod
    def pointing(self, observation: Observation) -> Float[Tensor, "B heads cells"]:
        """Return where the grounding heads look, before the softmax."""

    @abstractmethod
    def clipped(self, action: Float[Tensor, "N A"]) -> Bool[Tensor, "N A"]:
        """Return which numbers of raw actions this policy cannot say, and is taught the nearest instead."""

    def at_temperature(self, temperature: float) -> VlaPolicy[ConfigT, PrefixT]:
        """Return a policy of the same weights that draws its answers at this temperature where it does not explore.

        0 takes the likeliest. Raises ``ValueError`` where the family draws at none, or for a temperature below 0.
        """
        raise ValueError(f"A policy of family {self.config.family} draws at no temperature, got {temperature}.")

    @property
    def crop_area(self) -> float | None:
        """Return what share of a picture it looks at, around its centre; None: it looks at the whole."""
        return None

    def crop_pictures(self, area: float) -> None:
        """Look at the centre of pictures, of this share of them, from now on.

        Raises ``ValueError`` where the family sees whole pictures only.
        """
        raise ValueError(f"A policy of family {self.config.family} sees whole pictures: no crop_area ({area}).")

    @abstractmethod
    def adapted_maps(self, lora: LoraConfig) -> list[str]:
        """Return the names of the network's linear maps that ``lora``, all of whose values are given, means."""

    @abstractmethod
    def _frozen(self, part: Trainable) -> set[int]:
        """Return the ids of the network's parameters that do not learn with ``part``; adapters are there already."""

    def set_trainable(self, part: Trainable, *, lora: LoraConfig | None = None) -> None:
        """Choose what learns.

        Raises ``ValueError`` if there are adapters already, or where this policy has no tower that ``lora`` names.
        """
        if part == "lora":
            given = self.config.lora(lora or LoraConfig())
            add_adapters(self.network, given, maps=self.adapted_maps(given))
        elif has_adapters(self):
            raise ValueError("This policy has adapters: save it (they are merged) and load it to train another part.")
        adapters = {id(p) for p in adapter_parameters(self.network)}
        frozen = self._frozen(part) - adapters
        for parameter in self.network.parameters():
            parameter.requires_grad_(id(parameter) not in frozen)

    @property
    def device(self) -> torch.device:
        """Return where the parameters are. Batches and random draws start on the CPU and are moved there."""
        return self.network.embedding.device

    @property
    def layer_dtype(self) -> torch.dtype:
        """Return the type that the layers compute in."""
        return self.network.layer_dtype

    def merged_state(self) -> dict[str, Tensor]:
        """Return every tensor by name, adapters merged into the weights that they change: what a checkpoint keeps."""
        return merged_state(self)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that only the value uses."""
        return list(self.value_head.parameters())

    def actor_parameters(self) -> list[nn.Parameter]:
        """Return every other trainable parameter."""
        critic = {id(p) for p in self.critic_parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in critic]


AnyPolicy = VlaPolicy[Any, Any]
"""Of whatever family."""


@runtime_checkable
class Rehearsal(Protocol):
    """What a step of training computes, by the real network, on inputs that mean nothing.

    Where tensors have shapes and no memory, no observation can be read and nothing can be drawn: this is all of the
    step that is left, and what its memory is counted from. Whoever calls says whether ``encode`` has a gradient.
    """

    @property
    def decision_bytes(self) -> int:
        """Return what the experience keeps of a decision beside its prefix."""
        ...

    def encode(self, count: int) -> Any:  # noqa: ANN401  (the family's prefix)
        """Return the prefix of ``count`` observations."""
        ...

    def loss(self, prefix: Any) -> Float[Tensor, ""]:  # noqa: ANN401
        """Return a number with the graph of the supervised loss of a batch."""
        ...

    def score(self, prefix: Any) -> Float[Tensor, ""]:  # noqa: ANN401
        """Return a number with the graph of scoring drawn decisions, and of their values."""
        ...

    def sample(self, prefix: Any) -> None:  # noqa: ANN401
        """Draw a chunk for each row: at least what is alive together then."""
        ...


def prefix_bytes(prefix: Any) -> int:  # noqa: ANN401  (any family's)
    """Return the memory of the first row of a prefix."""
    return sum(getattr(prefix, f.name)[:1].nbytes for f in fields(prefix))


def prefix_rows(prefix: PrefixT, index: Int[Tensor, " n"]) -> PrefixT:
    """Return some rows of a prefix."""
    values = {f.name: getattr(prefix, f.name) for f in fields(prefix)}  # pyright: ignore[reportArgumentType]
    return type(prefix)(**{name: value[index.to(value.device)] for name, value in values.items()})
