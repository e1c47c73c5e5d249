"""LoRA: small trainable maps beside frozen weights, and the weights that they amount to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

Tower = Literal["expert", "language", "both", "all"]
Init = Literal["kaiming", "gaussian"]
LARGE = 1024
"""Width of a language model from which a policy is trained through adapters unless something else is asked for."""
_LAYER_MAPS = {False: r"self_attn\.[qkvo]_proj", True: r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"}
_ADAPTER = "default"
_MARK = f".lora_A.{_ADAPTER}.weight"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraConfig:
    """W x becomes W x + (lora_alpha / lora_rank) B A x (Hu et al., 2106.09685, eq. 3); W is frozen, B starts at 0.

    None stands for the policy's own value, which its configuration's ``lora`` fills in. No dropout: the sampler and
    the loss must be the same function.
    """

    lora_tower: Tower | None = None
    """Where adapters go: the action expert, the language model, both, or every map that was published. None: expert for
    pi0 and pi0.5, all for OpenVLA, which has no expert. The prefix is constant where none is upstream of it and the
    size adds no grounding token, which learns in full."""
    lora_rank: int | None = None
    """None: 16 for pi0 and pi0.5, 32 for OpenVLA."""
    lora_alpha: float | None = None
    """None: 16 for pi0 and pi0.5, the rank up to 16 for OpenVLA."""
    lora_mlp: bool = False
    """Adapt the feed-forward maps as well as the attention's four; ``all`` has them anyway."""
    lora_init: Init | None = None
    """How A starts: uniform with deviation 1 / sqrt(3 inputs), or normal with deviation 1 / rank. None: kaiming for
    pi0 and pi0.5, gaussian for OpenVLA."""

    def __post_init__(self) -> None:
        for name, known in (("lora_tower", get_args(Tower)), ("lora_init", get_args(Init))):
            if getattr(self, name) not in (None, *known):
                raise ValueError(f"LoraConfig.{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"LoraConfig.lora_rank must be 1 or more, got {self.lora_rank}.")
        if self.lora_alpha is not None and self.lora_alpha <= 0:
            raise ValueError(f"LoraConfig.lora_alpha must be above 0, got {self.lora_alpha}.")

    def filled(self, *, tower: Tower, rank: int, alpha: float, init: Init) -> LoraConfig:
        """Return the same with these values where none is given."""
        return replace(
            self,
            lora_tower=self.lora_tower or tower,
            lora_rank=self.lora_rank or rank,
            lora_alpha=self.lora_alpha or alpha,
            lora_init=self.lora_init or init,
        )

    def pattern(self, towers: Mapping[Tower, str], *, family: str) -> str:
        """Return the expression that the names of adapted maps match as a whole.

        ``towers`` are such expressions, with ``{maps}`` for a layer's. Raises ``ValueError`` where there is none.
        """
        if self.lora_tower is None or self.lora_tower not in towers:
            known = ", ".join(towers)
            raise ValueError(f"LoraConfig.lora_tower must be one of {known} for {family}, got {self.lora_tower!r}.")
        return towers[self.lora_tower].format(maps=_LAYER_MAPS[self.lora_mlp])


def linear_maps(network: nn.Module, pattern: str, *, without: Sequence[nn.Parameter]) -> list[str]:
    """Return the names of the linear maps that ``pattern`` matches as a whole, but those of the weights ``without``."""
    others = {id(parameter) for parameter in without}
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(pattern, name) and id(module.weight) not in others
    ]


def add_adapters(network: nn.Module, config: LoraConfig, *, maps: Sequence[str], seed: int = 0) -> None:
    """Put an adapter beside each of ``maps``, in float32 whatever the frozen weight's type.

    ``config`` has all its values. Outputs do not change yet. Raises ``ValueError`` if ``network`` has adapters already.
    """
    from peft import LoraConfig as PeftConfig  # 1.7 s: only where adapters are asked for
    from peft import inject_adapter_in_model

    if has_adapters(network):
        raise ValueError("This policy has adapters already: save it (they are merged) and load it again.")
    assert config.lora_rank is not None
    assert config.lora_alpha is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(
            PeftConfig(
                r=config.lora_rank,
                # peft declares an int and divides by the rank: a fraction is exact too
                lora_alpha=config.lora_alpha,  # pyright: ignore[reportArgumentType]
                target_modules="|".join(re.escape(name) for name in maps),
                lora_dropout=0.0,
                init_lora_weights="gaussian" if config.lora_init == "gaussian" else True,
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
