"""How much memory a stage needs, known before it starts; a stage that cannot fit is refused with what would help.

Nothing here models a layer: the real network takes one step on the meta device, whose tensors have shapes and
lifetimes but no memory, and every storage that would have been alive is counted. Full size takes tens of seconds.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.contract import AnyPolicy, Rehearsal, Trainable, prefix_bytes, prefix_rows
from rlco.policies.exploration import Exploration
from rlco.policies.families import PolicyConfig, empty_policy, family
from rlco.train.compute import ComputeConfig

_ADAM_BYTES = 8
"""Two float32 moments per element; beside them one float32 step count per tensor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What a stage computes in one step, and what it keeps."""

    policy: PolicyConfig
    trainable: Trainable
    compute: ComputeConfig
    samples: int
    """Supervised samples in one step; 0 without a supervised term."""
    decisions: int = 0
    """Stage II: decisions scored in one step (the minibatch)."""
    envs: int = 0
    """Stage II: chunks sampled at once."""
    experience: int = 0
    """Stage II: decisions kept for an iteration's updates."""
    real_frames: int = 0
    """Stage II: real frames whose prefixes may be kept."""
    exploration: Exploration | None = None
    """Stage II: how chunks are drawn; None: as the policy's own configuration says."""
    cameras: int = 1
    prompt_tokens: int | None = None
    """Of the longest prompt that is read; None: of the longest that the policy takes."""
    ema: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Bytes, by what they are for."""

    weights: int
    """With the float32 masters of 16-bit ones, and the moving average."""
    gradients: int
    optimiser: int
    activations: int
    """The most that is alive in a step beside all this; at least what the optimiser needs to work in float32."""
    prefixes: int
    """Of real frames."""
    experience: int

    @property
    def total(self) -> int:
        """Return their sum."""
        return sum(getattr(self, f.name) for f in fields(self))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every storage made inside it, while it lives."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        """``known`` tensors are not counted."""
        super().__init__()
        self.now = self.most = 0
        self._seen: dict[int, Any] = {t.untyped_storage()._cdata: None for t in known}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return

        self._seen[key] = weakref.ref(storage, partial(self._gone, key, size))
        self.now += size
        self.most = max(self.most, self.now)

    def _gone(self, key: int, size: int, _: object) -> None:
        del self._seen[key]
        self.now -= size


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: object
) -> Float[Tensor, "B heads T d"]:
    """Stand for ``scaled_dot_product_attention`` where tensors have no memory.

    Without a device, torch takes the kernel that keeps the whole attention matrix, which no run does.
    """
    del attn_mask
    groups = query.shape[1] // key.shape[1]
    return _Attention.apply(query, *(t.repeat_interleave(groups, 1) if groups > 1 else t for t in (key, value)))


class _Attention(torch.autograd.Function):
    """Keeps its inputs, its output and the logarithm of each row's sum."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # noqa: ANN401
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@cache
def needs(load: Load) -> Needs:
    """Return what ``load`` takes, without taking it."""
    with _abstract_policy(load) as policy:
        tensors = [*policy.parameters(), *policy.buffers()]
        prompt_tokens = load.prompt_tokens or load.policy.prompt_length
        rehearsal = family(load.policy.family).rehearsal(policy, load.cameras, prompt_tokens)
        with torch.no_grad():
            prefix = rehearsal.encode(1)
        one = prefix_bytes(prefix)
        with LiveBytes(tensors) as sampling, torch.no_grad():
            if load.envs:
                rehearsal.sample(rehearsal.encode(load.envs))
        with LiveBytes(tensors) as training:
            loss = _loss(policy, rehearsal, load, prefix)
            held = training.now
            loss.backward()
            del loss
        learnt = [p for p in policy.parameters() if p.grad is not None]
        actor = policy.actor_parameters()
        gradients = sum(p.nbytes for p in learnt)
        masters = sum(4 * p.numel() for p in actor if p.dtype != torch.float32)
        keeps = _keeps(policy, one, load)
        experience = load.experience * (rehearsal.decision_bytes + one * keeps["experience"])
        read = sum(4 * p.numel() for p in policy.parameters()) - sum(t.nbytes for t in tensors)
        # checkpoints are read in 32 bits, in the memory of the processor
        in_reading = read * (torch.device(load.compute.device).type == "cpu")
        in_float32 = sum(4 * p.numel() for p in learnt)  # gradients, when the optimiser takes them
        return Needs(
            weights=sum(t.nbytes for t in tensors) + masters + load.ema * sum(4 * p.numel() for p in actor),
            gradients=gradients,
            optimiser=sum(_ADAM_BYTES * p.numel() + 4 for p in learnt),
            # what was collected is there twice for a moment, while its parts are joined
            activations=max(
                training.most - gradients,
                held * (load.decisions > 0),  # while the norms of both terms are measured, their whole graph is there
                in_float32 - gradients,
                sampling.most,
                experience,
                in_reading,
            ),
            prefixes=load.real_frames * one * keeps["real"],
            experience=experience,
        )


def _keeps(policy: AnyPolicy, one: int, load: Load) -> dict[str, bool]:
    """Return whether the prefixes of real frames and of the experience are kept."""
    budget = 0 if policy.prefix_trains else load.compute.prefix_cache_bytes
    return {"real": load.real_frames * one <= budget, "experience": load.experience * one <= budget}


@contextmanager
def _abstract_policy(load: Load) -> Iterator[AnyPolicy]:
    """Give the policy in the form that ``load`` trains it in, without memory."""
    codec = Codec(
        state=Normaliser(low=(-1.0,) * STATE_DIM, high=(1.0,) * STATE_DIM),
        action=Normaliser(low=(-1.0,) * ACTION_DIM, high=(1.0,) * ACTION_DIM),
    )
    policy = empty_policy(load.policy, family(load.policy.family).interface(load.policy, codec))
    load.compute.arrange(policy, load.trainable)
    if load.exploration is not None:
        policy.explore_as(load.exploration)
    policy.to("meta")
    # a mode of torch's own would not hold in the backward pass, where checkpointed layers run again
    attention, F.scaled_dot_product_attention = F.scaled_dot_product_attention, fused_attention
    try:
        with torch.device("meta"):
            yield policy
    finally:
        F.scaled_dot_product_attention = attention


def _loss(policy: AnyPolicy, rehearsal: Rehearsal, load: Load, one: Any) -> Tensor:  # noqa: ANN401
    """Return a loss with the graph of the stage's; ``one`` row of a prefix stands for those that are kept."""
    loss = torch.zeros(())
    if load.samples:
        loss = loss + rehearsal.loss(_encoded(policy, rehearsal, load.samples))
    if load.decisions:
        rows = torch.zeros(load.decisions, dtype=torch.long)
        given = _encoded(policy, rehearsal, load.decisions) if policy.prefix_trains else prefix_rows(one, rows)
        loss = loss + rehearsal.score(given)
    return loss


def _encoded(policy: AnyPolicy, rehearsal: Rehearsal, count: int) -> Any:  # noqa: ANN401
    with nullcontext() if policy.prefix_trains else torch.no_grad():
        return rehearsal.encode(count)
