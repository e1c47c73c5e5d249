"""What learns and how it is computed: the options that make a large policy fit."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from rlco.policies.adapters import LoraConfig, has_adapters
from rlco.policies.contract import AnyPolicy, Trainable
from rlco.policies.families import PolicyConfig, family

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Precision = Literal["float32", "bfloat16"]
_YOUNGER = {"lora_init": "kaiming", "crop_area": None, "value_huber": 1.0, "random_look": False}
"""Options that the first records of runs do not have, with the value by which they change nothing there: what it was
then, whatever the default is now."""
_EXPLORED = {"flow": "exploration"}
"""Part of an exploration -> its name in records, where that is another."""
_MAY_CHANGE = ("device", "gradient_checkpointing", "compile", "prefix_cache_gb")


@dataclass(frozen=True, kw_only=True, slots=True)
class ComputeConfig:
    """Options of Stage I and Stage II alike. Only ``precision`` and ``lora`` change what is learnt."""

    device: str = "cpu"
    """Where the policy is trained: cpu, cuda or cuda:N. Draws are made on the CPU whatever it is."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapters of ``trainable lora``."""
    precision: Precision = "float32"
    """Of the layers. ``bfloat16`` halves weights and activations; steps are taken in float32 all the same."""
    gradient_checkpointing: bool = False
    """Keep no activations inside the layers, compute them again in the backward pass."""
    compile: bool = False
    """Compile the layers: minutes at the first step, then less time at full size on an accelerator."""
    prefix_cache_gb: float = 4.0
    """Prefixes of real frames, and those of Stage II's experience, are kept while each fits in this many GB."""

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"ComputeConfig.precision must be float32 or bfloat16, got {self.precision!r}.")
        require_device("ComputeConfig.device", self.device)
        if self.prefix_cache_gb < 0:
            raise ValueError(f"ComputeConfig.prefix_cache_gb must be 0 or more, got {self.prefix_cache_gb}.")

    @property
    def prefix_cache_bytes(self) -> int:
        """Return the budget of one cache in bytes."""
        return int(self.prefix_cache_gb * 1e9)

    def for_policy(self, policy: PolicyConfig, trainable: Trainable) -> ComputeConfig:
        """Return the same with the policy's own adapters where None stands for them.

        Raises ``ValueError`` for a tower that the policy has not, or an option of adapters where none are trained.
        """
        own = policy.lora(self.lora)
        usual = policy.lora(LoraConfig())
        if trainable != "lora" and own != usual:
            name = next(f.name for f in fields(own) if getattr(own, f.name) != getattr(usual, f.name))
            raise ValueError(f"{name} is {getattr(own, name)}, but --trainable {trainable} has no adapters: give lora.")
        return replace(self, lora=own)

    def prepare(self, policy: AnyPolicy, trainable: Trainable) -> None:
        """Bring ``policy`` to its device and into its form, once, before an optimiser is made."""
        self.arrange(policy, trainable)  # before it moves: the device never holds the 32-bit weights
        policy.to(self.device)
        if self.compile:
            policy.network.compile_layers()

    def require_prepared(self, policy: AnyPolicy, trainable: Trainable) -> None:
        """Raise ``ValueError`` for a policy that is not in the form of ``prepare``: another part of it would learn."""
        has_precision = (policy.layer_dtype == torch.bfloat16) == (self.precision == "bfloat16")
        has_part = has_adapters(policy) == (trainable == "lora")
        if trainable != "lora":  # whether its prefix learns depends on where the adapters are
            has_part = has_part and policy.prefix_trains == (trainable == "all")
        if not (has_precision and has_part):
            raise ValueError(
                f"The policy is not set up to train '{trainable}' in {self.precision}: call "
                "config.prepare(policy) first."
            )

    def arrange(self, policy: AnyPolicy, trainable: Trainable) -> None:
        """Bring ``policy`` into its form, where it is."""
        if self.precision == "bfloat16":
            policy.network.to_bfloat16()  # before adapters, which stay in float32
        policy.set_trainable(trainable, lora=self.lora)
        policy.network.set_recompute(recompute=self.gradient_checkpointing)


def identity(config: DataclassInstance, policy: PolicyConfig) -> dict[str, Any]:
    """Return the values of a stage's configuration that decide what ``policy`` learns, as plain values.

    The others may change when a stage goes on: where it runs, what is computed again, what is kept in memory, how often
    it is saved. An option that is younger than the records of runs is left out where it changes nothing, and so is how
    other families explore.
    """
    values = {name: value for name, value in asdict(config).items() if name != "save_every"}
    compute = {name: value for name, value in values["compute"].items() if name not in _MAY_CHANGE}
    compute["lora"] = _without_younger(compute["lora"])
    if "exploration" in values:
        explored = values.pop("exploration")
        values |= {_EXPLORED.get(part, part): explored[part] for part in family(policy.family).explores_by}
    return _without_younger({**values, "compute": compute})


def _without_younger(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if (name, value) not in _YOUNGER.items()}


def usual_device() -> str:
    """Return the accelerator where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def require_device(name: str, device: str) -> None:
    """Raise ``ValueError`` unless ``device`` can be meant and is there."""
    try:
        kind = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"{name} must be cpu, cuda or cuda:N, got {device!r}.") from error
    if kind.type not in ("cpu", "cuda"):
        raise ValueError(f"{name} must be cpu, cuda or cuda:N, got {device!r}.")
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{name} is {device!r}, but {torch.cuda.device_count()} CUDA devices are here.")


def require_trainable(owner: str, trainable: str | None) -> None:
    """Raise ``ValueError`` unless it names a part of a policy, or leaves it to the policy."""
    if trainable not in (None, *get_args(Trainable)):
        raise ValueError(f"{owner}.trainable must be one of {', '.join(get_args(Trainable))}, got {trainable!r}.")
