"""Checkpoints of openpi and lerobot: what is in a folder, and the files around the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlco.core.files import write_json
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.policies.checkpoint import CONFIG, read_object
from rlco.policies.pi.config import Family, PiConfig, TransformerSize, pi0_base, pi05_base
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.prompts import STYLE_OF_FAMILY
from rlco.policies.pi.statistics import (
    LEROBOT_EPSILON,
    NORM_STATS,
    POSTPROCESSOR,
    PREPROCESSOR,
    lerobot_mode,
    write_lerobot,
    write_openpi,
)
from rlco.policies.released import depth_of
from rlco.policies.tensor_files import Shape

ASSETS = f"assets/rlco/{NORM_STATS}"
_BASES = {"pi05": pi05_base, "pi0": pi0_base}
_VARIANTS = {(2048, 16384): "gemma_2b", (1024, 4096): "gemma_300m"}
_TOWER = "paligemma_with_expert.paligemma.model.vision_tower.vision_model"
_LANGUAGE = "paligemma_with_expert.paligemma.model.language_model"
_EXPERT = "paligemma_with_expert.gemma_expert.model"
_VISION_HEADS = {1152: 16}
"""Width -> heads, of SigLIP So400m."""
_KEY_HEADS = {2048: 1}
"""Width of the language model -> heads of keys and values, of Gemma 2B."""
_PROMPTS = {
    "openpi": {"pi05": ("pi05", "plain"), "pi0": ("plain",)},
    "lerobot": {family: (style,) for family, style in STYLE_OF_FAMILY.items()},
}
"""What the other program (lerobot 0.5 and later) writes; openpi's pi05 without discrete_state_input is plain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunks:
    """What no shape tells of a released policy."""

    horizon: int
    executed: int
    denoise_steps: int
    prompt_length: int
    vision_heads: int | None = None
    """None: those of the released width."""
    kv_heads: int | None = None
    """None: those of the released width."""


def family_of(shapes: Mapping[str, Shape], *, source: str) -> Family:
    """Return the family that the tensors are of."""
    if "time_mlp_in.weight" in shapes:
        return "pi05"
    if "action_time_mlp_in.weight" in shapes:
        return "pi0"
    raise ValueError(
        f"'{source}' holds neither pi0.5 (time_mlp_in) nor pi0 (action_time_mlp_in); it holds {len(shapes)} tensors, "
        f"among them {', '.join(sorted(shapes)[:3]) or 'none'}."
    )


def config_of(shapes: Mapping[str, Shape], chunks: Chunks, *, source: str) -> PiConfig:
    """Return the sizes that the tensors have. Raises ``ValueError`` that names a tensor that is needed and missing."""
    family = family_of(shapes, source=source)
    try:
        patch = shapes[f"{_TOWER}.embeddings.patch_embedding.weight"]
        patches = shapes[f"{_TOWER}.embeddings.position_embedding.weight"][0]
        vision = _size(shapes, f"{_TOWER}.encoder.layers.0.mlp.fc1.weight")
        language = _size(shapes, f"{_LANGUAGE}.layers.0.mlp.gate_proj.weight")
        vision_heads = _heads("vision", vision, chunks.vision_heads, _VISION_HEADS, source=source)
        kv_heads = _heads("language", language, chunks.kv_heads, _KEY_HEADS, source=source)
        head_dim = shapes[f"{_LANGUAGE}.layers.0.self_attn.k_proj.weight"][0] // kv_heads
        state = shapes.get("state_proj.weight")
        return PiConfig(
            family=family,
            image_size=round(patches**0.5) * patch[2],
            patch_size=patch[2],
            vision=vision,
            vision_depth=depth_of(shapes, f"{_TOWER}.encoder.layers."),
            vision_heads=vision_heads,
            language=language,
            expert=_size(shapes, f"{_EXPERT}.layers.0.mlp.gate_proj.weight"),
            depth=depth_of(shapes, f"{_LANGUAGE}.layers."),
            heads=shapes[f"{_LANGUAGE}.layers.0.self_attn.q_proj.weight"][0] // head_dim,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocabulary=shapes["paligemma_with_expert.paligemma.lm_head.weight"][0],
            model_action_dim=shapes["action_in_proj.weight"][1],
            model_state_dim=state[1] if state else _BASES[family]().model_state_dim,
            horizon=chunks.horizon,
            executed=chunks.executed,
            denoise_steps=chunks.denoise_steps,
            prompt_length=chunks.prompt_length,
        )
    except KeyError as error:
        raise ValueError(f"'{source}' lacks the tensor {error.args[0]}, which tells a size of the policy.") from error


