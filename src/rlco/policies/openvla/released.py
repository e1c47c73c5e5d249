"""OpenVLA's released folder: sizes from the tensors, and the files around the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlco.core.files import write_json
from rlco.policies.checkpoint import CONFIG, read_object
from rlco.policies.fields import as_list, as_number, as_object, as_whole
from rlco.policies.openvla.config import BINS, OpenVlaConfig, TowerSize, openvla_7b
from rlco.policies.openvla.inputs import DINO_MEAN, DINO_STD
from rlco.policies.openvla.tokenizer import FileTokenizer
from rlco.policies.released import depth_of
from rlco.policies.tensor_files import Shape

PICTURES = "preprocessor_config.json"
MEANS, STDS = (DINO_MEAN, (0.5, 0.5, 0.5)), (DINO_STD, (0.5, 0.5, 0.5))
_REPOSITORY = "openvla/openvla-7b"
_TIMM = ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"]
_FIXED: dict[str, Any] = {
    "model_type": "openvla",
    "use_fused_vision_backbone": True,
    "image_resize_strategy": "resize-naive",
    "timm_override_act_layers": [None, None],
    "n_action_bins": BINS,
}
"""Field of ``config.json`` -> the only value that we build."""
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 1.0}
"""How transformers 5 writes what was ``rope_theta`` and ``rope_scaling``."""
_FIXED_TEXT: dict[str, Any] = {
    "model_type": "llama",
    "hidden_act": "silu",
    "rope_theta": 10_000.0,
    "rope_scaling": None,
}
"""The same, of ``text_config``."""
_PADDED_TO = 64
"""The embedding has this many rows more than there are words: ``pad_to_multiple_of``, as upstream computes it."""
_HEADS = {"dino_heads": {1024: 16}, "siglip_heads": {1152: 16}, "num_attention_heads": {4096: 32}}
"""What no shape shows: field -> width -> number of heads, of the released sizes."""
_VISION, _LANGUAGE = "vision_backbone", "language_model.model"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """What a released folder says of its sizes."""

    name: str
    values: Mapping[str, Any]
    """``config.json``."""
    text: Mapping[str, Any]
    """Its ``text_config``."""
    shapes: Mapping[str, Shape]

    def shape(self, name: str, *, axes: int) -> Shape:
        """Return the shape of a tensor that tells a size. Raises ``ValueError`` without it, or for other axes."""
        if name not in self.shapes:
            raise ValueError(f"{self.name} lacks the tensor {name}, which tells a size of the policy.")
        found = self.shapes[name]
        if len(found) != axes or 0 in found:
            raise ValueError(f"{self.name} has {name} of shape {found}, OpenVLA's has {axes} axes, none of them empty.")
        return found

    def heads(self, values: Mapping[str, Any], field: str, width: int) -> int:
        """Return a number of heads, which no shape shows: as ``values`` say, else that of the released width."""
        if (said := values.get(field)) is not None:
            return as_whole(said, field, least=1, source=self.name)
        if width not in _HEADS[field]:
            known = ", ".join(map(str, _HEADS[field]))
            raise ValueError(
                f"{self.name} has a width of {width}, of which no number of heads is known (only of {known}): its "
                f"{CONFIG} must say {field}."
            )
        return _HEADS[field][width]

    def tower(self, name: str, field: str) -> TowerSize:
        """Return the size of a vision transformer."""
        mlp, width = self.shape(f"{_VISION}.{name}.blocks.0.mlp.fc1.weight", axes=2)
        depth = depth_of(self.shapes, f"{_VISION}.{name}.blocks.")
        return TowerSize(width=width, mlp=mlp, depth=depth, heads=self.heads(self.values, field, width))

    def attention(self, width: int) -> tuple[int, int, int]:
        """Return the heads of queries, those of keys and values, and the width of one."""
        first = f"{_LANGUAGE}.layers.0.self_attn"
        queries, keys = (self.shape(f"{first}.{m}_proj.weight", axes=2)[0] for m in "qk")
        heads = self.heads(self.text, "num_attention_heads", width)
        head_dim = queries // heads
        if queries % heads or keys % head_dim:
            raise ValueError(
                f"{self.name} has {heads} heads (num_attention_heads), by which its {queries} rows of queries and "
                f"{keys} of keys do not divide."
            )
        for field, found in (("num_key_value_heads", keys // head_dim), ("head_dim", head_dim)):
            if self.text.get(field) not in (None, found):
                raise ValueError(
                    f"{self.name} says text_config.{field} {self.text[field]!r}, its tensors have {found}."
                )
        return heads, keys // head_dim, head_dim


def config_of(values: Mapping[str, Any], shapes: Mapping[str, Shape], *, source: str) -> OpenVlaConfig:
    """Return the sizes that tensors and ``config.json`` (``values``) have.

    Raises ``ValueError`` for a tensor that tells a size and is missing, or a field that says another architecture.
    """
    text = as_object(values.get("text_config", {}), "text_config", source=f"'{source}'")
    found = _Source(name=f"'{source}'", values=values, text=text, shapes=shapes)
    _require_known(found)
    patches = found.shape(f"{_VISION}.featurizer.pos_embed", axes=3)[1]
    patch_size = found.shape(f"{_VISION}.featurizer.patch_embed.proj.weight", axes=4)[2]
    rows, width = found.shape(f"{_LANGUAGE}.embed_tokens.weight", axes=2)
    heads, kv_heads, head_dim = found.attention(width)
    padded = as_whole(values.get("pad_to_multiple_of", _PADDED_TO), "pad_to_multiple_of", least=0, source=found.name)
    epsilon = text.get("rms_norm_eps", openvla_7b().rms_norm_eps)
    image_size = round(patches**0.5) * patch_size
    _require_image_size(found, image_size)
    return OpenVlaConfig(
        image_size=image_size,
        patch_size=patch_size,
        dino=found.tower("featurizer", "dino_heads"),
        siglip=found.tower("fused_featurizer", "siglip_heads"),
        registers=found.shape(f"{_VISION}.featurizer.reg_token", axes=3)[1],
        width=width,
        mlp=found.shape(f"{_LANGUAGE}.layers.0.mlp.gate_proj.weight", axes=2)[0],
        depth=depth_of(shapes, f"{_LANGUAGE}.layers."),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        text_vocabulary=rows - padded,
        vocabulary=rows,
        prompt_length=openvla_7b().prompt_length,
        rms_norm_eps=as_number(epsilon, "text_config.rms_norm_eps", source=found.name),
    )


def _require_image_size(found: _Source, size: int) -> None:
    sizes = found.values.get("image_sizes")
    if sizes is not None and any(said != size for said in as_list(sizes, "image_sizes", source=found.name)):
        raise ValueError(f"{found.name} says image_sizes {sizes}, its tensors are for pictures of {size} pixels.")


def _require_known(found: _Source) -> None:
    """Raise ``ValueError`` for a field that says an architecture which is not OpenVLA's."""
    rope = as_object(found.text.get("rope_parameters", {}), "text_config.rope_parameters", source=found.name)
    # of rope_parameters, every field says something
    wanted_rope = {name: _ROPE.get(name) for name in rope}
    for prefix, values, known in (
        ("", found.values, _FIXED),
        ("text_config.", found.text, _FIXED_TEXT),
        ("text_config.rope_parameters.", rope, wanted_rope),
    ):
        for name, wanted in known.items():
            if (value := values.get(name, wanted)) != wanted:
                raise ValueError(
                    f"{found.name} has {prefix}{name} {value!r}, which is not built; supported: {wanted!r}."
                )


