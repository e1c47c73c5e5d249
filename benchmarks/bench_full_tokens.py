"""OpenVLA at its released size on an accelerator, with random weights in bfloat16: training, sampling, memory.

    python benchmarks/bench_full_tokens.py [--size 7b] [--batch-size 8] [--decisions 8] [--trainable lora] [--recompute]
        [--compile] [--device cuda] [--rounds 10] [--save FILE] [--compare FILE]
    python benchmarks/bench_full_tokens.py --device meta              # counts and estimates alone, anywhere
    python benchmarks/bench_full_tokens.py --size tiny --device cpu   # that the benchmark runs

``matmul_tflops`` is the rate of a large bfloat16 matrix product on this device in this run; ``utilisation`` is the
step's own operations (``rlco.policies.openvla.flops``, recomputation not counted) over what that rate could do in its
time. A step of training is the policy's loss from pictures and words, backward, clipping, and AdamW as training takes
it; one of Stage II is the score, the value and the real term of drawn decisions and demonstrations, and the same. The
estimates are what ``rlco.train.memory`` says of the two (without a card they count the reading of a checkpoint in 32
bits too). Where a card measures their peaks, the target is met if both are within a tenth of the estimates and below
80 GB; elsewhere there is nothing to meet.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from comparison import add_options, conclude, setting
from device import MATMUL, card, forget_peak, matmul_rate, median_seconds, peak_gb
from torch import Tensor
from turns import random_observation

from rlco.algos.ppo import policy_loss, value_loss
from rlco.core.policy import Batch
from rlco.core.scene import ACTION_DIM, STATE_DIM
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.openvla.config import CONFIGS, OpenVlaConfig
from rlco.policies.openvla.flops import Flops, step_flops
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.network import OpenVlaNetwork
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.train.compute import ComputeConfig
from rlco.train.memory import Load, needs
from rlco.train.optimiser import MasterAdamW

SIZES = ("7b", "tiny")
SAME = ("card", "size", "batch_size", "decisions", "trainable", "recompute", "compiled")
STEPS = ("training", "stage_two")
MOST_ERROR = 0.1
"""Of an estimate of memory, beside the peak."""
MOST_GB = 80
"""A step is one for such a card."""
_LEAST_GB = 60
"""Of a card that the released size is built on: its weights are drawn in 32 bits."""
_CODEC = Codec(
    state=Normaliser(low=(-1.0,) * STATE_DIM, high=(1.0,) * STATE_DIM),
    action=Normaliser(low=(-0.05,) * ACTION_DIM, high=(0.05,) * ACTION_DIM),
)


class FullPrompt:
    """A tokenizer whose every prompt fills its place: words are not what is measured."""

    begin, end, pad = 1, 2, 0

    def __init__(self, length: int) -> None:
        self.length = length

    def encode(self, style: str, task: str) -> tuple[list[int], slice]:
        """Return as many tokens as the policy takes."""
        del style, task
        return [3] * self.length, slice(1, self.length - 2)

    def require_fits(self, config: OpenVlaConfig) -> None:
        """Fit every policy."""


def main() -> int:
    """Measure, print, save and compare. The exit code is 2 where the size cannot be built here."""
    options = _options()
    if problem := _problem(options):
        print(problem, file=sys.stderr)
        return 2
    figures = measure(options)
    steps = {name: figures[name] for name in STEPS if name in figures}
    timed = steps | figures.get("sampling", {})
    low = {f"{part} seconds": its["seconds"] for part, its in timed.items()}
    low |= {f"{p} memory": its["peak_memory_GB"] for p, its in timed.items() if its["peak_memory_GB"] is not None}
    high = {"utilisation": figures["training"]["utilisation"]} if timed else {}
    is_met = all(_is_foreseen(figures["estimates_GB"][name], its["peak_memory_GB"]) for name, its in steps.items())
    return conclude(figures, options, same=SAME, is_met=is_met, high=high, low=low)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures; those that take time only where there is a device."""
    config, compute = CONFIGS[f"openvla-{options.size}"](), _compute(options)
    flops = step_flops(config, lora_rank=compute.lora.lora_rank or 32)
    load = Load(policy=config, trainable=options.trainable, compute=compute, samples=options.batch_size)
    loads = dict(zip(STEPS, (load, replace(load, decisions=options.decisions)), strict=True))
    figures = {
        **setting(threads=torch.get_num_threads()),
        "card": card(options.device),
        "size": f"openvla-{options.size}",
        "batch_size": options.batch_size,
        "decisions": options.decisions,
        "trainable": options.trainable,
        "recompute": options.recompute,
        "compiled": options.compile,
        "forward_gflops": {"see": round(flops.see / 1e9, 4), "read": round(flops.read / 1e9, 4)},
        "step_gflops": round(_step(flops, options) / 1e9, 4),
        "estimates_GB": {name: round(needs(its).total / 1e9, 3) for name, its in loads.items()},
    }
    if options.device == "meta":
        return figures
    policy, rate = _policy(config, compute, options), matmul_rate(options.device, rounds=options.rounds)
    return {
        **figures,
        "parameters": sum(p.numel() for p in policy.network.parameters()),
        "matmul_tflops": round(rate / 1e12, 4),
        "training": training(policy, options, flops, rate=rate),
        "stage_two": stage_two(policy, options),
        "sampling": {f"batch_{batch}": sampling(policy, options, batch=batch) for batch in (1, 64)},
    }


