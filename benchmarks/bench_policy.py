"""What the policy costs beside its network: sampling, a supervised step, and transformers' pi0 at the same size.

    python benchmarks/bench_policy.py [--rounds 15] [--batch-size 64] [--threads N] [--save FILE] [--compare FILE]

Each figure is a ratio of two things that take turns in this run; medians of the rounds are reported.

- ``sample``: a whole ``sample`` of pi05-nano, from uint8 pictures and strings to actions in SI units, over one bare
  prefix forward and K bare expert forwards on tensors in memory.
- ``sft``: a whole step of the trainer on a mixture of two written datasets, over forward, backward and optimiser on
  tensors in memory.
- ``transformers``: 10-step sampling of pi0-tiny over that of ``PI0ForConditionalGeneration``, same sizes and inputs.
- ``autocast``: prefix and expert of pi05-nano under bfloat16 autocast over float32. No target: below 1 it pays.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from comparison import conclude, setting
from transformers_pi0 import its_arguments, transformers_pi0
from turns import Work, paired_options, random_observation, ratios_of

from rlco.algos.flow import flow_loss, time_grid
from rlco.core.episode import Episode, StopReason
from rlco.core.policy import Observation
from rlco.data.mixture import Mixture
from rlco.data.reader import Dataset
from rlco.data.writer import write_dataset
from rlco.policies.checkpoint import base_policy
from rlco.policies.pi.config import pi0_tiny
from rlco.policies.pi.inputs import Inputs
from rlco.policies.pi.network import PiNetwork
from rlco.train.sft import SFTConfig, SFTTrainer

MOST = {"sample": 1.15, "sft": 1.1, "transformers": 0.8}
STEPS = 10


def main() -> int:
    """Measure, print, save and compare; the exit code says whether the targets are met."""
    options = paired_options(__doc__)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options)
    is_met = all(figures["ratios"][name] <= most for name, most in MOST.items())
    low = {name: figures["ratios"][name] for name in MOST}
    return conclude(figures, options, same=("batch_size",), is_met=is_met, low=low)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds of every pair and their ratios."""
    pairs = {
        "sample": sampling(options.batch_size),
        "sft": supervised(folder, options.batch_size),
        "transformers": against_transformers(options.batch_size),
        "autocast": under_autocast(options.batch_size),
    }
    return {
        **setting(threads=torch.get_num_threads()),
        "batch_size": options.batch_size,
        **ratios_of(pairs, rounds=options.rounds),
        "targets": MOST,
    }


def sampling(batch: int) -> tuple[Work, Work]:
    """Return sampling with exploration, and the network alone."""
    policy = base_policy("pi05-nano").eval()
    seen, generator = _seen(batch, policy.config.image_size), torch.Generator().manual_seed(0)
    inputs, x = policy.preprocessor(seen), torch.randn(batch, 1, *policy.noise_shape, generator=generator)

    def whole() -> None:
        with torch.inference_mode():
            policy.sample(seen, explore=True, generator=generator)

    return whole, lambda: _forwards(policy.network, inputs, x, steps=policy.config.denoise_steps)


def supervised(folder: Path, batch: int) -> tuple[Work, Work]:
    """Return the trainer's own step, and the same network's forward, backward and optimiser on tensors in memory."""
    whole = _trainer(folder, batch)
    policy = base_policy("pi05-nano").train()
    config, parameters = policy.config, policy.actor_parameters()
    optimiser = torch.optim.AdamW(parameters, lr=1e-5, betas=(0.9, 0.95), weight_decay=1e-4, fused=True)
    inputs = policy.preprocessor(_seen(batch, config.image_size))
    shape = (batch, config.flow_copies, *policy.noise_shape)
    noisy, target, time_BN = torch.randn(shape), torch.randn(shape), torch.rand(shape[:2])
    counts = torch.ones(batch, *policy.noise_shape, dtype=torch.bool)

    def bare() -> None:
        optimiser.zero_grad(set_to_none=True)
        velocity, _ = policy.network.expert(noisy, time_BN, policy.network.prefix(inputs))
        flow_loss(velocity, target, counts).mean().backward()
        optimiser.step()

    return lambda: whole.update(whole.next_batch()), bare


