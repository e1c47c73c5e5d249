"""Statistics of other programs: lerobot's processor files and dataset statistics, openpi's ``norm_stats.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rlco.core.files import write_json
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data.normalise import ACTION_RANGE_FLOOR, STATE_RANGE_FLOOR, Codec, Normaliser
from rlco.policies.checkpoint import read_object
from rlco.policies.pi.config import Family
from rlco.policies.released import Normalisation
from rlco.policies.tensor_files import Entry, TensorFile, write_tensors

NORMALISATION_OF_FAMILY: dict[Family, Normalisation] = {"pi05": "quantile", "pi0": "mean-std"}
"""What the released models were trained with."""
OPENPI_EPSILON, LEROBOT_EPSILON = 1e-6, 1e-8
NORM_STATS, PREPROCESSOR, POSTPROCESSOR = "norm_stats.json", "policy_preprocessor.json", "policy_postprocessor.json"
_LEROBOT_MODES: dict[str, Normalisation] = {"QUANTILES": "quantile", "MEAN_STD": "mean-std"}
_MODES_OF_LEROBOT = {normalisation: mode for mode, normalisation in _LEROBOT_MODES.items()}
_KEEPING_STEPS = {
    "rename_observations_processor",
    "to_batch_processor",
    "normalizer_processor",
    "unnormalizer_processor",
    "pi0_new_line_processor",
    "pi05_prepare_state_tokenizer_processor_step",
    "tokenizer_processor",
    "device_processor",
}
"""lerobot's steps that do what we do too, or nothing to the values."""
_SWITCHED_STEPS = {"relative_actions_processor", "absolute_actions_processor"}
"""lerobot's steps that are written down also where they are switched off."""
_PARTS = {"state": ("observation.state", "STATE", STATE_DIM), "action": ("action", "ACTION", ACTION_DIM)}
"""Ours -> lerobot's feature, its kind of feature, our dimensions."""

Figures = Mapping[str, Sequence[float]]
"""mean, std, q01, q99 ... -> one number a dimension."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """Statistics as a file gives them."""

    source: Path
    state: Figures
    action: Figures
    epsilon: float
    modes: Mapping[str, Normalisation]
    """How "state" and "action" are normalised, where the file says it."""
    is_lerobot: bool

    def codec(self, normalisation: Normalisation, *, floored: bool = False) -> Codec:
        """Return the codec; ``normalisation`` is used where the file does not say it.

        ``floored``: dimensions that hardly moved are widened to our least ranges, which the published formulas do not.

        Raises ``ValueError`` that names the missing figures, or both numbers of dimensions.
        """
        return Codec(
            state=self._normaliser("state", self.state, normalisation, STATE_RANGE_FLOOR if floored else None),
            action=self._normaliser("action", self.action, normalisation, ACTION_RANGE_FLOOR if floored else None),
        )

    def _normaliser(
        self, part: str, figures: Figures, normalisation: Normalisation, floor: Sequence[float] | None
    ) -> Normaliser:
        normalisation = self.modes.get(part, normalisation)
        names = {"quantile": ("q01", "q99"), "mean-std": ("mean", "std")}[normalisation]
        if missing := [name for name in names if figures.get(name) is None]:
            raise ValueError(
                f"'{self.source}' has no {' and '.join(missing)} of the {part}, which {normalisation} normalisation "
                f"needs; it has {', '.join(figures) or 'nothing'}. Give others (--stats), or another --normalisation."
            )
        first, second = (self._real(part, name, figures) for name in names)
        if normalisation == "mean-std":
            return Normaliser.mean_std(first, second, epsilon=self.epsilon, floor=floor)
        if self.is_lerobot:  # no epsilon, but where the range is exactly 0
            second = [low + self.epsilon if high == low else high for low, high in zip(first, second, strict=True)]
            return Normaliser.quantile(first, second, floor=floor)
        return Normaliser.quantile(first, second, epsilon=self.epsilon, floor=floor)

    def _real(self, part: str, name: str, figures: Figures) -> list[float]:
        """Return the figures of our dimensions; zeros after them are a model's padding."""
        values, needed = np.asarray(figures[name], dtype=np.float64).reshape(-1), _PARTS[part][2]
        padding = [np.asarray(each).reshape(-1)[needed:] for each in figures.values()]
        if len(values) < needed or any(np.any(rest) for rest in padding):
            raise ValueError(
                f"'{self.source}' has {len(values)} dimensions of the {part}, ours has {needed}: a policy for another "
                "robot or other actions."
            )
        return values[:needed].tolist()


def read_statistics(path: Path) -> Found:
    """Read a file of either program, or find one in a checkpoint folder. Raises ``ValueError`` in one line.

    A file may be openpi's ``norm_stats.json``, lerobot's ``policy_preprocessor.json``, or a LeRobot dataset's
    ``meta/stats.json``.
    """
    if path.is_dir():
        path = _statistics_in(path)
    if not path.is_file():
        raise ValueError(f"There are no statistics at '{path}': the file does not exist.")
    value = read_object(path)
    if "norm_stats" in value:
        return _of_openpi(value["norm_stats"], path)
    if "steps" in value:
        return _of_lerobot_processor(value["steps"], path)
    if {"observation.state", "action"} <= value.keys():
        return _of_lerobot_features(value, path, epsilon=LEROBOT_EPSILON, modes={})
    raise ValueError(
        f"'{path}' holds no statistics: openpi's {NORM_STATS}, lerobot's {PREPROCESSOR} or a dataset's meta/stats.json "
        "would."
    )


