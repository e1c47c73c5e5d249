"""Small policies and data with random values, shared by the tests of this folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rlco.core.episode import Episode, StopReason
from rlco.data.chunks import ChunkDataset
from rlco.data.mixture import Mixture
from rlco.data.normalise import Codec, Normaliser
from rlco.data.reader import Dataset
from rlco.data.writer import write_dataset
from rlco.policies.contract import AnyPolicy
from rlco.policies.families import family, new_policy
from rlco.policies.openvla.config import openvla_tiny
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.pi.policy import PiPolicy

CODEC = Codec(state=Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8), action=Normaliser(low=(-0.05,) * 7, high=(0.05,) * 7))


LIKE_NANO = "openvla-tiny, made like nano"
EVERY_KIND = ("pi05-tiny", "openvla-tiny", "openvla-oft-tiny", LIKE_NANO)
"""A flow; tokens one after the other, of one step; tokens of a chunk in one pass; and with the departures of the nano
size: a grounding token, a token of the state, an action held for two control steps."""
TOKENS, TOKEN_SIZES = EVERY_KIND[1:], EVERY_KIND[1:3]


def small(name: str, *, seed: int = 0) -> AnyPolicy:
    """Return a policy all of whose parts matter (adaptive norms start at zero)."""
    if name == LIKE_NANO:
        size = replace(openvla_tiny(), hold=2, horizon=2, executed=2, proprio=True, grounding_heads=2)
        policy = OpenVlaPolicy(size, family(size.family).interface(size, CODEC), seed=seed)
    else:
        policy = new_policy(name, CODEC, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return policy


def tiny(seed: int = 0) -> PiPolicy:
    """Return the smallest flow policy."""
    policy = small("pi05-tiny", seed=seed)
    assert isinstance(policy, PiPolicy)
    return policy


def demonstrations(frames: int = 40, *, seed: int = 0, horizon: int = 8) -> ChunkDataset:
    """Return one episode of noise."""
    rng = np.random.default_rng(seed)
    return ChunkDataset(
        frames=rng.integers(0, 256, (frames, 32, 32, 3), dtype=np.uint8),
        state=rng.uniform(-1, 1, (frames, 8)).astype(np.float32),
        action=(0.03 * rng.standard_normal((frames, 7))).astype(np.float32),
        last=np.full(frames, frames - 1),
        instruction=("push the pink cube",) * frames,
        horizon=horizon,
    )


def write_pair(folder: Path) -> tuple[Dataset, Dataset]:
    """Write two small datasets of noise and open them: (simulated, real)."""
    pair = []
    for number, name in enumerate(("sim", "real")):
        rng = np.random.default_rng(number)
        episodes = [
            Episode(
                image=rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8),
                state=rng.uniform(-1, 1, (12, 8)).astype(np.float32),
                action=(0.03 * rng.standard_normal((12, 7))).astype(np.float32),
                instruction="push the pink cube",
                fps=5,
                stop_reason=StopReason.SUCCESS,
            )
            for _ in range(2)
        ]
        write_dataset(folder / name, episodes, fps=5, robot_type="panda")
        pair.append(Dataset.open(folder / name))
    return pair[0], pair[1]


def mixture(pair: tuple[Dataset, Dataset], *, alpha: float = 0.5, batch_size: int = 8, horizon: int = 8) -> Mixture:
    """Return a fresh mixture of the two."""
    return Mixture.of_sim_and_real(*pair, alpha=alpha, horizon=horizon, batch_size=batch_size, seed=0)
