from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from rlco.core.policy import Batch, Observation
from rlco.policies.adapters import LoraConfig
from rlco.policies.contract import AnyPolicy, Trainable
from rlco.policies.exploration import Exploration
from rlco.policies.families import CONFIGS, PolicyConfig, empty_policy, family, new_policy
from rlco.policies.openvla.config import TowerSize, openvla_7b, openvla_oft_tiny, openvla_tiny
from rlco.policies.pi.config import TransformerSize, pi05_base, pi05_nano, pi05_tiny
from rlco.policies.pi.exploration import FlowExploration
from rlco.train import fits
from rlco.train.compute import ComputeConfig
from rlco.train.fits import DoesNotFitError, container_room, require_fits
from rlco.train.memory import LiveBytes, Load, needs
from rlco.train.optimiser import MasterAdamW
from rlco.train.real_term import frame_bytes
from tests.train.samples import CODEC, demonstrations

WIDE = replace(
    pi05_nano(),
    image_size=64,
    patch_size=8,
    language=TransformerSize(width=192, mlp=768),
    expert=TransformerSize(width=96, mlp=384),
    depth=4,
    heads=8,
    kv_heads=2,
    grounding_heads=0,
    flow_copies=1,
)
_TOWER = TowerSize(width=64, mlp=256, depth=3, heads=4)
TOKENS = replace(
    openvla_tiny(),
    image_size=48,
    patch_size=8,
    dino=_TOWER,
    siglip=replace(_TOWER, width=80),
    width=96,
    mlp=256,
    depth=3,
    heads=4,
    kv_heads=4,
    head_dim=24,
    prompt_length=7,  # of the instruction below: the estimate is for the longest prompt
)
SIZES: dict[str, PolicyConfig] = {
    "nano": pi05_nano(),
    "wide": WIDE,
    "pi0": replace(WIDE, family="pi0", vision_depth=6, flow_copies=2),
    "tokens": TOKENS,
    "chunk of tokens": replace(TOKENS, head="parallel", horizon=8, executed=4, proprio=True, grounding_heads=2),
}


def load(policy: PolicyConfig, part: Trainable = "all", *, samples: int = 8, **options: Any) -> Load:  # noqa: ANN401
    compute = ComputeConfig(lora=LoraConfig(lora_tower="all", lora_rank=4), **options)
    return Load(policy=policy, trainable=part, compute=compute, samples=samples)


def real(asked: Load) -> AnyPolicy:
    """Return the policy with real weights, in the form in which it is trained."""
    own = family(asked.policy.family)
    policy = own.policy(asked.policy, own.interface(asked.policy, CODEC))
    asked.compute.prepare(policy, asked.trainable)
    return policy


def batch(count: int, *, size: int, horizon: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        observation=Observation(
            image=torch.randint(0, 256, (count, size, size, 3), generator=generator, dtype=torch.uint8),
            state=torch.zeros(count, 8),
            instruction=("push the pink cube",) * count,
        ),
        action=torch.zeros(count, horizon, 7),
        is_pad=torch.zeros(count, horizon, dtype=torch.bool),
    )


def loss(policy: AnyPolicy, asked: Load) -> torch.Tensor:
    data = batch(asked.samples, size=asked.policy.image_size, horizon=asked.policy.horizon)
    return policy.loss(data, generator=torch.Generator().manual_seed(0)).mean()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("part", ["all", "expert", "lora"])
@pytest.mark.parametrize("size", [pi05_tiny(), openvla_tiny(), openvla_oft_tiny()])
def test_weights_gradients_and_optimiser_are_exact(size: PolicyConfig, part: Trainable, precision: str) -> None:
    asked = load(size, part, precision=precision)
    policy = real(asked)
    actor = policy.actor_parameters()
    optimiser = MasterAdamW([(actor, 1e-4)], betas=(0.9, 0.95), weight_decay=0.0)
    loss(policy, asked).backward()
    gradients = sum(p.grad.nbytes for p in actor if p.grad is not None)
    optimiser.step()
    moments = sum(v.nbytes for s in optimiser.state_dict()["adamw"]["state"].values() for v in s.values())
    own = {t.data_ptr() for t in policy.parameters()}
    masters = sum(w.nbytes for w in optimiser.weights() if w.data_ptr() not in own)
    weights = sum(t.nbytes for t in [*policy.parameters(), *policy.buffers()])
    need = needs(asked)
    assert (need.weights, need.gradients, need.optimiser) == (weights + masters, gradients, moments)


@pytest.mark.parametrize(
    ("size", "part", "options"),
    [
        *((size, part, {}) for size in SIZES for part in ("all", "expert", "lora")),
        *((size, part, {"gradient_checkpointing": True}) for size in ("nano", "tokens") for part in ("all", "expert")),
        *(("pi0", part, {"precision": "bfloat16"}) for part in ("all", "lora")),
        ("tokens", "lora", {"precision": "bfloat16"}),
    ],
)
def test_the_peak_of_a_step_is_foreseen(size: str, part: Trainable, options: dict) -> None:
    asked = load(SIZES[size], part, **options)
    policy = real(asked)
    with LiveBytes([*policy.parameters(), *policy.buffers()]) as counted:
        loss(policy, asked).backward()
    need = needs(asked)
    assert need.gradients + need.activations == pytest.approx(counted.most, rel=0.1)