def _size(shapes: Mapping[str, Shape], name: str) -> TransformerSize:
    mlp, width = shapes[name]
    return TransformerSize(width=width, mlp=mlp)


_HEAD_FIELDS = {"vision": "vision_heads", "language": "kv_heads"}


def _heads(part: str, size: TransformerSize, said: int | None, known: Mapping[int, int], *, source: str) -> int:
    """Return a number of heads, which no shape shows."""
    found = said or known.get(size.width)
    if found is None:
        raise ValueError(
            f"'{source}' has {part} width {size.width}, of which no number of heads is known (only of "
            f"{', '.join(map(str, known))}): its config.json must say {_HEAD_FIELDS[part]}."
        )
    return found


def chunks_of(folder: Path, family: Family, *, horizon: int | None, executed: int | None) -> Chunks:
    """Return them from ``config.json`` where there is one. ``horizon`` and ``executed`` are what the user says.

    Raises ``ValueError`` for another family or horizon than the file's, or where nobody says the horizon.
    """
    values = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if values.get("type", family) != family:
        raise ValueError(f"'{folder}' says that it is of type '{values['type']}', its tensors are those of {family}.")
    found = values.get("chunk_size", values.get("action_horizon", horizon))
    if found is None:
        raise ValueError(f"'{folder}' does not say its action horizon: give it (--horizon; 50 for the released bases).")
    if horizon not in (None, found):
        raise ValueError(f"'{folder}' has action horizon {found}, not {horizon}.")
    base, found = _BASES[family](), int(found)
    return Chunks(
        horizon=found,
        executed=min(found, int(values.get("n_action_steps", found))) if executed is None else executed,
        denoise_steps=int(values.get("num_inference_steps", base.denoise_steps)),
        prompt_length=int(values.get("tokenizer_max_length", base.prompt_length)),
        vision_heads=values.get("vision_heads"),
        kv_heads=values.get("kv_heads"),
    )


def camera_count(folder: Path) -> int | None:
    """Return how many cameras lerobot's ``config.json`` lists, or None where it lists none."""
    values = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    kinds = [feature.get("type") for feature in values.get("input_features", {}).values()]
    return kinds.count("VISUAL") or None


def write_openpi_files(folder: Path, config: PiConfig, interface: Interface, precision: str) -> None:
    """Write what openpi reads beside the weights; ``precision``: float32, or bfloat16 where the layers are."""
    values = {"action_dim": config.model_action_dim, "action_horizon": config.horizon, "precision": precision}
    write_json(folder / CONFIG, values | _variants(config) | _head_counts(config))
    write_openpi(interface.codec, folder / ASSETS)


def write_lerobot_files(folder: Path, config: PiConfig, interface: Interface, precision: str) -> None:
    """Write what lerobot (0.5 and later) reads beside the weights; ``precision``: float32 or bfloat16."""
    features = _features(config, interface)
    write_json(folder / CONFIG, {**_lerobot_config(config, interface, features), "dtype": precision})
    eps = {"eps": LEROBOT_EPSILON, "norm_map": _norm_map(interface)}
    steps = _input_steps(config, interface, {**eps, "features": features})
    output = {**eps, "features": {"action": features["action"]}}
    _write_pipeline(folder / PREPROCESSOR, steps, interface)
    _write_pipeline(
        folder / POSTPROCESSOR,
        [_step("unnormalizer_processor", output), _step("device_processor", {"device": "cpu", "float_dtype": None})],
        interface,
    )


