"""The policies there are, and conversion between the layouts of their checkpoints."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from rlco.policies.catalogue import Card


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write a checkpoint in another layout: ours, openpi's or lerobot's (pi0, pi0.5), or OpenVLA's. No bit of a weight
    changes.

    The options say what the files of a released checkpoint do not.
    """

    source: Annotated[Path, tyro.conf.Positional]
    """A checkpoint folder, in any of the layouts. Nothing in it is changed."""
    destination: Annotated[Path, tyro.conf.Positional]
    """Where the checkpoint is written; must not exist."""
    to: Literal["rlco", "openpi", "lerobot", "openvla"]
    """The layout to write."""
    stats: Path | None = None
    """openpi's norm_stats.json, lerobot's policy_preprocessor.json, a dataset's meta/stats.json, or OpenVLA's
    dataset_statistics.json; the source's own by default."""
    normalisation: Literal["quantile", "mean-std"] | None = None
    """pi0, pi0.5: what the source says by default, else what its family was released with."""
    floored: bool = False
    """pi0, pi0.5: widen dimensions that hardly moved in those statistics to least ranges (ours; not what was trained
    with)."""
    unnorm_key: str | None = None
    """OpenVLA: which dataset's statistics are the policy's units; needed where there are several. To openvla: the name
    that they are written under, rlco by default."""
    gripper: Literal["open1-closed0", "open1-closed-1", "open0-closed1", "open-1-closed1"] | None = None
    """OpenVLA: what the gripper's number means in the data that the source was trained on; what the source says by
    default, else open1-closed0, as in the released model."""
    crop_area: float | None = None
    """OpenVLA: the source was trained on random crops of this share of the picture (0.9 upstream): it will see the
    centre of it."""
    head: Literal["autoregressive", "parallel"] | None = None
    """OpenVLA: answer token after token, or with a chunk of --horizon steps in one pass; the source's own by
    default, else the former."""
    state_clip: float | None = None
    """Cut normalised states to +- this (ours; not what was trained with); 0 takes the source's cut away. Refused
    where the policy reads no state, as released OpenVLA."""
    tokenizer: Path | None = None
    """PaliGemma's tokenizer.json (pi0, pi0.5) or Llama 2's (OpenVLA); the source's own by default."""
    prompt: Literal["pi05", "pi05_padded32", "plain", "openvla", "v01"] | None = None
    """pi05_padded32: fine-tuned with lerobot up to 0.4.4. plain: no state in it (pi0, openpi's pi05_libero). v01:
    OpenVLA's first checkpoint. The source's own by default, else that of its family."""
    camera: tuple[str, ...] = ()
    """SLOT=NAME, for example left_wrist_0_rgb=wrist: which camera of ours fills which published slot. The source's own
    by default, else base_0_rgb=front, or image=front for OpenVLA."""
    family: Literal["pi05", "pi0", "openvla"] | None = None
    """Refuse a source of another family."""
    horizon: int | None = None
    """Predicted control steps; needed where the source does not say them, and for OpenVLA's parallel head."""
    executed: int | None = None
    """Control steps of a chunk that are executed; the source's own by default, else all of them."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """See the overview."""
        from rlco.core.progress import progress
        from rlco.policies.convert import convert
        from rlco.policies.released import Told

        told = Told(
            family=self.family,
            horizon=self.horizon,
            executed=self.executed,
            stats=self.stats,
            normalisation=self.normalisation,
            floored=self.floored,
            unnorm_key=self.unnorm_key,
            gripper=self.gripper,
            crop_area=self.crop_area,
            head=self.head,
            state_clip=self.state_clip,
            tokenizer=self.tokenizer,
            prompt=self.prompt,
            camera=slots(self.camera),
        )
        # how many there are is told with the first of them
        with progress("convert", total=1, unit="tensor") as bar:
            found = convert(self.source, self.destination, self.to, told, reporter=bar)
        said = {
            "source": f"{self.source} ({found.layout})",
            "destination": f"{self.destination} ({self.to})",
            "family": found.config.family,
            "tensors": len(found.names),
            "horizon": f"{found.config.horizon}, {found.config.executed} executed",
            "image [pixels]": found.config.image_size,
            "prompt": f"{found.interface.prompt}, at most {found.config.prompt_length} tokens",
            "cameras": ", ".join(f"{slot}={name}" for slot, name in found.interface.cameras.items()),
            **found.described.notes,
        }
        print(json.dumps(said, indent=2) if self.json else "\n".join(f"{k}: {v}" for k, v in said.items()))


Subcommand = (
    Annotated[Convert, tyro.conf.subcommand("convert", prefix_name=False)]
    | Annotated[None, tyro.conf.subcommand("list", prefix_name=False)]
)


@dataclass(frozen=True, kw_only=True)
class Policies:
    """Arguments of ``rlco policies``. Without a sub-command it lists the policies."""

    json: bool = False
    """Print the list as JSON."""
    command: Annotated[Subcommand, tyro.conf.arg(name="")] = None

    def run(self) -> None:
        """See the overview."""
        if self.command is not None:
            self.command.run()
            return
        from rlco.policies.catalogue import catalogue

        cards = catalogue()
        if self.json:
            print(json.dumps({card.name: asdict(card) for card in cards}, indent=2))
        else:
            print("\n\n".join(text_of(card) for card in cards))


def slots(given: tuple[str, ...]) -> dict[str, str]:
    """Return slot -> camera. Raises ``ValueError`` for a word that is not ``SLOT=NAME``, or a slot given twice."""
    pairs = [word.partition("=") for word in given]
    for word, (slot, equals, name) in zip(given, pairs, strict=True):
        if not (slot and equals and name):
            raise ValueError(f"--camera takes SLOT=NAME, for example base_0_rgb=front, got '{word}'.")
    found = {slot: name for slot, _, name in pairs}
    if len(found) < len(pairs):
        raise ValueError(f"--camera names a slot twice: {' '.join(given)}.")
    return found


def text_of(card: Card) -> str:
    """Return a card as lines of a name and its value."""
    lines: dict[str, Any] = {
        "parameters": f"{card.parameters:,}, of them {card.expert_parameters:,} in the expert",
        "sees": f"pictures of {card.image_px} x {card.image_px}; prompt '{card.prompt}' of {card.prompt_tokens} tokens",
        "predicts": f"{card.horizon} control step{'s' * (card.horizon > 1)}",
        "memory": f"inference {_size(card.inference_bytes)}, LoRA {_size(card.lora_bytes)}, expert only "
        f"{_size(card.expert_bytes)}, full training {_size(card.full_bytes)}; activations come on top",
        "weights": card.start,
    }
    return "\n".join([f"{card.name} ({card.family})", *(f"  {name:<10} {value}" for name, value in lines.items())])


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
