from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from rlco.core.policy import Batch, Observation
from rlco.policies.adapters import LoraConfig
from rlco.policies.checkpoint import new_policy
from rlco.policies.contract import Trainable
from rlco.policies.pi.config import CONFIGS, PiConfig, TransformerSize, pi05_base, pi05_nano, pi05_tiny
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.policy import PiPolicy
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
SIZES = {"nano": pi05_nano(), "wide": WIDE, "pi0": replace(WIDE, family="pi0", vision_depth=6, flow_copies=2)}


def load(policy: PiConfig, part: Trainable = "all", *, samples: int = 8, **options: Any) -> Load:  # noqa: ANN401
    compute = ComputeConfig(lora=LoraConfig(lora_tower="both", lora_rank=4), **options)
    return Load(policy=policy, trainable=part, compute=compute, samples=samples)


def real(asked: Load) -> PiPolicy:
    """Return the policy with real weights, in the form in which it is trained."""
    policy = PiPolicy(asked.policy, Interface.of_family(asked.policy.family, CODEC))
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


def loss(policy: PiPolicy, asked: Load) -> torch.Tensor:
    data = batch(asked.samples, size=asked.policy.image_size, horizon=asked.policy.horizon)
    return policy.loss(data, generator=torch.Generator().manual_seed(0)).mean()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("part", ["all", "expert", "lora"])
def test_weights_gradients_and_optimiser_are_exact(part: Trainable, precision: str) -> None:
    asked = load(pi05_tiny(), part, precision=precision)
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
        *(("nano", part, {"gradient_checkpointing": True}) for part in ("all", "expert")),
        *(("pi0", part, {"precision": "bfloat16"}) for part in ("all", "lora")),
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


def test_a_step_of_stage_two_is_foreseen() -> None:
    asked = replace(load(pi05_nano(), "expert", samples=16), decisions=24)
    policy = real(asked)
    data = batch(24, size=asked.policy.image_size, horizon=asked.policy.horizon).observation
    with torch.no_grad():
        sample = policy.sample(data, explore=True, generator=torch.Generator().manual_seed(0))
    with LiveBytes([*policy.parameters(), *policy.buffers(), *sample.trace.values()]) as counted:
        said = policy.evaluate(data, sample.trace)
        (said.log_prob.mean() + said.value.mean() + loss(policy, asked)).backward()
    need = needs(asked)
    assert need.gradients + need.activations == pytest.approx(counted.most, rel=0.25)


def test_kept_prefixes_count_where_they_are_kept() -> None:
    asked = replace(load(pi05_tiny(), "expert"), real_frames=40, experience=10)
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
        if not name.endswith("base"):
            total = sum(p.nbytes for p in new_policy(name, CODEC, seed=0).parameters())
            assert needs(load(CONFIGS[name](), samples=2)).weights >= total
