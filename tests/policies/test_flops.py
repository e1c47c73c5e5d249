from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rlco.policies.pi.config import PiConfig, pi0_tiny, pi05_base, pi05_nano, pi05_tiny
from rlco.policies.pi.flops import forward_flops
from tests.policies.networks import network_of, random_inputs

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "config",
    [replace(pi05_tiny(), grounding_heads=0), pi0_tiny(), replace(pi05_nano(), grounding_heads=0, kv_heads=2)],
    ids=["pi05", "pi0", "other sizes"],
)
@pytest.mark.parametrize(("cameras", "copies"), [(1, 1), (2, 3)])
def test_the_count_is_what_torch_counts(config: PiConfig, cameras: int, copies: int) -> None:
    network, inputs = network_of(config), random_inputs(config, batch=2, cameras=cameras)
    expected = forward_flops(config, cameras=cameras, copies=copies)
    noisy, time = torch.randn(2, copies, config.horizon, config.model_action_dim), torch.rand(2, copies)
    counted = []
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of the CPU are not counted
        with FlopCounterMode(display=False) as counter:
            prefix = network.prefix(inputs)
        counted.append(counter.get_total_flops())
        with FlopCounterMode(display=False) as counter:
            network.expert(noisy, time, prefix)
        counted.append(counter.get_total_flops())
    assert counted == [2 * expected.prefix, 2 * expected.expert]


@pytest.mark.parametrize("part", ["full", "expert"])
@pytest.mark.parametrize(
    "config",
    [replace(pi05_tiny(), grounding_heads=0), pi0_tiny(), replace(pi05_nano(), grounding_heads=0, kv_heads=2)],
    ids=["pi05", "pi0", "other sizes"],
)
@pytest.mark.parametrize(("cameras", "copies"), [(1, 1), (2, 3)])
def test_the_count_of_a_step_is_what_torch_counts(config: PiConfig, cameras: int, copies: int, part: str) -> None:
    network, inputs = network_of(config), random_inputs(config, batch=2, cameras=cameras)
    for parameter in network.prefix_parameters():
        parameter.requires_grad_(part == "full")
    noisy, time = torch.randn(2, copies, config.horizon, config.model_action_dim), torch.rand(2, copies)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.expert(noisy, time, network.prefix(inputs))[0].square().mean().backward()
    expected = forward_flops(config, cameras=cameras, copies=copies)
    assert counter.get_total_flops() == 2 * {"full": expected.full_step, "expert": expected.expert_step}[part]


def test_the_backward_pass_of_a_released_size_is_a_little_less_than_twice_the_forward() -> None:
    flops = forward_flops(pi05_base(), cameras=3)
    # the language model is 18 equal layers, of the last of which little is read
    assert 0.94 < flops.full_step / (3 * (flops.prefix + flops.expert)) < 0.98


def test_the_grounding_token_is_not_counted_silently() -> None:
    with pytest.raises(ValueError, match="this size has 2 heads of it"):
        forward_flops(pi05_tiny())


@pytest.mark.parametrize("family", ["pi05", "pi0"])
def test_the_full_size_benchmark_runs_at_tiny_size_on_the_cpu(family: str) -> None:
    command = [sys.executable, "benchmarks/bench_full_size.py", "--size", "tiny", "--device", "cpu"]
    command += ["--family", family, "--rounds", "1", "--batch-size", "2", "--recompute"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["size"] == f"{family}-tiny"
    assert figures["training"].keys() == {"expert", "full"}
    assert figures["sampling"].keys() == {"batch_1", "batch_64"}
    assert all(part["utilisation"] > 0 for part in figures["training"].values())
