"""Small OpenVLA policies as they would be released: names and files, a ``tokenizer.json`` of Llama's kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

from rlco.core.policy import Observation
from rlco.data.normalise import Codec
from rlco.policies.openvla.config import OpenVlaConfig, openvla_tiny
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.openvla.statistics import find_codec
from rlco.policies.openvla.tokenizer import FileTokenizer

Q01, Q99 = [-0.02, -0.03, -0.04, -0.1, 0.3, 0.0, 0.0], [0.03, 0.02, 0.04, 0.2, 0.3, 0.0, 1.0]
MASK = [True] * 6 + [False]
ACTION = {"q01": Q01, "q99": Q99, "min": Q01, "max": Q99, "mean": [0.0] * 7, "std": [1.0] * 7, "mask": MASK}
WORDS = ["push", "the", "pink", "cube"]


def write_tokenizer(path: Path, *, size: int = 768, has_pad: bool = True, empty_at: int | None = None) -> Path:
    """Write a tokenizer as Llama's: byte fallback, ``▁`` for a space and before the text, four words of one piece.

    ``empty_at``: the id of the piece ``▁``.
    """
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    tokens += [*"▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ:?.,'"]
    merges = []
    for word in WORDS:
        grown = "▁"
        for letter in word:
            merges.append((grown, letter))
            grown += letter
            tokens.append(grown)
    tokens = list(dict.fromkeys(tokens))
    tokens += [f"\u4e00{i}" for i in range(size - len(tokens))]
    if empty_at is not None:
        tokens.remove("▁")
        tokens.insert(empty_at, "▁")
    vocabulary = {token: i for i, token in enumerate(tokens)}
    made = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=list(dict.fromkeys(merges)),
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])  # pyright: ignore[reportAttributeAccessIssue]
    made.decoder = decoders.ByteFallback()  # pyright: ignore[reportAttributeAccessIssue]
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<s>", "</s>")])
    if has_pad:
        made.add_special_tokens([AddedToken("<PAD>", special=True, normalized=False)])
    made.enable_truncation(3)
    made.save(str(path))
    return path


def config() -> OpenVlaConfig:
    """Return the tiny size, which has no token that OpenVLA does not have, with room for spelled prompts."""
    return replace(openvla_tiny(), prompt_length=200)


def write_statistics(folder: Path, **entries: object) -> Path:
    """Write ``dataset_statistics.json``."""
    path = folder / "dataset_statistics.json"
    path.write_text(json.dumps(entries or {"some_robot": {"action": ACTION}}))
    return path


def released_codec(folder: Path) -> Codec:
    """Return the codec of ``ACTION`` in the released gripper convention."""
    return find_codec(write_statistics(folder), key=None, gripper=None).codec


def published(folder: Path, *, seed: int = 0, codec: Codec | None = None) -> OpenVlaPolicy:
    """Return a policy that the released layout has a place for."""
    tokenizer = FileTokenizer.open(write_tokenizer(folder / "llama.json"))
    interface = Interface(codec=codec or released_codec(folder), tokenizer=tokenizer)
    return OpenVlaPolicy(config(), interface, seed=seed)


def observation(count: int = 2) -> Observation:
    """Return noise."""
    generator = torch.Generator().manual_seed(0)
    return Observation(
        image=torch.randint(0, 256, (count, 40, 48, 3), generator=generator, dtype=torch.uint8),
        state=torch.rand(count, 8, generator=generator) * 2 - 1,
        instruction=("push the pink cube", "Close it")[:count],
    )


def action(made: OpenVlaPolicy) -> torch.Tensor:
    """Return what a policy does from fixed noise while it explores."""
    noise = torch.randn(2, *made.noise_shape, generator=torch.Generator().manual_seed(5))
    return made.sample(observation(), explore=True, generator=torch.Generator(), noise=noise).action


def sharded(folder: Path, *, shards: int = 2) -> None:
    """Split a folder's weights as transformers does."""
    single = folder / "model.safetensors"
    tensors = load_file(single)
    places = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {key: tensors[key] for key in sorted(tensors)[number::shards]}
        save_file(part, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    single.unlink()
