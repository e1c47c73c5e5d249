"""The released sizes on an accelerator, with random weights in bfloat16: training, sampling, memory.

    python benchmarks/bench_full_size.py [--family pi05] [--batch-size 16] [--cameras 3] [--recompute] [--compile]
        [--size base] [--device cuda] [--rounds 10] [--save FILE] [--compare FILE]
    python benchmarks/bench_full_size.py --size tiny --device cpu    # the defaults where there is no GPU

``matmul_tflops`` is the rate of a large bfloat16 matrix product on this device in this run; ``utilisation`` is the
model's own operations (``rlco.policies.pi.flops``: a forward pass and those gradients that there are, recomputation
not counted) over what that rate could do in the time of a step. A step is forward, loss, backward and a fused AdamW on
bfloat16 weights. The target holds for the released sizes on a GPU; at other sizes and on a CPU the figures only show
that the benchmark runs.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import Any

import torch
from comparison import add_options, conclude, setting
from device import MATMUL, card, forget_peak, matmul_rate, median_seconds, peak_gb

from rlco.algos.flow import time_grid
from rlco.policies.pi.config import CONFIGS
from rlco.policies.pi.flops import Flops, forward_flops
from rlco.policies.pi.inputs import Inputs
from rlco.policies.pi.network import PiNetwork

LEAST_UTILISATION = 0.45
SIZES = ("base", "tiny", "nano")
SAME = ("card", "size", "batch_size", "cameras", "recompute", "compiled")


def main() -> int:
    """Measure, print, save and compare; the exit code says whether the target is met."""
    options = _options()
    figures = measure(options)
    has_target = options.size == "base" and options.device == "cuda"
    is_met = not has_target or figures["training"]["full"]["utilisation"] >= LEAST_UTILISATION
    parts = figures["training"] | figures["sampling"]
    high = {f"{part} utilisation": its["utilisation"] for part, its in figures["training"].items()}
    low = {f"{part} seconds": its["seconds"] for part, its in parts.items()}
    low |= {f"{p} memory": its["peak_memory_GB"] for p, its in parts.items() if its["peak_memory_GB"] is not None}
    return conclude(figures, options, same=SAME, is_met=is_met, high=high, low=low)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    config = replace(CONFIGS[f"{options.family}-{options.size}"](), grounding_heads=0, flow_copies=1)
    torch.manual_seed(0)
    with torch.device(options.device):
        network = PiNetwork(config).to_bfloat16()
    network.set_recompute(recompute=options.recompute)
    if options.compile:
        network.compile_layers()
    rate = matmul_rate(options.device, rounds=options.rounds)
    flops = forward_flops(config, cameras=options.cameras)
    sampled = {f"batch_{batch}": sampling(network, options, batch=batch) for batch in (1, 64)}
    trained = {part: training(network, options, flops, part=part, rate=rate) for part in ("expert", "full")}
    return {
        **setting(threads=torch.get_num_threads()),
        "card": card(options.device),
        "size": f"{options.family}-{options.size}",
        "parameters": sum(p.numel() for p in network.parameters()),
        "batch_size": options.batch_size,
        "cameras": options.cameras,
        "recompute": options.recompute,
        "compiled": options.compile,
        "matmul_tflops": round(rate / 1e12, 4),
        "forward_gflops": {"prefix": round(flops.prefix / 1e9, 4), "expert": round(flops.expert / 1e9, 4)},
        "training": trained,
        "sampling": sampled,
    }


def training(
    network: PiNetwork, options: argparse.Namespace, flops: Flops, *, part: str, rate: float
) -> dict[str, Any]:
    """Return seconds and utilisation of a training step of the whole network, or of the expert alone."""
    is_full = part == "full"
    for parameter in network.prefix_parameters():
        parameter.requires_grad_(is_full)
    network.train()
    inputs, batch = _inputs(network, options, options.batch_size), options.batch_size
    shape = (batch, 1, network.config.horizon, network.config.model_action_dim)
    noisy, target, t = (torch.rand(s, device=options.device) for s in (shape, shape, shape[:2]))
    optimiser = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-6, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(is_full):
            prefix = network.prefix(inputs)
        (network.expert(noisy, t, prefix)[0] - target).square().mean().backward()
        optimiser.step()

    forget_peak(options.device)
    seconds = median_seconds(step, options.device, rounds=options.rounds)
    work = batch * (flops.full_step if is_full else flops.expert_step)
    return {
        "seconds": round(seconds, 5),
        "samples_per_s": round(batch / seconds, 2),
        "utilisation": round(work / seconds / rate, 4),
        "peak_memory_GB": peak_gb(options.device),
    }


def sampling(network: PiNetwork, options: argparse.Namespace, *, batch: int) -> dict[str, Any]:
    """Return the latency of one chunk for ``batch`` observations: prefix and all denoising steps."""
    config, inputs = network.config, _inputs(network, options, batch)
    start = torch.randn(batch, 1, config.horizon, config.model_action_dim, device=options.device)
    times = time_grid(config.denoise_steps)[:-1].to(options.device)

    def sample() -> None:
        with torch.inference_mode():
            prefix, x = network.prefix(inputs), start
            around = network.surroundings(prefix, copies=1)
            for t in times:
                x = x - network.expert(x, t.view(1, 1), prefix, surroundings=around)[0] / len(times)

    forget_peak(options.device)
    seconds = median_seconds(sample, options.device, rounds=options.rounds)
    return {"seconds": round(seconds, 5), "steps": len(times), "peak_memory_GB": peak_gb(options.device)}


def _inputs(network: PiNetwork, options: argparse.Namespace, batch: int) -> Inputs:
    config = network.config
    size, length = config.image_size, config.prompt_length
    with torch.device(options.device):
        is_token = torch.ones(batch, length, dtype=torch.bool)
        return Inputs(
            pixels=torch.rand(batch, options.cameras, 3, size, size) * 2 - 1,
            tokens=torch.randint(2, config.vocabulary, (batch, length)),
            is_token=is_token,
            is_word=is_token,
            state=torch.rand(batch, config.model_state_dim),
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    has_gpu = torch.cuda.is_available()
    parser.add_argument("--size", choices=SIZES, default="base" if has_gpu else "tiny")
    parser.add_argument("--family", choices=("pi05", "pi0"), default="pi05")
    parser.add_argument("--device", choices=tuple(MATMUL), default="cuda" if has_gpu else "cpu")
    parser.add_argument("--batch-size", type=int, default=16, help="of a training step")
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--recompute", action="store_true", help="recompute activations in the backward pass")
    parser.add_argument("--compile", action="store_true", help="compile the layers (torch.compile)")
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
