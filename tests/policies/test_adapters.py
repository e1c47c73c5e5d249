from pathlib import Path

import pytest
import torch
from torch import nn

from rlco.core.policy import Batch, Observation
from rlco.policies.adapters import LoraConfig, Tower, adapter_parameters, has_adapters
from rlco.policies.checkpoint import load_policy, policy_tensors, save_policy
from rlco.policies.contract import AnyPolicy
from rlco.policies.families import CONFIGS
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.pi.policy import PiPolicy
from tests.train.samples import TOKEN_SIZES, TOKENS, small, tiny

TOWERS: tuple[Tower, ...] = ("expert", "language", "both", "all")


def observation(count: int = 3) -> Observation:
    generator = torch.Generator().manual_seed(0)
    return Observation(
        image=torch.randint(0, 256, (count, 32, 32, 3), generator=generator, dtype=torch.uint8),
        state=torch.rand(count, 8, generator=generator) * 2 - 1,
        instruction=("push the pink cube",) * count,
    )


def batch(count: int = 3, *, horizon: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(7)
    return Batch(
        observation=observation(count),
        action=0.05 * torch.randn(count, horizon, 7, generator=generator),
        is_pad=torch.zeros(count, horizon, dtype=torch.bool),
    )


def losses(policy: AnyPolicy) -> torch.Tensor:
    return policy.loss(batch(horizon=policy.horizon), generator=torch.Generator().manual_seed(0))


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


@pytest.mark.parametrize(("tower", "trains"), [("expert", False), ("language", True), ("both", True), ("all", True)])
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
    [
        ({"lora_rank": 0}, "LoraConfig.lora_rank must be 1 or more, got 0"),
        ({"lora_alpha": 0.0}, "lora_alpha must be"),
    ],
)
def test_bad_numbers_are_refused_when_the_configuration_is_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoraConfig(**changes)


def token_policy(kind: str, lora: LoraConfig, *, learnt: bool = True) -> OpenVlaPolicy:
    """Return a token policy with adapters; ``learnt`` ones change what it does."""
    policy, generator = small(kind), torch.Generator().manual_seed(3)
    assert isinstance(policy, OpenVlaPolicy)
    policy.set_trainable("lora", lora=lora)
    with torch.no_grad():
        for parameter in adapter_parameters(policy) if learnt else ():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return policy


@pytest.mark.parametrize("kind", TOKEN_SIZES)
def test_a_token_policy_adapts_every_linear_map_that_was_published_and_is_used(kind: str) -> None:
    policy = token_policy(kind, LoraConfig(), learnt=False)
    network = policy.network
    towers = {"vision_backbone", "projector", "language_model"}
    unused = {id(p) for p in network.unused_parameters()}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and ".lora_" not in name:
            is_adapted = name.endswith(".base_layer")
            assert is_adapted == (name.split(".")[0] in towers and id(module.weight) not in unused), name
    assert not any(".blocks.1." in name for name, p in network.named_parameters() if ".lora_" in name)
    learning = {
        name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad and ".lora_" not in name
    }
    assert learning == ({"grounding", "proprio"} if kind == "openvla-oft-tiny" else set())


def test_the_published_recipe_by_hand() -> None:
    policy = small("openvla-tiny")
    policy.set_trainable("lora")
    sizes = {name: p for name, p in policy.network.named_parameters() if ".lora_" in name}
    starts = torch.cat([p.detach().flatten() for name, p in sizes.items() if ".lora_A." in name])
    assert {min(p.shape[0 if ".lora_A." in name else 1] for name, p in sizes.items())} == {32}
    assert float(starts.std()) == pytest.approx(1 / 32, rel=0.05)
    assert all(not p.any() for name, p in sizes.items() if ".lora_B." in name)
    with torch.no_grad():
        sizes["projector.fc1.lora_B.default.weight"].fill_(1.0)
    frozen = policy.state_dict()["network.projector.fc1.base_layer.weight"]
    merged = policy.merged_state()["network.projector.fc1.weight"]
    down = sizes["projector.fc1.lora_A.default.weight"].detach()
    torch.testing.assert_close(merged - frozen, 16 / 32 * down.sum(0).expand_as(frozen), atol=1e-6, rtol=1e-5)


def test_each_policy_has_its_own_recipe_and_every_value_can_be_given() -> None:
    assert CONFIGS["pi05-tiny"]().lora(LoraConfig()) == LoraConfig(
        lora_tower="expert", lora_rank=16, lora_alpha=16.0, lora_init="kaiming"
    )
    published = LoraConfig(lora_tower="all", lora_rank=32, lora_alpha=16.0, lora_init="gaussian")
    assert CONFIGS["openvla-7b"]().lora(LoraConfig()) == published
    assert CONFIGS["openvla-7b"]().lora(LoraConfig(lora_rank=8)).lora_alpha == 8.0
    given = LoraConfig(lora_tower="language", lora_rank=4, lora_alpha=4.0, lora_mlp=True, lora_init="kaiming")
    assert CONFIGS["openvla-7b"]().lora(given) == CONFIGS["pi05-tiny"]().lora(given) == given


def test_a_tower_that_the_policy_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="lora_tower must be one of language, all for openvla, got 'expert'"):
        CONFIGS["openvla-tiny"]().lora(LoraConfig(lora_tower="expert"))


@pytest.mark.parametrize("tower", ["language", "all"])
@pytest.mark.parametrize("kind", TOKENS)
def test_a_saved_token_policy_is_the_adapted_one_without_adapters(kind: str, tower: Tower, tmp_path: Path) -> None:
    policy = token_policy(kind, LoraConfig(lora_tower=tower))
    save_policy(tmp_path / "policy", policy, provenance={})
    loaded = load_policy(tmp_path / "policy")
    assert not has_adapters(loaded)
    torch.testing.assert_close(losses(loaded), losses(policy), atol=1e-4, rtol=1e-4)
    assert (losses(loaded) - losses(small(kind))).abs().max() > 1e-3
    seen = observation()
    drawn = policy.sample(seen, explore=True, generator=torch.Generator().manual_seed(1))
    said = [p.evaluate(seen, {k: v for k, v in drawn.trace.items() if k != "looks"}).log_prob for p in (policy, loaded)]
    torch.testing.assert_close(*said, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(said[0].detach(), drawn.log_prob, atol=1e-4, rtol=1e-5)
    plain = small(kind).evaluate(seen, {k: v for k, v in drawn.trace.items() if k != "looks"}).log_prob
    assert (plain - said[0]).abs().max() > 1e-2  # the output map's adapter counts among the 256 too