def require_prompt(to: str, config: PiConfig, interface: Interface) -> None:
    """Raise ``ValueError`` for a prompt that the program of the layout ``to`` does not write."""
    styles = _PROMPTS[to][config.family]
    if interface.prompt not in styles:
        raise ValueError(
            f"{to} prompts {config.family} in the style {' or '.join(map(repr, styles))} only, this policy was trained "
            f"with '{interface.prompt}'."
        )


def _lerobot_config(config: PiConfig, interface: Interface, features: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": config.family,
        "n_obs_steps": 1,
        "input_features": {name: feature for name, feature in features.items() if name != "action"},
        "output_features": {"action": features["action"]},
        "normalization_mapping": _norm_map(interface),
        "chunk_size": config.horizon,
        "n_action_steps": config.executed,
        "max_state_dim": config.model_state_dim,
        "max_action_dim": config.model_action_dim,
        "num_inference_steps": config.denoise_steps,
        "image_resolution": [config.image_size, config.image_size],
        "tokenizer_max_length": config.prompt_length,
        **_variants(config),
        **_head_counts(config),
    }


def _variants(config: PiConfig) -> dict[str, str]:
    sizes = {"paligemma_variant": config.language, "action_expert_variant": config.expert}
    named = {name: _VARIANTS.get((size.width, size.mlp)) for name, size in sizes.items()}
    return {name: variant for name, variant in named.items() if variant is not None}


def _head_counts(config: PiConfig) -> dict[str, int]:
    """Return what no shape shows, but of the released sizes: the other programs refuse fields they do not know."""
    counts = {
        "vision_heads": (config.vision_heads, _VISION_HEADS.get(config.vision.width)),
        "kv_heads": (config.kv_heads, _KEY_HEADS.get(config.language.width)),
    }
    return {name: count for name, (count, known) in counts.items() if count != known}


def _features(config: PiConfig, interface: Interface) -> dict[str, Any]:
    picture = {"type": "VISUAL", "shape": [3, config.image_size, config.image_size]}
    return {
        "observation.state": {"type": "STATE", "shape": [STATE_DIM]},
        **{f"observation.images.{slot}": picture for slot in interface.cameras},
        "action": {"type": "ACTION", "shape": [ACTION_DIM]},
    }


def _norm_map(interface: Interface) -> dict[str, str]:
    codec = interface.codec
    return {"VISUAL": "IDENTITY", "STATE": lerobot_mode(codec.state), "ACTION": lerobot_mode(codec.action)}


def _input_steps(config: PiConfig, interface: Interface, normaliser: dict[str, Any]) -> list[dict[str, Any]]:
    rename = {f"observation.images.{ours}": f"observation.images.{slot}" for slot, ours in interface.cameras.items()}
    words = {
        "pi05": _step("pi05_prepare_state_tokenizer_processor_step", {}),
        "pi0": _step("pi0_new_line_processor", {}),
    }
    tokenizer = {
        "max_length": config.prompt_length,
        "task_key": "task",
        "padding_side": "right",
        "padding": "max_length",
        "truncation": True,
        "tokenizer_name": "google/paligemma-3b-pt-224",
    }
    return [
        _step("rename_observations_processor", {"rename_map": rename}),
        _step("to_batch_processor", {}),
        _step("normalizer_processor", normaliser),
        words[config.family],
        _step("tokenizer_processor", tokenizer),
        _step("device_processor", {"device": "cpu", "float_dtype": None}),
    ]


def _step(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"registry_name": name, "config": config}


def _write_pipeline(path: Path, steps: list[dict[str, Any]], interface: Interface) -> None:
    """Write a processor and the state of its step that has one, under the name that lerobot gives such a file."""
    for number, step in enumerate(steps):
        if step["registry_name"] in ("normalizer_processor", "unnormalizer_processor"):
            step["state_file"] = f"{path.stem}_step_{number}_{step['registry_name']}.safetensors"
            write_lerobot(interface.codec, path.with_name(step["state_file"]))
    write_json(path, {"name": path.stem, "steps": steps})
