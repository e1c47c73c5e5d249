"""AdamW whose 16-bit parameters are stepped in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class MasterAdamW:
    """AdamW over float32 copies ("masters") of 16-bit parameters; float32 parameters are stepped themselves.

    bfloat16 has 8 significant bits: a step below 1/512 of a weight's size is rounded away, and at a rate of 1e-5 nearly
    every step is. The master keeps it. Without 16-bit parameters this is ``torch.optim.AdamW``, bit for bit.
    """

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[nn.Parameter], float]],
        *,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        """``groups``: parameters and their learning rate."""
        self._pairs: list[tuple[nn.Parameter, Tensor]] = []
        self._groups = [[self._weight(p) for p in parameters] for parameters, _ in groups]
        self._adamw = torch.optim.AdamW(
            [{"params": own, "lr": lr} for own, (_, lr) in zip(self._groups, groups, strict=True)],
            betas=betas,
            weight_decay=weight_decay,
            fused=True,
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Return AdamW's groups, in the order given: ``lr`` may be set."""
        return self._adamw.param_groups

    def weights(self, group: int = 0) -> list[Tensor]:
        """Return the float32 weights of a group: parameters, or their masters."""
        return list(self._groups[group])

    def zero_grad(self) -> None:
        """Drop every gradient."""
        self._adamw.zero_grad(set_to_none=True)
        for parameter, _ in self._pairs:
            parameter.grad = None

    def leave_out(self, group: int) -> None:
        """Drop a group's gradient: the next step does not move it, and its moments stay."""
        self._lift()
        for weight in self._groups[group]:
            weight.grad = None

    def clip(self, most: float, *, group: int = 0) -> Tensor:
        """Scale a group's gradient down to a norm of ``most``, and return the norm that it had, in float32."""
        self._lift()
        return nn.utils.clip_grad_norm_(self._groups[group], most)

    @torch.no_grad()
    def step(self) -> None:
        """Step the float32 weights, then round the masters into their parameters."""
        self._lift()
        self._adamw.step()
        for parameter, master in self._pairs:
            parameter.copy_(master)

    def finish(self) -> None:
        """Put the masters into their parameters, which are float32 from then on: training ends here.

        What is saved then keeps the small steps that 16 bits would round away.
        """
        for parameter, master in self._pairs:
            parameter.data = master

    def state_dict(self) -> dict[str, Any]:
        """Return AdamW's state and the masters: the parameters alone have lost their lower bits."""
        return {"adamw": self._adamw.state_dict(), "masters": [master for _, master in self._pairs]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly, parameters of 16 bits included. Raises ``ValueError`` for a state of another precision."""
        if len(state["masters"]) != len(self._pairs):
            raise ValueError(
                f"The saved optimiser has {len(state['masters'])} parameters of 16 bits, this policy has "
                f"{len(self._pairs)}: resume with the precision that the run began with."
            )
        self._adamw.load_state_dict(state["adamw"])
        with torch.no_grad():
            for (parameter, master), saved in zip(self._pairs, state["masters"], strict=True):
                parameter.copy_(master.copy_(saved))

    def _weight(self, parameter: nn.Parameter) -> Tensor:
        if parameter.dtype == torch.float32:
            return parameter
        master = parameter.detach().float()
        self._pairs.append((parameter, master))
        return master

    def _lift(self) -> None:
        """Move gradients to the masters, one at a time, so that both sets are never there together."""
        for parameter, master in self._pairs:
            if parameter.grad is not None:
                master.grad, parameter.grad = parameter.grad.float(), None
