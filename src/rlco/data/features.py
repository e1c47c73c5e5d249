"""Which features of a dataset are our picture, state and action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlco.core.errors import unknown_name
from rlco.data import layout

ALIASES = {
    layout.IMAGE_KEY: ("image", "observation.image"),
    layout.STATE_KEY: ("state",),
    layout.ACTION_KEY: ("actions",),
}
"""Other names of the same thing, known without being told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Names:
    """Names in a dataset."""

    image: str
    state: tuple[str, ...]
    """Several are joined in this order."""
    action: tuple[str, ...]


def renames(pairs: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return our name -> theirs, of pairs "theirs=ours". Raises ``ValueError`` or ``LookupError`` on one that is none.

    Ours may be said in full, or as ``image``, ``state`` or ``action``.
    """
    short = {"image": layout.IMAGE_KEY, "state": layout.STATE_KEY, "action": layout.ACTION_KEY}
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        theirs, equals, ours = pair.partition("=")
        if not (theirs and equals and ours):
            raise ValueError(f"rename takes THEIRS=OURS, for example wrist_image={layout.IMAGE_KEY}, got '{pair}'.")
        ours = short.get(ours, ours)
        if ours not in ALIASES:
            raise unknown_name("feature of ours", ours, {*ALIASES, *short})
        found[ours] = (*found.get(ours, ()), theirs)
    return found


def names_of(
    features: Mapping[str, Mapping[str, Any]], cameras: Sequence[str], *, rename: Sequence[str], folder: object
) -> Names:
    """Find them. Raises ``ValueError`` or ``LookupError`` that says what there is, and how to choose."""
    chosen = renames(rename)
    for theirs in (name for names in chosen.values() for name in names):
        if theirs not in features:
            raise LookupError(f"'{folder}': {unknown_name('feature', theirs, features)}")
    vectors = {key: chosen.get(key) or _vector(features, key, folder) for key in (layout.STATE_KEY, layout.ACTION_KEY)}
    image = _camera(cameras, chosen.get(layout.IMAGE_KEY), folder)
    return Names(image=image, state=vectors[layout.STATE_KEY], action=vectors[layout.ACTION_KEY])


def size_of(feature: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of a picture, which older datasets keep behind the channels [px]."""
    shape = list(feature["shape"])
    names = feature.get("names")
    first = names[0] if isinstance(names, list) and names else ""
    is_channels_first = str(first).startswith("channel") or (shape[0] == 3 and shape[-1] != 3)
    height, width = shape[1:] if is_channels_first else shape[:2]
    return int(height), int(width)


def _vector(features: Mapping[str, Mapping[str, Any]], key: str, folder: object) -> tuple[str, ...]:
    present = [name for name in (key, *ALIASES[key]) if name in features]
    if not present:
        raise ValueError(
            f"'{folder}' has no feature '{key}'; it has: {', '.join(features)}. Name yours with rename: THEIRS={key}."
        )
    return (present[0],)


def _camera(cameras: Sequence[str], chosen: Sequence[str] | None, folder: object) -> str:
    """Return the chosen camera, or ours, or the only one there is."""
    there = f"it has: {', '.join(cameras) or 'none'}"
    if chosen is not None:
        if len(chosen) != 1 or chosen[0] not in cameras:
            raise ValueError(f"'{folder}': rename must give one camera, got {', '.join(chosen)}; {there}.")
        return chosen[0]
    if layout.IMAGE_KEY in cameras:
        return layout.IMAGE_KEY
    if len(cameras) == 1:
        return cameras[0]
    way_out = f" Choose one with rename: {cameras[0]}={layout.IMAGE_KEY}." if cameras else ""
    raise ValueError(f"'{folder}' has no camera '{layout.IMAGE_KEY}'; {there}.{way_out}")
