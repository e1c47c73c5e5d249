"""``norm_stats`` of OpenVLA: how actions were normalised, and what the gripper's number means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rlco.core.errors import unknown_name
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.checkpoint import CONFIG, read_object
from rlco.policies.fields import as_flag, as_list, as_number, as_object, as_text

T = TypeVar("T")
EPSILON = 1e-8
"""a_n = 2 (a - q01) / (q99 - q01 + EPSILON) - 1."""
STATISTICS = "dataset_statistics.json"
"""What a fine-tune writes beside its weights: it then counts, and not the pretraining's in ``config.json``."""
WRITTEN_KEY = "rlco"
GRIPPER_DIM = 6
GRIPPERS = {
    "open1-closed0": (1.0, 0.0),
    "open1-closed-1": (1.0, -1.0),
    "open0-closed1": (0.0, 1.0),
    "open-1-closed1": (-1.0, 1.0),
}
"""Convention -> the number that opens the gripper, and the one that closes it. Ours: open1-closed-1."""
_BELOW_RELEASED = -0.5
"""A gripper that goes below this is not the release's, which goes from 0 to 1."""
RELEASED_GRIPPER, OUR_GRIPPER, OUR_GRIPPER_INVERTED = "open1-closed0", "open1-closed-1", "open-1-closed1"
_UNREAD_STATE = Normaliser(low=(-1.0,) * STATE_DIM, high=(1.0,) * STATE_DIM, centred=True)
"""Released OpenVLA reads no state: it stays in SI units."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActionStatistics:
    """An entry's ``action``: seven numbers each, in the source's units."""

    q01: tuple[float, ...]
    q99: tuple[float, ...]
    mask: tuple[bool, ...]
    """False: the dimension is not normalised."""
    constant: tuple[bool, ...]
    """Its minimum is its maximum: it is normalised to 0."""

    def codec(self, *, gripper: str) -> Codec:
        """Return how our units become the network's; ``gripper`` is a name in ``GRIPPERS``."""
        bounds = [self._bounds(i) for i in range(ACTION_DIM)]
        opened, closed = GRIPPERS[gripper]
        centre, half = (opened + closed) / 2, (opened - closed) / 2
        low, high = ((bound - centre) / half for bound in bounds[GRIPPER_DIM])
        bounds[GRIPPER_DIM] = (min(low, high), max(low, high))
        action = Normaliser(
            low=tuple(low for low, _ in bounds),
            high=tuple(high for _, high in bounds),
            centred=True,  # a constant dimension far from 0 stays exact
            flipped=(GRIPPER_DIM,) if half < 0 else (),
        )
        return Codec(state=_UNREAD_STATE, action=action)

    def _bounds(self, i: int) -> tuple[float, float]:
        """Return what becomes -1 and 1, in the source's units."""
        if not self.mask[i]:
            return -1.0, 1.0
        if self.constant[i]:
            return self.q01[i] - EPSILON / 2, self.q01[i] + EPSILON / 2
        return self.q01[i], self.q99[i] + EPSILON


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundCodec:
    """Units of a source, and what was decided about them."""

    codec: Codec
    key: str
    gripper: str


def find_codec(path: Path, *, key: str | None, gripper: str | None) -> FoundCodec:
    """Read the units from a file, or from a checkpoint folder; ``key`` and ``gripper`` are what the user says.

    Raises ``LookupError`` that lists the keys, ``ValueError`` in one line for anything else that is wrong.
    """
    source = _statistics_in(path) if path.is_dir() else path
    if not source.is_file():
        raise ValueError(f"There are no statistics at '{source}': the file does not exist.")
    value = read_object(source)
    found = as_object(value.get("norm_stats", value), "norm_stats", source=f"'{source}'")
    entries = {name: entry for name, entry in found.items() if isinstance(entry, dict) and "action" in entry}
    if not entries:
        raise ValueError(f"'{source}' has no norm_stats of actions: give OpenVLA's {STATISTICS} (--stats FILE).")
    if key is None and len(entries) > 1:
        raise ValueError(
            f"'{source}' has {len(entries)} sets of statistics, say which: --unnorm-key {_listed(entries)}."
        )
    name = next(iter(entries)) if key is None else key
    if name not in entries:
        raise unknown_name("unnorm_key", name, entries)
    place = f"'{source}' ({name})"
    statistics = _action_statistics(entries[name], source=place)
    said = _gripper_of(entries[name], gripper, lowest=statistics.q01[GRIPPER_DIM], source=place)
    return FoundCodec(codec=statistics.codec(gripper=said), key=name, gripper=said)