def training(policy: OpenVlaPolicy, options: argparse.Namespace, flops: Flops, *, rate: float) -> dict[str, Any]:
    """Return seconds, utilisation and peak memory of a supervised step."""
    batch, samples, generator = options.batch_size, _demonstrated(policy, options), torch.Generator()
    figures = _stepped(policy, lambda: policy.loss(samples, generator=generator).mean(), options)
    return {
        **figures,
        "samples_per_s": round(batch / figures["seconds"], 2),
        "utilisation": round(batch * _step(flops, options) / figures["seconds"] / rate, 4),
    }


def stage_two(policy: OpenVlaPolicy, options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds and peak memory of an update of Stage II: PPO's losses on drawn decisions, and the real term."""
    count, samples, generator = options.decisions, _demonstrated(policy, options), torch.Generator().manual_seed(0)
    seen = random_observation(count, size=policy.config.image_size, instructions=("push",))
    drawn = policy.sample(seen, explore=True, generator=generator)
    advantage = torch.randn(count, generator=generator).to(policy.device)

    def loss() -> Tensor:
        said = policy.evaluate(seen, drawn.trace)
        rl = policy_loss(said.log_prob, drawn.log_prob, advantage, clip=0.2).loss
        critic = value_loss(said.value, drawn.value, advantage, clip=0.2)
        return rl + critic + policy.loss(samples, generator=generator).mean()

    return {**_stepped(policy, loss, options), "decisions": count}


def sampling(policy: OpenVlaPolicy, options: argparse.Namespace, *, batch: int) -> dict[str, Any]:
    """Return the latency of one decision for ``batch`` observations, from pictures and words to SI units."""
    seen = random_observation(batch, size=policy.config.image_size, instructions=("push",))
    generator = torch.Generator().manual_seed(0)

    def sample() -> None:
        with torch.inference_mode():
            policy.sample(seen, explore=True, generator=generator)

    forget_peak(options.device)
    seconds = median_seconds(sample, options.device, rounds=options.rounds)
    return {"seconds": round(seconds, 5), "peak_memory_GB": peak_gb(options.device)}


def _stepped(policy: OpenVlaPolicy, loss: Callable[[], Tensor], options: argparse.Namespace) -> dict[str, Any]:
    """Return seconds and peak memory of a step on ``loss``, and leave no gradient behind."""
    groups = [(policy.actor_parameters(), 1e-6), (policy.critic_parameters(), 1e-6)]
    optimiser = MasterAdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.clip(1.0)
        optimiser.step()

    forget_peak(options.device)
    seconds = median_seconds(step, options.device, rounds=options.rounds)
    optimiser.zero_grad()
    return {"seconds": round(seconds, 5), "peak_memory_GB": peak_gb(options.device)}


def _demonstrated(policy: OpenVlaPolicy, options: argparse.Namespace) -> Batch:
    """Return demonstrations of noise."""
    batch, horizon, generator = options.batch_size, policy.horizon, torch.Generator().manual_seed(0)
    return Batch(
        observation=random_observation(batch, size=policy.config.image_size, instructions=("push",)),
        action=0.02 * torch.randn(batch, horizon, ACTION_DIM, generator=generator),
        is_pad=torch.zeros(batch, horizon, dtype=torch.bool),
    )


def _is_foreseen(estimate_gb: float, peak: float | None) -> bool:
    """Return whether a step took what was said, and fits the card it is for; True where nothing counts memory."""
    return peak is None or (abs(estimate_gb / peak - 1) < MOST_ERROR and peak < MOST_GB)


def _policy(config: OpenVlaConfig, compute: ComputeConfig, options: argparse.Namespace) -> OpenVlaPolicy:
    torch.manual_seed(0)
    with torch.device(options.device):
        network = OpenVlaNetwork(config, state_dim=STATE_DIM)
    interface = Interface(codec=_CODEC, tokenizer=FullPrompt(config.prompt_length))
    policy = OpenVlaPolicy(config, interface, network=network)
    compute.prepare(policy, options.trainable)
    return policy.train()


def _compute(options: argparse.Namespace) -> ComputeConfig:
    config = CONFIGS[f"openvla-{options.size}"]()
    return ComputeConfig(
        device="cuda" if options.device == "cuda" else "cpu",
        precision="bfloat16",
        gradient_checkpointing=options.recompute,
        compile=options.compile,
    ).for_policy(config, options.trainable)


def _step(flops: Flops, options: argparse.Namespace) -> int:
    return {"all": flops.full_step, "expert": flops.expert_step, "lora": flops.lora_step}[options.trainable]


def _problem(options: argparse.Namespace) -> str | None:
    """Return why the size cannot be built on the device, or None."""
    if options.device == "cuda" and not torch.cuda.is_available():
        return "There is no CUDA device here. --device meta counts and estimates without one."
    if options.size != "7b" or options.device == "meta":
        return None
    there = torch.cuda.get_device_properties(0).total_memory / 1e9 if options.device == "cuda" else 0
    if there < _LEAST_GB:
        return (
            f"openvla-7b is measured on an accelerator with {_LEAST_GB} GB or more, '{options.device}' has "
            f"{there:.0f}: --device meta counts and estimates without one, --size tiny runs anywhere."
        )
    return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    has_gpu = torch.cuda.is_available()
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--device", choices=(*MATMUL, "meta"), default="cuda" if has_gpu else "meta")
    parser.add_argument("--batch-size", type=int, default=8, help="demonstrations in a step")
    parser.add_argument("--decisions", type=int, default=8, help="drawn decisions in a step of Stage II")
    parser.add_argument("--trainable", choices=("lora", "expert", "all"), default="lora")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--recompute", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--compile", action="store_true", help="compile the layers (torch.compile)")
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