@pytest.mark.parametrize("size", SIZES)
def test_the_activations_are_those_that_autograd_keeps(size: str) -> None:
    asked = load(SIZES[size], samples=32)
    policy = real(asked)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        held = loss(policy, asked)  # while it lives, no storage is used again
    for parameter in policy.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    assert held.requires_grad
    assert needs(asked).activations == pytest.approx(sum(kept.values()), rel=0.25)


def test_storages_are_counted_while_they_live_and_views_are_not() -> None:
    weight = torch.zeros(1000)
    with LiveBytes([weight]) as counted:
        a = weight + 1
        view = a[10:]
        b = a + 1
        assert counted.now == 8000
        del a, b
        assert counted.now == 4000  # the view holds the first
        del view
        weight.view(10, 100)
    assert (counted.now, counted.most) == (0, 8000)


def test_stage_two_needs_as_many_expert_calls_as_the_flow_has_steps() -> None:
    def activations(steps: int) -> int:
        sized = replace(pi05_tiny(), denoise_steps=steps)
        return needs(replace(load(sized, samples=0), decisions=64)).activations

    two, four, six = (activations(steps) for steps in (2, 4, 6))
    assert six - four == pytest.approx(four - two, rel=0.02)
    assert six > 1.5 * two


@pytest.mark.parametrize("part", ["expert", "lora"])
@pytest.mark.parametrize("size", ["nano", "tokens", "chunk of tokens"])
def test_a_step_of_stage_two_is_foreseen(size: str, part: Trainable) -> None:
    asked = replace(load(SIZES[size], part, samples=16), decisions=24)
    policy = real(asked)
    data = batch(24, size=asked.policy.image_size, horizon=asked.policy.horizon).observation
    with torch.no_grad():
        sample = policy.sample(data, explore=True, generator=torch.Generator().manual_seed(0))
    with LiveBytes([*policy.parameters(), *policy.buffers(), *sample.trace.values()]) as counted:
        said = policy.evaluate(data, sample.trace)
        (said.log_prob.mean() + said.value.mean() + loss(policy, asked)).backward()
    need = needs(asked)
    assert need.gradients + need.activations == pytest.approx(counted.most, rel=0.25)


@pytest.mark.parametrize("size", [pi05_tiny(), openvla_tiny()])
def test_kept_prefixes_count_where_they_are_kept(size: PolicyConfig) -> None:
    asked = replace(load(size, "expert"), real_frames=40, experience=10)
    one = frame_bytes(real(asked), demonstrations())
    assert needs(asked).prefixes == 40 * one
    within = replace(asked, compute=replace(asked.compute, prefix_cache_gb=20 * one / 1e9))
    assert needs(within).prefixes == 0
    assert needs(asked).experience - needs(replace(asked, trainable="all")).experience == 10 * one
    assert needs(within).experience == needs(asked).experience


def test_the_average_and_more_cameras_cost_more() -> None:
    asked = load(pi05_tiny())
    plain = needs(asked)
    learning = sum(p.numel() for p in real(asked).actor_parameters())
    assert needs(replace(asked, ema=True)).weights == plain.weights + 4 * learning
    assert needs(replace(asked, cameras=2)).activations > 1.1 * plain.activations


@pytest.mark.parametrize(("size", "exact"), [(pi05_nano(), False), (TOKENS, True), (openvla_oft_tiny(), True)])
def test_what_the_experience_keeps_of_a_decision_is_what_is_drawn(size: PolicyConfig, exact: bool) -> None:  # noqa: FBT001
    asked = replace(load(size), experience=7)
    seen = batch(1, size=size.image_size, horizon=size.horizon).observation
    drawn = real(asked).sample(seen, explore=True, generator=torch.Generator().manual_seed(0))
    kept = [seen.image, seen.state, drawn.log_prob, *drawn.trace.values()]
    one = sum(value.nbytes for value in kept)
    assert needs(asked).experience / 7 == pytest.approx(one, abs=32 if exact else 64)


def test_the_exploration_of_a_stage_decides_what_it_computes() -> None:
    asked = replace(load(pi05_tiny(), "expert", samples=0), decisions=64)
    one = Exploration(flow=FlowExploration(method="flow-sde"))
    assert needs(replace(asked, exploration=one)).activations < 0.5 * needs(asked).activations


