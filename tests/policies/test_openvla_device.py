"""Nothing is on the wrong device: torch's device without memory refuses to meet tensors of the processor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rlco.policies.openvla.config import OpenVlaConfig, openvla_oft_tiny, openvla_tiny
from rlco.policies.openvla.exploration import TokenExploration
from tests.policies.token_policies import batch_of, generator, observation, policy_of

BOTH = pytest.mark.parametrize("config", [openvla_tiny(), openvla_oft_tiny()], ids=["autoregressive", "parallel"])


@BOTH
def test_a_policy_elsewhere_takes_tensors_of_the_processor(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    policy.set_exploration(TokenExploration(value_token="mean"))
    policy.to("meta")
    for explore in (True, False):
        sample = policy.sample(observation(), explore=explore, generator=generator())
        kept = [*sample.trace.values(), sample.action, sample.log_prob, sample.value]
        assert {value.device.type for value in kept} == {"meta"}
    loss = policy.loss(batch_of(policy), generator=generator())
    loss.mean().backward()
    assert loss.device.type == policy.value(observation()).device.type == "meta"


def test_what_an_answer_brings_goes_where_the_policy_is() -> None:
    policy = policy_of(openvla_tiny()).to("meta")
    chunks = policy.answering_as(replace(openvla_tiny(), head="parallel", horizon=4, executed=2))
    assert {b.device.type for b in chunks.buffers()} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@BOTH
def test_a_device_changes_no_draw(config: OpenVlaConfig) -> None:
    policy = policy_of(config)
    here = policy.sample(observation(), explore=True, generator=generator())
    there = policy.to("cuda").sample(observation(), explore=True, generator=generator())
    assert (here.trace["bins"] == there.trace["bins"].cpu()).float().mean() > 0.99
