"""LoRA: small trainable maps beside frozen weights, and the weights that they amount to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

Tower = Literal["expert", "language", "both"]
_TOWERS: dict[Tower, str] = {
    "expert": r"gemma_expert\.model",
    "language": r"paligemma\.model\.language_model",
    "both": r"(gemma_expert\.model|paligemma\.model\.language_model)",
}
_ADAPTER = "default"
_MARK = f".lora_A.{_ADAPTER}.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """W x becomes W x + (lora_alpha / lora_rank) B A x (Hu et al., 2106.09685, eq. 3); W is frozen, B starts at 0.

    No dropout: the sampler and the loss must be the same function.
    """

    lora_tower: Tower = "expert"
    """Where adapters go: the action expert, the language model, or both. Without the latter the prefix is constant."""
    lora_rank: int = 16
    lora_alpha: float = 16.0
    lora_mlp: bool = False
    """Adapt the feed-forward maps as well as the attention's four."""

    def __post_init__(self) -> None:
        if self.lora_tower not in get_args(Tower):
            raise ValueError(f"LoraConfig.lora_tower must be expert, language or both, got {self.lora_tower!r}.")
        if self.lora_rank < 1:
            raise ValueError(f"LoraConfig.lora_rank must be 1 or more, got {self.lora_rank}.")
        if self.lora_alpha <= 0:
            raise ValueError(f"LoraConfig.lora_alpha must be above 0, got {self.lora_alpha}.")

    @property
    def targets(self) -> str:
        """Return the expression that the names of adapted maps match."""
        maps = r"self_attn\.[qkvo]_proj" + (r"|mlp\.(gate|up|down)_proj" if self.lora_mlp else "")
        return rf".*\.{_TOWERS[self.lora_tower]}\.layers\.\d+\.({maps})"


def add_adapters(network: nn.Module, config: LoraConfig, *, seed: int = 0) -> None:
    """Put an adapter beside every map that ``config`` names, in float32 whatever the frozen weight's type.

    Outputs do not change yet. Raises ``ValueError`` if ``network`` has adapters already.
    """
    from peft import LoraConfig as PeftConfig  # 1.7 s: only where adapters are asked for
    from peft import inject_adapter_in_model

    if has_adapters(network):
        raise ValueError("This policy has adapters already: save it (they are merged) and load it again.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(
            PeftConfig(
                r=config.lora_rank,
                # peft declares an int and divides by the rank: a fraction is exact too
                lora_alpha=config.lora_alpha,  # pyright: ignore[reportArgumentType]
                target_modules=config.targets,
                lora_dropout=0.0,
            ),
            network,
            adapter_name=_ADAPTER,
        )
    for parameter in adapter_parameters(network):
        parameter.data = parameter.data.float()


def has_adapters(module: nn.Module) -> bool:
    """Return whether any map of ``module`` has an adapter."""
    return any(name.endswith(_MARK) for name, _ in module.named_parameters())


def adapter_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of all adapters."""
    return [p for name, p in module.named_parameters() if re.search(rf"\.lora_[AB]\.{_ADAPTER}\.weight$", name)]


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """Return ``module.state_dict()`` as if it had no adapters: W + (alpha / rank) B A under the name of W.

    A merged weight is float32: rounded to 16 bits it would lose most of what a small B A has learnt.
    """
    state = module.state_dict()
    for name in [key.removesuffix(_MARK) for key in state if key.endswith(_MARK)]:
        down, up = state.pop(f"{name}{_MARK}"), state.pop(f"{name}.lora_B.{_ADAPTER}.weight")
        scaling = cast(dict[str, float], module.get_submodule(name).scaling)[_ADAPTER]
        frozen = state.pop(f"{name}.base_layer.weight").float()
        state[f"{name}.weight"] = frozen + scaling * (up.float() @ down.float())
    return {_without_wrapper(name): value for name, value in state.items()}


def _without_wrapper(name: str) -> str:
    """Return the name that a tensor of an adapted map (its bias) has without the adapter."""
    return name.replace(".base_layer.", ".")