def require_gamma_renamed(shapes: Mapping[str, Shape], *, source: str) -> None:
    """Raise ``ValueError`` for timm's own name of LayerScale, which the released files do not have."""
    if odd := sorted(name for name in shapes if name.endswith((".ls1.gamma", ".ls2.gamma"))):
        raise ValueError(
            f"'{source}' calls LayerScale gamma, as timm does, in {len(odd)} keys ({odd[0]}, ...); in OpenVLA's files "
            "it is called scale_factor: rename them."
        )


def require_same_pictures(folder: Path) -> None:
    """Raise ``ValueError`` where ``preprocessor_config.json`` says other pictures than ours.

    The released one holds the means and deviations rounded to bfloat16, which is taken for the same.
    """
    if not (folder / PICTURES).is_file():
        return
    values = read_object(folder / PICTURES)
    strategy = values.get("image_resize_strategy", _FIXED["image_resize_strategy"])
    if strategy != _FIXED["image_resize_strategy"]:
        raise ValueError(
            f"'{folder / PICTURES}' has image_resize_strategy {strategy!r}, which is not built; supported: "
            f"{_FIXED['image_resize_strategy']!r}."
        )
    for name, wanted in (("means", MEANS), ("stds", STDS)):
        found = values.get(name, wanted)
        if not _same_when_rounded(found, wanted):
            raise ValueError(f"'{folder / PICTURES}' has {name} {found}, OpenVLA has {[list(w) for w in wanted]}.")


