"""How a token policy draws actions. Nothing here builds anything."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

ValueToken = Literal["first", "mean"]
"""first: the output that predicts the first action token (RL4VLA's a0). mean: the mean of the prompt's outputs.
RL4VLA's other two, the outputs at drawn action tokens, would make V a function of the draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenExploration:
    """Tokens are drawn from softmax(logits / temperature) over the 256 action ids, and scored by the same."""

    temperature: float = 1.0
    """While exploring. That of evaluation is the policy's: ``OpenVlaConfig.eval_temperature``."""
    value_token: ValueToken = "first"
    value_gradient: bool = False
    """Let the critic's loss change the policy's own layers too (RL4VLA does)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"TokenExploration.temperature must be above 0 and finite, got {self.temperature}.")
        if self.value_token not in get_args(ValueToken):
            raise ValueError(f"TokenExploration.value_token must be first or mean, got {self.value_token!r}.")