def against_transformers(batch: int) -> tuple[Work, Work]:
    """Return our sampling and theirs, both from prepared tensors."""
    config = pi0_tiny()
    network, theirs = PiNetwork(config).eval(), transformers_pi0(config)
    inputs, x = _random_inputs(network, batch), torch.randn(batch, config.horizon, config.model_action_dim)
    arguments = its_arguments(inputs, config)

    def ours() -> None:
        with torch.inference_mode():
            prefix, chunk = network.prefix(inputs), x[:, None]
            around = network.surroundings(prefix, copies=1)
            for t in time_grid(STEPS)[:-1]:
                chunk = chunk - network.expert(chunk, t.view(1, 1), prefix, surroundings=around)[0] / STEPS

    def other() -> None:
        with torch.inference_mode():
            theirs.sample_actions(**arguments, noise=x, num_steps=STEPS)

    return ours, other


def under_autocast(batch: int) -> tuple[Work, Work]:
    """Return the network's forwards in bfloat16 where autocast allows it, and in float32."""
    policy = base_policy("pi05-nano").eval()
    inputs = policy.preprocessor(_seen(batch, policy.config.image_size))
    x, steps = torch.randn(batch, 1, *policy.noise_shape), policy.config.denoise_steps

    def lower() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _forwards(policy.network, inputs, x, steps=steps)

    return lower, lambda: _forwards(policy.network, inputs, x, steps=steps)


def _forwards(network: PiNetwork, inputs: Inputs, x: torch.Tensor, *, steps: int) -> None:
    with torch.inference_mode():
        prefix, t = network.prefix(inputs), torch.ones(1, 1)
        around = network.surroundings(prefix, copies=1)
        for _ in range(steps):
            network.expert(x, t, prefix, surroundings=around)


def _trainer(folder: Path, batch: int) -> SFTTrainer:
    policy = base_policy("pi05-nano").train()
    datasets = []
    for number in range(2):
        episodes = _episodes(policy.config.image_size, seed=number)
        write_dataset(folder / str(number), episodes, fps=5, robot_type="bench")
        datasets.append(Dataset.open(folder / str(number)))
    mixture = Mixture(datasets, [0.5, 0.5], horizon=policy.horizon, batch_size=batch, seed=0)
    return SFTTrainer(policy, mixture, SFTConfig(steps=1000, batch_size=batch, lr=1e-5))


def _episodes(size: int, *, seed: int, count: int = 4, frames: int = 60) -> Iterator[Episode]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield Episode(
            image=rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8),
            state=rng.uniform(0, 0.4, (frames, 8)).astype(np.float32),
            action=rng.uniform(-0.02, 0.02, (frames, 7)).astype(np.float32),
            instruction="push the pink cube",
            fps=5,
            stop_reason=StopReason.SUCCESS,
        )


def _seen(batch: int, size: int) -> Observation:
    return random_observation(batch, size=size, instructions=("push the pink cube",))


def _random_inputs(network: PiNetwork, batch: int) -> Inputs:
    config, generator = network.config, torch.Generator().manual_seed(0)
    size, length = config.image_size, config.prompt_length
    is_token = (torch.arange(length) < length - 4).expand(batch, -1)
    return Inputs(
        pixels=torch.rand(batch, 1, 3, size, size, generator=generator) * 2 - 1,
        tokens=torch.randint(2, config.vocabulary, (batch, length), generator=generator),
        is_token=is_token,
        is_word=is_token,
        state=torch.rand(batch, config.model_state_dim, generator=generator),
    )


if __name__ == "__main__":
    sys.exit(main())
