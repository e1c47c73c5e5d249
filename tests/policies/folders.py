"""Small policies of both families in the published architecture, and a small ``tokenizer.json``."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from rlco.core.policy import Observation
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.contract import AnyPolicy
from rlco.policies.convert import convert
from rlco.policies.pi.config import CONFIGS, PiConfig
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.policy import PiPolicy
from rlco.policies.pi.tokenizer import FileTokenizer
from rlco.policies.released import Told

CODEC = Codec(state=Normaliser(low=(-0.9,) * 8, high=(1.1,) * 8), action=Normaliser(low=(-0.05,) * 7, high=(0.07,) * 7))
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
CHARACTERS = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:;,-▁\n"]
TOKENS = [*SPECIAL, *CHARACTERS]


def config(family: str) -> PiConfig:
    """Return a tiny size of the published architecture, with SigLIP's number of heads."""
    return replace(CONFIGS[f"{family}-tiny"](), grounding_heads=0, vision_heads=16, prompt_length=200)


def policy(family: str, *, seed: int = 0, interface: Interface | None = None) -> PiPolicy:
    """Return a policy whose expert is not the identity (its adaptive norms start at zero)."""
    small = config(family)
    made = PiPolicy(small, interface or Interface.of_family(small.family, CODEC), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return made


@cache
def character_tokenizer() -> FileTokenizer:
    """Return the tokenizer of ``write_tokenizer``."""
    with tempfile.TemporaryDirectory() as folder:
        return FileTokenizer.open(write_tokenizer(Path(folder) / "tokenizer.json"))


def published(family: str, *, interface: Interface | None = None) -> PiPolicy:
    """Return ``policy`` with a tokenizer that the released layouts have a place for."""
    plain = interface or Interface.of_family(config(family).family, CODEC)
    return policy(family, interface=replace(plain, tokenizer=character_tokenizer()))


def observation(count: int = 2, seed: int = 0) -> Observation:
    """Return noise."""
    generator = torch.Generator().manual_seed(seed)
    return Observation(
        image=torch.randint(0, 256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8),
        state=torch.rand(count, 8, generator=generator) * 2 - 1,
        instruction=("push the pink cube", "close the drawer")[:count],
    )


def action(made: AnyPolicy) -> torch.Tensor:
    """Return what a policy does from fixed noise."""
    noise = torch.randn(2, *made.noise_shape, generator=torch.Generator().manual_seed(5))
    return made.sample(observation(), explore=False, generator=torch.Generator(), noise=noise).action


def write_tokenizer(path: Path) -> Path:
    """Write a tokenizer of one token a character, spaces as PaliGemma's, that pads and cuts if it is let."""
    made = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(TOKENS)}, merges=[], unk_token="<unk>"))
    made.normalizer = normalizers.Replace(" ", "▁")  # pyright: ignore[reportAttributeAccessIssue]
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")  # pyright: ignore[reportAttributeAccessIssue]
    made.add_special_tokens(SPECIAL)
    made.enable_truncation(5)
    made.enable_padding(length=64)
    made.save(str(path))
    return path


def text(ids: list[int]) -> str:
    """Return what ids of that tokenizer say."""
    return "".join(TOKENS[i] for i in ids).replace("▁", " ")


def edit_json(path: Path, **values: object) -> None:
    """Change fields of a JSON file; None takes one away."""
    now = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({name: value for name, value in now.items() if value is not None}))


def go(source: Path, destination: Path, to: str, told: Told | None = None) -> Path:
    """Convert, and return the destination."""
    convert(source, destination, to, told or Told())
    return destination


def foreign(source: Path, destination: Path, to: str) -> Path:
    """Return a checkpoint as the other program would have written it: nothing of ours beside it."""
    shutil.rmtree(go(source, destination, to) / "rlco")
    return destination