def _statistics_in(folder: Path) -> Path:
    if (folder / PREPROCESSOR).is_file():
        return folder / PREPROCESSOR
    found = sorted(folder.rglob(NORM_STATS))
    if len(found) == 1:
        return found[0]
    several = f"several: {', '.join(str(path.relative_to(folder)) for path in found)}" if found else "none"
    raise ValueError(f"'{folder}' needs one file of statistics, it has {several}. Give one (--stats FILE).")


def _of_openpi(stats: Mapping[str, Any], path: Path) -> Found:
    if missing := {"state", "actions"} - stats.keys():
        raise ValueError(f"'{path}' has no statistics of {' and '.join(sorted(missing))}; it has {', '.join(stats)}.")
    return Found(
        source=path,
        state=stats["state"],
        action=stats["actions"],
        epsilon=OPENPI_EPSILON,
        modes={},
        is_lerobot=False,
    )


def _of_lerobot_features(
    stats: Mapping[str, Figures], path: Path, *, epsilon: float, modes: Mapping[str, Normalisation]
) -> Found:
    parts = {part: stats.get(feature, {}) for part, (feature, _, _) in _PARTS.items()}
    return Found(source=path, **parts, epsilon=epsilon, modes=modes, is_lerobot=True)


def require_known_processors(folder: Path) -> None:
    """Raise ``ValueError`` for a step in lerobot's processors, where a folder has them, that changes the data."""
    for path in (folder / PREPROCESSOR, folder / POSTPROCESSOR):
        if path.is_file():
            _require_known_steps(read_object(path).get("steps", []), path)


def _require_known_steps(steps: Sequence[Mapping[str, Any]], path: Path) -> None:
    for step in steps:
        name, config = step.get("registry_name") or step.get("class", "without a name"), step.get("config", {})
        if name in _SWITCHED_STEPS:
            if config.get("enabled", True):
                raise ValueError(f"'{path}': the step {name} is enabled, which is not supported: actions are as given.")
        elif name not in _KEEPING_STEPS:
            raise ValueError(f"'{path}' has the step {name}, which is not known; known: {_steps_in_words()}.")
        visual = config.get("norm_map", {}).get("VISUAL", "IDENTITY")
        if visual != "IDENTITY":
            raise ValueError(f"'{path}' normalises VISUAL by {visual}; supported: IDENTITY.")


def _steps_in_words() -> str:
    return ", ".join(sorted(_KEEPING_STEPS | _SWITCHED_STEPS))


def _of_lerobot_processor(steps: Sequence[Mapping[str, Any]], path: Path) -> Found:
    _require_known_steps(steps, path)
    step = next((s for s in steps if s.get("registry_name") == "normalizer_processor"), None)
    if step is None or "state_file" not in step:
        raise ValueError(f"'{path}' has no normalizer_processor with a state_file: there are no statistics in it.")
    file = TensorFile(path.parent / step["state_file"])
    stats: dict[str, dict[str, Sequence[float]]] = {}
    for name in file.shapes:
        feature, _, figure = name.rpartition(".")
        if feature in ("observation.state", "action") and figure != "count":
            stats.setdefault(feature, {})[figure] = file.read(name).double().flatten().tolist()
    config = step.get("config", {})
    modes: dict[str, Normalisation] = {
        part: _mode(config.get("norm_map", {}), kind, path) for part, (_, kind, _) in _PARTS.items()
    }
    return _of_lerobot_features(stats, path, epsilon=float(config.get("eps", LEROBOT_EPSILON)), modes=modes)


def _mode(norm_map: Mapping[str, str], kind: str, path: Path) -> Normalisation:
    mode = norm_map.get(kind, "IDENTITY")
    if mode not in _LEROBOT_MODES:
        raise ValueError(f"'{path}' normalises {kind} by {mode}; supported: {', '.join(_LEROBOT_MODES)}.")
    return _LEROBOT_MODES[mode]


def openpi_figures(normaliser: Normaliser) -> dict[str, list[float]]:
    """Return figures under which openpi's two formulas both give this map. They are the map, not measurements."""
    low, high = np.array(normaliser.low), np.array(normaliser.high)
    return {
        "mean": ((low + high) / 2).tolist(),
        "std": np.maximum((high - low) / 2 - OPENPI_EPSILON, 0).tolist(),
        "q01": low.tolist(),
        "q99": (high - OPENPI_EPSILON).tolist(),
    }


def write_openpi(codec: Codec, path: Path) -> None:
    """Write ``norm_stats.json``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stats = {"state": openpi_figures(codec.state), "actions": openpi_figures(codec.action)}
    write_json(path, {"norm_stats": stats})


def lerobot_mode(normaliser: Normaliser) -> str:
    """Return lerobot's name of the formula that gives this map exactly."""
    return _MODES_OF_LEROBOT["mean-std" if normaliser.centred else "quantile"]


def write_lerobot(codec: Codec, path: Path) -> None:
    """Write the state of lerobot's (un)normaliser, keys ``<feature>.<figure>``."""
    figures = {}
    for (feature, _, _), normaliser in zip(_PARTS.values(), (codec.state, codec.action), strict=True):
        low, high = np.array(normaliser.low), np.array(normaliser.high)
        values = {"q01": low, "q99": high, "mean": (low + high) / 2, "std": (high - low) / 2 - LEROBOT_EPSILON}
        figures |= {f"{feature}.{name}": torch.tensor(value, dtype=torch.float32) for name, value in values.items()}
    write_tensors(path, {name: Entry.of(value) for name, value in figures.items()})
