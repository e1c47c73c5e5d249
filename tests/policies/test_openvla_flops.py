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

from rlco.policies.openvla.config import OpenVlaConfig, openvla_7b, openvla_oft_tiny, openvla_tiny
from rlco.policies.openvla.flops import step_flops
from rlco.policies.openvla.policy import OpenVlaPolicy
from tests.policies.token_policies import TASKS, batch_of, generator, policy_of

ROOT = Path(__file__).parents[2]
EVERY = pytest.mark.parametrize(
    "config",
    [
        openvla_tiny(),
        replace(openvla_oft_tiny(), grounding_heads=0),
        replace(openvla_tiny(), kv_heads=1, depth=3, proprio=True),
        replace(openvla_oft_tiny(), grounding_heads=0, hold=2),
    ],
    ids=["as published", "parallel", "other sizes", "held"],
)


def with_full_prompt(config: OpenVlaConfig) -> OpenVlaPolicy:
    """Return a policy whose longest prompt is one of the samples'."""
    return policy_of(replace(config, prompt_length=len(TASKS[2].split()) + 3))


def counted(policy: OpenVlaPolicy) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels are not counted
        policy.loss(batch_of(policy), generator=generator()).mean().backward()
    return counter.get_total_flops()


@EVERY
def test_the_count_of_a_forward_pass_is_what_torch_counts(config: OpenVlaConfig) -> None:
    policy = with_full_prompt(config)
    expected = step_flops(policy.config)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        policy.loss(batch_of(policy), generator=generator())
    assert counter.get_total_flops() == 3 * (expected.see + expected.read)


@EVERY
def test_the_count_of_a_step_is_what_torch_counts(config: OpenVlaConfig) -> None:
    policy = with_full_prompt(config)
    assert counted(policy) == 3 * step_flops(policy.config).full_step
    policy.set_trainable("expert")
    assert counted(policy) == 3 * step_flops(policy.config).expert_step


@EVERY
def test_the_count_with_adapters_is_what_torch_counts(config: OpenVlaConfig) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    policy = with_full_prompt(config)
    linear = [
        name
        for name, module in policy.network.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.startswith(("proprio", "grounding"))
    ]
    inject_adapter_in_model(LoraConfig(r=4, target_modules=linear, lora_dropout=0.0), policy.network)
    for name, parameter in policy.network.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith("proprio"))
    for parameter in policy.network.unused_parameters():
        parameter.requires_grad_(requires_grad=False)
    assert counted(policy) == 3 * step_flops(policy.config, lora_rank=4).lora_step


def test_the_released_size_is_its_parameters_for_each_token() -> None:
    flops = step_flops(openvla_7b())
    # 6.6 billion parameters of the language model for 360 tokens, 0.3 and 0.4 billion of the towers for 261 and 256
    assert 4.9e12 < flops.see + flops.read < 5.3e12
    assert 2.9 < flops.full_step / (flops.see + flops.read) < 3.0
    assert 2.0 < flops.lora_step / (flops.see + flops.read) < 2.2


def test_the_grounding_token_is_not_counted_silently() -> None:
    with pytest.raises(ValueError, match="this size has 2 heads of it"):
        step_flops(openvla_oft_tiny())


def benchmark(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "benchmarks/bench_full_tokens.py", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment)


def test_the_full_size_benchmark_runs_at_tiny_size_on_the_cpu() -> None:
    done = benchmark("--size", "tiny", "--device", "cpu", "--rounds", "1", "--batch-size", "2", "--recompute")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["size"] == "openvla-tiny"
    assert figures["training"]["utilisation"] > 0
    assert figures["sampling"].keys() == {"batch_1", "batch_64"}
    assert figures["estimates_GB"]["stage_two"] > figures["estimates_GB"]["training"] > 0
    assert figures["stage_two"]["seconds"] > 0
    lora = step_flops(openvla_tiny()).lora_step
    assert figures["step_gflops"] == pytest.approx(lora / 1e9, abs=1e-4)


def test_the_full_size_benchmark_refuses_the_released_size_without_an_accelerator() -> None:
    done = benchmark("--size", "7b", "--device", "cpu")
    assert done.returncode == 2
    assert "measured on an accelerator with 60 GB or more, 'cpu' has 0: --device meta counts" in done.stderr