def _same_when_rounded(found: Any, wanted: tuple[tuple[float, ...], ...]) -> bool:  # noqa: ANN401  (of a file)
    try:
        one, two = (torch.tensor(x, dtype=torch.float64) for x in (found, wanted))
    except (TypeError, ValueError):
        return False
    return one.shape == two.shape and torch.equal(one.bfloat16(), two.bfloat16())


def write_files(folder: Path, config: OpenVlaConfig, *, norm_stats: Mapping[str, Any], dtype: str) -> None:
    """Write ``config.json``, with the statistics in it, and ``preprocessor_config.json``.

    The program that reads them is the one of the released model: ``auto_map`` names it.
    """
    code = {
        "AutoConfig": f"{_REPOSITORY}--configuration_prismatic.OpenVLAConfig",
        "AutoModelForVision2Seq": f"{_REPOSITORY}--modeling_prismatic.OpenVLAForActionPrediction",
    }
    values = {
        "architectures": ["OpenVLAForActionPrediction"],
        "auto_map": code,
        **_FIXED,
        "arch_specifier": "no-align+fused-gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "llm_backbone_id": "llama2-7b-pure",
        "hf_llm_id": "meta-llama/Llama-2-7b-hf",
        "timm_model_ids": _TIMM,
        "image_sizes": [config.image_size] * 2,
        "llm_max_length": 2048,
        "pad_token_id": config.text_vocabulary,
        "pad_to_multiple_of": config.vocabulary - config.text_vocabulary,
        "output_projector_states": False,
        "text_config": _text_config(config, dtype=dtype),
        "torch_dtype": dtype,
        **_unshown(config),
    }
    write_json(folder / CONFIG, {**values, "norm_stats": dict(norm_stats)})
    write_json(folder / PICTURES, _pictures(config))


def _text_config(config: OpenVlaConfig, *, dtype: str) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.mlp,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": 10_000.0,
        "pad_token_id": config.text_vocabulary,
        "torch_dtype": dtype,
    }


def _unshown(config: OpenVlaConfig) -> dict[str, int]:
    """Return what no shape shows, but of the released sizes."""
    towers = {"dino_heads": config.dino, "siglip_heads": config.siglip}
    return {field: tower.heads for field, tower in towers.items() if _HEADS[field].get(tower.width) != tower.heads}


def _pictures(config: OpenVlaConfig) -> dict[str, Any]:
    size = config.image_size
    resize = {"antialias": True, "interpolation": 3, "max_size": None, "size": [size, size]}
    normalise = [{"inplace": False, "mean": list(m), "std": list(s)} for m, s in zip(MEANS, STDS, strict=True)]
    return {
        "auto_map": {
            "AutoImageProcessor": f"{_REPOSITORY}--processing_prismatic.PrismaticImageProcessor",
            "AutoProcessor": f"{_REPOSITORY}--processing_prismatic.PrismaticProcessor",
        },
        "image_processor_type": "PrismaticImageProcessor",
        "processor_class": "PrismaticProcessor",
        "use_fused_vision_backbone": True,
        "image_resize_strategy": _FIXED["image_resize_strategy"],
        "input_sizes": [[3, size, size]] * 2,
        "interpolations": ["bicubic"] * 2,
        "means": [list(mean) for mean in MEANS],
        "stds": [list(std) for std in STDS],
        "tvf_resize_params": [resize] * 2,
        "tvf_crop_params": [{"output_size": [size, size]}] * 2,
        "tvf_normalize_params": normalise,
        "tvf_do_letterbox": False,
        "tvf_letterbox_fill": None,
    }


def write_tokenizer(folder: Path, tokenizer: FileTokenizer) -> None:
    """Write the tokenizer as transformers reads it."""
    tokenizer.file.save(folder)
    special = {"bos_token": "<s>", "eos_token": "</s>"} | ({"pad_token": "<PAD>"} if tokenizer.has_pad else {})
    values = {"tokenizer_class": "LlamaTokenizer", "processor_class": "PrismaticProcessor", **special}
    write_json(folder / "tokenizer_config.json", values)
