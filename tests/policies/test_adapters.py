from pathlib import Path

import pytest
import torch

from rlco.core.policy import Batch, Observation
from rlco.policies.adapters import LoraConfig, Tower, adapter_parameters, has_adapters
from rlco.policies.checkpoint import load_policy, policy_tensors, save_policy
from rlco.policies.pi.policy import PiPolicy
from tests.train.samples import tiny

TOWERS: tuple[Tower, ...] = ("expert", "language", "both")


def observation(count: int = 3) -> Observation:
    generator = torch.Generator().manual_seed(0)
    return Observation(
        image=torch.randint(0, 256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8),
        state=torch.rand(count, 8, generator=generator) * 2 - 1,
        instruction=("push the pink cube",) * count,
    )


def batch(count: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(7)
    return Batch(
        observation=observation(count),
        action=0.05 * torch.randn(count, 8, 7, generator=generator),
        is_pad=torch.zeros(count, 8, dtype=torch.bool),
    )


def losses(policy: PiPolicy) -> torch.Tensor:
    return policy.loss(batch(), generator=torch.Generator().manual_seed(0))


def adapted(tower: Tower = "expert", *, mlp: bool = False, learnt: bool = True) -> PiPolicy:
    """Return a policy with adapters; ``learnt`` ones change what it does."""
    policy, generator = tiny(), torch.Generator().manual_seed(3)
    policy.set_trainable("lora", lora=LoraConfig(lora_tower=tower, lora_rank=4, lora_alpha=6.0, lora_mlp=mlp))
    with torch.no_grad():
        for parameter in adapter_parameters(policy) if learnt else ():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return policy


@pytest.mark.parametrize("tower", TOWERS)
def test_fresh_adapters_change_nothing(tower: Tower) -> None:
    assert torch.equal(losses(adapted(tower, learnt=False)), losses(tiny()))


@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("tower", TOWERS)
def test_a_saved_policy_is_the_adapted_one_without_adapters(tower: Tower, mlp: bool, tmp_path: Path) -> None:  # noqa: FBT001
    policy = adapted(tower, mlp=mlp)
    save_policy(tmp_path / "policy", policy, provenance={})
    loaded = load_policy(tmp_path / "policy")
    assert not has_adapters(loaded)
    torch.testing.assert_close(losses(loaded), losses(policy), atol=1e-5, rtol=1e-5)
    assert (losses(loaded) - losses(tiny())).abs().max() > 1e-3
    ours, theirs = (
        p.sample(observation(), explore=True, generator=torch.Generator().manual_seed(1)) for p in (policy, loaded)
    )
    torch.testing.assert_close(ours.action, theirs.action, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("tower", TOWERS)
def test_a_checkpoint_has_the_names_and_shapes_of_one_without_adapters(tower: Tower, mlp: bool) -> None:  # noqa: FBT001
    with_adapters, without = (policy_tensors(p) for p in (adapted(tower, mlp=mlp), tiny()))
    assert {k: v.shape for k, v in with_adapters.items()} == {k: v.shape for k, v in without.items()}


def test_the_merged_weight_by_hand() -> None:
    policy = adapted("expert")
    name = "network.paligemma_with_expert.gemma_expert.model.layers.1.self_attn.v_proj"
    state = policy.state_dict()
    down, up = (state[f"{name}.lora_{letter}.default.weight"] for letter in "AB")
    expected = tiny().state_dict()[f"{name}.weight"] + 6.0 / 4 * up @ down
    torch.testing.assert_close(policy.merged_state()[f"{name}.weight"], expected)


@pytest.mark.parametrize(("tower", "mlp", "maps"), [("expert", False, 4), ("language", True, 7), ("both", True, 14)])
def test_every_layer_of_the_tower_is_adapted(tower: Tower, mlp: bool, maps: int) -> None:  # noqa: FBT001
    layers = 2
    assert len(adapter_parameters(adapted(tower, mlp=mlp))) == 2 * maps * layers


def test_only_adapters_projections_and_heads_learn() -> None:
    policy = adapted("expert", learnt=False)
    learning = {name for name, p in policy.named_parameters() if p.requires_grad}
    places = ("lora_A", "lora_B", "noise_head.", "value_head.", "network.action_", "network.suffix.")
    assert all(any(place in name for place in places) for name in learning)
    assert all(any(place in name for name in learning) for place in places)
    before = {name: p.detach().clone() for name, p in policy.named_parameters()}
    optimiser = torch.optim.SGD(policy.actor_parameters(), lr=0.1)
    for _ in range(2):  # B is zero at first, so A moves from the second step on
        optimiser.zero_grad()
        losses(policy).mean().backward()
        optimiser.step()
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, before[name])}
    assert moved <= learning
    assert any("lora_A" in name for name in moved)


@pytest.mark.parametrize(("tower", "trains"), [("expert", False), ("language", True), ("both", True)])
def test_the_prefix_learns_only_where_something_upstream_of_it_does(tower: Tower, trains: bool) -> None:  # noqa: FBT001
    assert adapted(tower).prefix_trains is trains


def test_what_learns_decides_whether_the_prefix_is_kept_and_not_the_name_of_the_part() -> None:
    policy = tiny()
    assert policy.prefix_trains
    policy.set_trainable("expert")
    assert not policy.prefix_trains
    next(iter(policy.network.prefix_parameters())).requires_grad_()
    assert policy.prefix_trains
    assert policy.encode(observation()).key.requires_grad


def test_adapters_stay_in_float32_beside_weights_of_16_bits_and_merge_without_rounding() -> None:
    policy = tiny()
    policy.network.to_bfloat16()
    policy.set_trainable("lora", lora=LoraConfig(lora_tower="both"))
    assert {p.dtype for p in adapter_parameters(policy)} == {torch.float32}
    with torch.no_grad():
        for parameter in adapter_parameters(policy):
            parameter.fill_(1e-3)
    name = "network.paligemma_with_expert.gemma_expert.model.layers.0.self_attn.q_proj"
    merged, frozen = policy.merged_state()[f"{name}.weight"], policy.state_dict()[f"{name}.base_layer.weight"].float()
    torch.testing.assert_close(merged - frozen, torch.full_like(frozen, 16e-6), atol=1e-7, rtol=0)
    assert torch.isfinite(losses(policy)).all()


def test_two_policies_of_one_seed_get_the_same_adapters_whatever_was_drawn_before() -> None:
    torch.manual_seed(1)
    first = adapter_parameters(adapted(learnt=False))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = adapter_parameters(adapted(learnt=False))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_adapters_are_added_once() -> None:
    policy = adapted()
    with pytest.raises(ValueError, match="has adapters already: save it"):
        policy.set_trainable("lora")
    with pytest.raises(ValueError, match=r"has adapters: save it .* to train another part"):
        policy.set_trainable("all")


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"lora_rank": 0}, "LoraConfig.lora_rank must be 1 or more, got 0"), ({"lora_alpha": 0.0}, "lora_alpha must be")],
)
def test_bad_numbers_are_refused_when_the_configuration_is_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**changes)
