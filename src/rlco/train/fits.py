"""Compare what a stage needs with what the machine has, and say what would help."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import psutil
import torch

from rlco.train.memory import Load, Needs, needs

USABLE = 0.95
"""Share of the free memory that a stage may plan with: no allocator fills it to the last byte."""
_FEW = 0.25
"""A stage below this share of the usable memory says so in one line."""


class DoesNotFitError(ValueError):
    """A stage needs more memory than there is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Another way to run the same stage, as it is typed."""

    flags: str
    load: Load


def require_fits(stage: str, load: Load) -> None:
    """Print what ``stage`` needs, to stderr. Raises ``DoesNotFitError``, which names what would fit."""
    need, usable = needs(load), usable_bytes(load.compute.device)
    if need.total <= usable:
        print(
            _line(stage, need, usable) if need.total < _FEW * usable else _table(stage, need, usable), file=sys.stderr
        )
        return
    parts = ", ".join(f"{name} {_size(size)}" for name, size in _parts(need))
    print(f"memory: {stage} does not fit; trying what would", file=sys.stderr)
    raise DoesNotFitError(
        f"{stage} needs {_size(need.total)} of memory ({parts}), {_size(usable)} are free. {_advice(load, usable)}"
    )


def usable_bytes(device: str) -> int:
    """Return the memory that a stage may plan with: of the graphics card, or of this process's machine or container."""
    if torch.device(device).type == "cuda":
        return int(USABLE * torch.cuda.mem_get_info(device)[0])
    free = [psutil.virtual_memory().available, *container_room()]
    return int(USABLE * min(free))


def container_room(root: Path = Path("/")) -> list[int]:
    """Return what each memory limit around this process leaves, in bytes; nothing where there is none."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    room = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        base = root / "sys/fs/cgroup" / ("memory" if "memory" in controllers.split(",") else "")
        if controllers and base.name != "memory":
            continue
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
        for folder in _upwards(base, path):
            room += _room(folder, *names)
    return room


def alternatives(load: Load) -> list[Change]:
    """Return single changes that take less memory, the one that costs least in time or result first."""
    compute = load.compute
    changes = []
    if load.trainable == "all":
        changes.append(Change(flags="--trainable expert", load=replace(load, trainable="expert")))
    if load.trainable != "lora":
        changes.append(Change(flags="--trainable lora", load=replace(load, trainable="lora")))
    if compute.precision == "float32":
        lower = replace(compute, precision="bfloat16")
        changes.append(Change(flags="--precision bfloat16", load=replace(load, compute=lower)))
    if not compute.gradient_checkpointing:
        again = replace(compute, gradient_checkpointing=True)
        changes.append(Change(flags="--gradient-checkpointing", load=replace(load, compute=again)))
    if compute.prefix_cache_gb and (load.experience or load.real_frames):
        none = replace(compute, prefix_cache_gb=0.0)
        changes.append(Change(flags="--prefix-cache-gb 0", load=replace(load, compute=none)))
    if max(load.samples, load.decisions) > 1:
        changes.append(smaller(load, divisor=8))
    return changes


def smaller(load: Load, *, divisor: int) -> Change:
    """Return the same with a part of the samples in each step."""
    samples, decisions = (-(-n // divisor) for n in (load.samples, load.decisions))
    less = replace(load, samples=samples, decisions=decisions)
    if not load.decisions:
        return Change(flags=f"--batch-size {samples}", load=less)
    return Change(flags=f"--minibatch {decisions}" + f" --sft-batch-size {samples}" * (samples > 0), load=less)


def combinations(load: Load) -> list[Change]:
    """Return changes of several options at once, from the mildest to the one that takes least."""
    fewer = smaller(load, divisor=8)
    cheap = replace(load.compute, precision="bfloat16", gradient_checkpointing=True, prefix_cache_gb=0.0)
    flags = "--precision bfloat16 --gradient-checkpointing"
    if load.experience or load.real_frames:
        flags += " --prefix-cache-gb 0"
    least = replace(fewer.load, compute=cheap)
    return [
        Change(flags=flags, load=replace(load, compute=cheap)),
        Change(flags=f"{flags} {fewer.flags}", load=least),
        Change(flags=f"--trainable lora {flags} {fewer.flags}", load=replace(least, trainable="lora")),
    ]


def _advice(load: Load, usable: int) -> str:
    """Return a sentence that names what fits, tried out: single changes, or several where none is enough."""
    tried = [(change.flags, needs(change.load).total) for change in alternatives(load)]
    short = ", ".join(f"{flags} ({_size(total)})" for flags, total in tried if total > usable)
    fitting = [(flags, total) for flags, total in tried if total <= usable]
    if not fitting:
        several = ((change.flags, needs(change.load).total) for change in combinations(load))
        fitting = [next(((flags, total) for flags, total in several if total <= usable), ("", 0))]
    if fitting == [("", 0)]:
        return f"Nothing makes it fit here. Not enough: {short}, nor all of them together."
    would = " or ".join(f"{flags} ({_size(total)})" for flags, total in fitting)
    return f"It would fit with {would}." + f" Not enough alone: {short}." * bool(short)


def _parts(need: Needs) -> Iterator[tuple[str, int]]:
    for f in fields(Needs):
        if size := getattr(need, f.name):
            yield f.name, size


def _line(stage: str, need: Needs, usable: int) -> str:
    return f"memory: {stage} needs {_size(need.total)} of {_size(usable)}"


def _table(stage: str, need: Needs, usable: int) -> str:
    rows = [f"  {name:<12}{_size(size):>9}" for name, size in _parts(need)]
    return "\n".join([f"memory: {stage}", *rows, f"  {'total':<12}{_size(need.total):>9} of {_size(usable)}"])


def _upwards(base: Path, path: str) -> Iterator[Path]:
    """Yield the group's folder and those above it: each may have a limit."""
    folder = base / path.lstrip("/")
    while True:
        yield folder
        if folder == base or base not in folder.parents:
            return
        folder = folder.parent


def _room(folder: Path, limit: str, usage: str) -> list[int]:
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return []
    if most == "max" or int(most) >= 2**60:  # no limit, in version 2 and 1
        return []
    # pages of files that were read are given back when memory is asked for
    return [int(most) - used + int(statistics.get("inactive_file", 0))]


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