@pytest.mark.slow
def test_openvla_7b_with_adapters_leaves_room_on_a_card_of_24_gb_and_its_stage_two_fits_on_one_of_80() -> None:
    policy = openvla_7b()
    compute = ComputeConfig(precision="bfloat16", gradient_checkpointing=True).for_policy(policy, "lora")
    stage = Load(policy=policy, trainable="lora", compute=compute, samples=32, decisions=64, envs=64)
    need = needs(replace(stage, experience=5120, real_frames=1500))
    # OpenVLA's script prints 110,828,288: it adapts what nothing depends on too (the last block of each tower, the
    # pooling: 1,701,888) and, by their names, both patch convolutions (107,264)
    adapters = 110_828_288 - 1_701_888 - 107_264
    whole = empty_policy(policy, family(policy.family).interface(policy, CODEC))
    critic = sum(p.numel() for p in whole.critic_parameters())
    assert need.gradients == 4 * (adapters + critic)
    assert need.weights == pytest.approx(15e9, rel=0.05)
    assert need.weights + need.gradients + need.optimiser < 18e9
    assert need.total < 80e9


@pytest.mark.parametrize("size", ["tokens", "chunk of tokens"])
def test_a_prompt_counts_as_long_as_it_is(size: str) -> None:
    roomy = replace(SIZES[size], prompt_length=40)
    asked = replace(load(roomy), prompt_tokens=7)
    # the lengths of a batch's prompts, not the most that the policy takes
    assert needs(asked).activations == needs(load(SIZES[size])).activations < 0.85 * needs(load(roomy)).activations
    assert real(asked).preprocessor.prompt_tokens(["push the cube", "push the pink cube"]) == 7


def test_the_prompt_of_a_flow_is_padded_to_one_length() -> None:
    preprocessor = real(load(pi05_tiny())).preprocessor
    assert preprocessor.prompt_tokens(["push the pink cube"]) == pi05_tiny().prompt_length


def test_attention_is_itself_again_afterwards() -> None:
    before = nn.functional.scaled_dot_product_attention
    needs(load(pi05_tiny(), samples=5))
    assert nn.functional.scaled_dot_product_attention is before


def test_full_training_at_full_size_is_refused_on_a_machine_of_24_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "usable_bytes", lambda _: int(0.95 * 24e9))
    with pytest.raises(DoesNotFitError) as caught:
        require_fits("sft", Load(policy=pi05_base(), trainable="all", compute=ComputeConfig(), samples=8))
    said = str(caught.value)
    assert "\n" not in said
    assert "sft needs" in said
    assert "22.8 GB are free" in said
    assert "It would fit with --trainable expert (" in said
    assert "--trainable lora (" in said
    assert "Not enough alone: --precision bfloat16 (" in said


def test_the_advice_is_true(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = load(pi05_nano(), samples=64)
    monkeypatch.setattr(fits, "usable_bytes", lambda _: needs(load(pi05_nano(), samples=8)).total)
    with pytest.raises(DoesNotFitError, match=r"It would fit with .*--batch-size 8 \(\d+ MB\)"):
        require_fits("sft", asked)
    require_fits("sft", replace(asked, samples=8))
    assert "total" in capsys.readouterr().err


def test_several_options_are_named_where_none_is_enough_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = load(pi05_nano(), "lora", samples=16)
    usable = min(needs(change.load).total for change in fits.alternatives(asked)) - 1
    enough = next(change for change in fits.combinations(asked) if needs(change.load).total <= usable)
    assert enough.flags.count("--") > 1
    monkeypatch.setattr(fits, "usable_bytes", lambda _: usable)
    with pytest.raises(DoesNotFitError) as caught:
        require_fits("sft", asked)
    assert f"It would fit with {enough.flags} (" in str(caught.value)
    assert "Not enough alone: --precision bfloat16 (" in str(caught.value)


def test_where_nothing_helps_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "usable_bytes", lambda _: 1000)
    with pytest.raises(DoesNotFitError, match="Nothing makes it fit here"):
        require_fits("rl", replace(load(pi05_tiny()), real_frames=9))


def test_a_stage_that_is_small_beside_the_machine_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    require_fits("sft", load(pi05_tiny(), samples=2))
    said = capsys.readouterr().err
    assert said.startswith("memory: sft needs 1 MB of ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_limit_of_a_container_counts_and_pages_of_files_do_not(tmp_path: Path, version: int) -> None:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    base = tmp_path / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    for path, limit in (("jobs", "5000"), ("jobs/mine", str(2**62) if version == 1 else "max")):
        (base / path).mkdir(parents=True)
        for name, value in zip((*names, "memory.stat"), (limit, "1500", "inactive_file 300\n"), strict=True):
            (base / path / name).write_text(value)
    (tmp_path / "proc/self").mkdir(parents=True)
    line = "4:memory:/jobs/mine\n3:cpu:/jobs\n" if version == 1 else "0::/jobs/mine\n"
    (tmp_path / "proc/self/cgroup").write_text(line)
    assert container_room(tmp_path) == [5000 - 1500 + 300]


def test_without_limits_there_is_nothing_to_respect(tmp_path: Path) -> None:
    assert container_room(tmp_path) == []


def test_a_new_policy_of_every_size_can_be_estimated() -> None:
    for name in CONFIGS:
        if not CONFIGS[name]().is_large:
            total = sum(p.nbytes for p in new_policy(name, CODEC, seed=0).parameters())
            assert needs(load(CONFIGS[name](), samples=2)).weights >= total
