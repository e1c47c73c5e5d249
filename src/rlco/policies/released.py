"""What conversion asks of a family: the layouts of other programs, and the files around their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from rlco.data.normalise import Codec
from rlco.policies.tensor_files import Entry, Shape, Tensors

Normalisation = Literal["quantile", "mean-std"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What the user says of a source: needed where its files do not say it, refused where they say otherwise.

    A family reads some of it, and what is said of another family is refused.
    """

    family: str | None = None
    horizon: int | None = None
    """Predicted control steps."""
    executed: int | None = None
    """Control steps of a chunk that are executed; the source's own by default, else the whole chunk."""
    head: str | None = None
    """OpenVLA: how it answers, autoregressive or parallel."""
    stats: Path | None = None
    """File of statistics, instead of the source's."""
    normalisation: Normalisation | None = None
    """pi0 and pi0.5: quantile or mean-std; what the source says by default, else what its family was released with."""
    floored: bool = False
    """pi0 and pi0.5: of statistics that are read: widen dimensions that hardly moved to our least ranges."""
    unnorm_key: str | None = None
    """OpenVLA: which entry of ``norm_stats`` is read, or written."""
    gripper: str | None = None
    """OpenVLA: what the source's gripper command means; the released convention by default."""
    crop_area: float | None = None
    """OpenVLA: it was trained on random crops of this share of the picture."""
    state_clip: float | None = None
    """Cut normalised states to +- this; by default as the source does, a released one not at all. 0: not at all."""
    tokenizer: Path | None = None
    """A tokenizer.json, instead of the source's."""
    prompt: str | None = None
    """A prompt style; what the source says by default, else the family's own."""
    camera: Mapping[str, str] = field(default_factory=dict)
    """Published slot -> our camera; the source's own by default, else the front camera in the first slot."""

    def given(self) -> set[str]:
        """Return the names of the fields that say something."""
        return {f.name for f in fields(self) if getattr(self, f.name) not in (None, False, {})}


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """Everything of a checkpoint but its tensors."""

    config: Any
    interface: Any
    notes: Mapping[str, str] = field(default_factory=dict)
    """What was decided where the files leave a choice: name -> what."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Released:
    """A family's exchange with other programs."""

    prefixes: Mapping[str, str]
    """Layout -> what its tensor names begin with."""
    reads: frozenset[str]
    """The fields of ``Told`` that say something of this family alone."""
    describe: Callable[[Path, Mapping[str, Shape], Told], Described]
    """Of a released checkpoint: sizes from the shapes, the rest from its files and the user."""
    adjust: Callable[[Path, Described, Told, str], Described]
    """A description that is there (in the folder), with what the user says otherwise; and the layout to write."""
    names: Callable[[Tensors, Mapping[str, str]], dict[str, str]]
    """From public name -> name in the file, as found, to those of our network and what is carried."""
    require_kept: Callable[[str, Path, Described], None]
    """Raise ``ValueError`` for what the layout has no place for."""
    write: Callable[[str, Path, Described, Mapping[str, Entry], Told], None]
    """Write the files of a layout beside the weights, whose types and shapes are given by public name."""


def depth_of(shapes: Mapping[str, Shape], prefix: str) -> int:
    """Return how many layers, which are numbered behind ``prefix``, there are."""
    return len({name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)})


def clipped(codec: Codec, told: Told) -> Codec:
    """Return ``codec`` with the clip that the user says."""
    # 0 becomes None
    return codec if told.state_clip is None else replace(codec, state_clip=told.state_clip or None)


def require_statistics_read(side: Path, told: Told, said: Mapping[str, object]) -> None:
    """Raise ``ValueError`` for what is said (option -> value) of statistics where none are read."""
    words = [option if value is True else f"{option} {value}" for option, value in said.items() if value]
    if words and told.stats is None:
        raise ValueError(
            f"'{side}' has a normalisation of its own, of which {' and '.join(words)} changes nothing: give it with "
            "--stats FILE only."
        )