def norm_stats(codec: Codec, *, key: str) -> dict[str, Any]:
    """Return ``norm_stats`` under which OpenVLA's formula is ``codec``'s: the map, not measurements.

    ``gripper`` beside ``action`` is ours: other programs pass it over, and we read it.
    """
    action = codec.action
    low, high, mask = list(action.low), list(action.high), [True] * ACTION_DIM
    gripper = OUR_GRIPPER
    if GRIPPER_DIM in action.flipped:
        gripper, low[GRIPPER_DIM], high[GRIPPER_DIM] = OUR_GRIPPER_INVERTED, -high[GRIPPER_DIM], -low[GRIPPER_DIM]
    for name in GRIPPERS:
        raw = _raw_gripper(name)
        if raw == (action.low[GRIPPER_DIM], action.high[GRIPPER_DIM], GRIPPER_DIM in action.flipped):
            gripper, mask[GRIPPER_DIM] = name, False
    constant = [b - a <= 1.5 * EPSILON for a, b in zip(low, high, strict=True)]
    pairs = list(zip(low, high, constant, strict=True))
    q01 = [(a + b) / 2 if same else a for a, b, same in pairs]
    q99 = [(a + b) / 2 if same else b - EPSILON for a, b, same in pairs]
    if not mask[GRIPPER_DIM]:
        q01[GRIPPER_DIM], q99[GRIPPER_DIM] = sorted(GRIPPERS[gripper])
    mean = [(a + b) / 2 for a, b in zip(q01, q99, strict=True)]
    std = [(b - a) / 2 for a, b in zip(q01, q99, strict=True)]
    figures = {"mean": mean, "std": std, "min": q01, "max": q99, "q01": q01, "q99": q99, "mask": mask}
    return {key: {"action": figures, "gripper": gripper}}


def _raw_gripper(name: str) -> tuple[float, float, bool]:
    """Return low, high and sign of a gripper that is not normalised."""
    nothing = ActionStatistics(
        q01=(0.0,) * ACTION_DIM, q99=(1.0,) * ACTION_DIM, mask=(False,) * ACTION_DIM, constant=(False,) * ACTION_DIM
    )
    action = nothing.codec(gripper=name).action
    return action.low[GRIPPER_DIM], action.high[GRIPPER_DIM], bool(action.flipped)


def _statistics_in(folder: Path) -> Path:
    for name in (STATISTICS, CONFIG):
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"'{folder}' has neither {STATISTICS} nor {CONFIG}: give OpenVLA's statistics (--stats FILE).")


def _gripper_of(entry: Mapping[str, Any], told: str | None, *, lowest: float, source: str) -> str:
    """Return what is said, or the convention of the release where the data do not speak against it."""
    said = entry.get("gripper")
    said = None if said is None else as_text(said, "gripper", source=source)
    for name in (told, said):
        if name is not None and name not in GRIPPERS:
            raise unknown_name("gripper convention", name, GRIPPERS)
    if None not in (told, said) and told != said:
        raise ValueError(f"{source} says that its gripper is {said}, not {told} (--gripper).")
    if told is None and said is None and lowest < _BELOW_RELEASED:
        others = ", ".join(name for name in GRIPPERS if "-1" in name)
        raise ValueError(
            f"{source} has a gripper that goes down to {lowest:g}, not from 0 to 1 as released: say what its numbers "
            f"mean, --gripper {others}."
        )
    return told or said or RELEASED_GRIPPER


def _action_statistics(entry: Mapping[str, Any], *, source: str) -> ActionStatistics:
    figures = as_object(entry["action"], "action", source=source)
    if missing := [name for name in ("q01", "q99") if name not in figures]:
        raise ValueError(
            f"{source} has no {' and '.join(missing)} of the action, which OpenVLA normalises by; it has "
            f"{', '.join(figures) or 'nothing'}."
        )
    q01, q99 = (_seven(figures, name, each=as_number, source=source) for name in ("q01", "q99"))
    # as upstream: without a mask everything is normalised
    mask = _seven(figures, "mask", each=as_flag, source=source) if "mask" in figures else (True,) * ACTION_DIM
    names = ("min", "max") if {"min", "max"} <= figures.keys() else ("q01", "q99")
    bounds = (_seven(figures, name, each=as_number, source=source) for name in names)
    constant = tuple(a == b for a, b in zip(*bounds, strict=True))
    if wrong := [i for i in range(ACTION_DIM) if mask[i] and not q01[i] <= q99[i]]:
        raise ValueError(f"{source} has q01 above q99 in dimension {wrong[0]} of the action: no range.")
    return ActionStatistics(q01=q01, q99=q99, mask=mask, constant=constant)


def _seven(figures: Mapping[str, Any], name: str, *, each: Callable[..., T], source: str) -> tuple[T, ...]:
    found = as_list(figures[name], f"action.{name}", source=source)
    values = tuple(each(x, f"action.{name}[{i}]", source=source) for i, x in enumerate(found))
    if len(values) != ACTION_DIM:
        raise ValueError(
            f"{source} has {len(values)} dimensions of the action ({name}), ours has {ACTION_DIM}: a policy for "
            "another robot or other actions."
        )
    return values


def _listed(entries: Mapping[str, Any]) -> str:
    return ", ".join(sorted(entries))
