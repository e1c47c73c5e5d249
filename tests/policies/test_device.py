"""Nothing is on the wrong device: torch's device without memory refuses to meet tensors of the processor."""

import pytest
import torch

from rlco.core.policy import Batch, Observation
from rlco.policies.pi.exploration import FlowExploration, Method
from tests.policies.networks import pi_policy
from tests.train.samples import CODEC


def seen(count: int = 2) -> Observation:
    return Observation(
        image=torch.zeros(count, 32, 32, 3, dtype=torch.uint8),
        state=torch.zeros(count, 8),
        instruction=("push the pink cube",) * count,
    )


@pytest.mark.parametrize("name", ["pi05-tiny", "pi0-tiny"])
@pytest.mark.parametrize("method", ["flow-noise", "flow-sde", "reinflow"])
def test_a_policy_elsewhere_takes_tensors_of_the_processor(name: str, method: Method) -> None:
    policy, generator = pi_policy(name, CODEC, seed=0), torch.Generator().manual_seed(0)
    policy.set_exploration(FlowExploration(method=method), value_from="expert")
    policy.to("meta")
    for explore in (True, False):
        sample = policy.sample(seen(), explore=explore, generator=generator)
        kept = [*sample.trace.values(), sample.action, sample.log_prob, sample.value]
        assert {value.device.type for value in kept} == {"meta"}
    batch = Batch(observation=seen(), action=torch.zeros(2, 8, 7), is_pad=torch.zeros(2, 8, dtype=torch.bool))
    loss = policy.loss(batch, generator=generator)
    loss.mean().backward()
    assert loss.device.type == policy.value(seen()).device.type == "meta"


def test_a_tensor_that_stayed_behind_is_noticed() -> None:
    policy = pi_policy("pi05-tiny", CODEC, seed=0).to("meta")
    policy._buffers["stochastic"] = torch.zeros(policy.stochastic.shape, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="device"):
        policy.sample(seen(), explore=True, generator=torch.Generator())


def test_pointing_goes_where_the_policy_is_and_reads_words_of_16_bits() -> None:
    policy = pi_policy("pi05-tiny", CODEC, seed=0)
    policy.network.to_bfloat16()
    assert policy.pointing(seen()).dtype == torch.float32
    assert policy.to("meta").pointing(seen()).device.type == "meta"
