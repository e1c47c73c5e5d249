from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlco.data.augment import RandomCrop
from rlco.data.reader import Dataset
from rlco.policies.adapters import LoraConfig
from rlco.train.compute import ComputeConfig
from rlco.train.log import read_metrics
from rlco.train.nan_guard import NonFiniteLossError
from rlco.train.sft import SFTConfig, SFTTrainer, run_sft
from tests.train.samples import mixture, small, tiny, write_pair

Pair = tuple[Dataset, Dataset]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return write_pair(tmp_path_factory.mktemp("data"))


def config(**changes: object) -> SFTConfig:
    return SFTConfig(**{"steps": 4, "batch_size": 8, "warmup_steps": 2, "save_every": 1, "log_every": 1, **changes})


def test_stop_after_two_steps_and_resume_equals_four_straight(pair: Pair, tmp_path: Path) -> None:
    straight = tiny()
    run_sft(straight, mixture(pair), config(), folder=tmp_path / "straight", inputs={})

    class StopError(Exception):
        pass

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise StopError

    with pytest.raises(StopError):
        run_sft(tiny(), mixture(pair), config(), folder=tmp_path / "resumed", inputs={}, progress=stop)
    resumed = tiny()
    run_sft(resumed, mixture(pair), config(), folder=tmp_path / "resumed", inputs={})
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert read_metrics(tmp_path / "straight") == read_metrics(tmp_path / "resumed")


def test_the_loss_falls_on_a_batch_that_can_be_learnt(pair: Pair) -> None:
    policy = tiny()
    trainer = SFTTrainer(policy, mixture(pair, alpha=0.0), config(steps=120, lr=3e-3, jitter=None))
    batch = trainer.next_batch()
    losses = [float(trainer.update(batch)["sft/loss"]) for _ in range(120)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_the_realised_fraction_is_logged(pair: Pair, tmp_path: Path) -> None:
    run_sft(tiny(), mixture(pair, alpha=1.0), config(), folder=tmp_path, inputs={})
    last = read_metrics(tmp_path)[-1]
    assert (last["sft/fraction_0"], last["sft/fraction_1"]) == (1.0, 0.0)


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    cfg = config(steps=1000, warmup_steps=10, lr=1.0)
    assert cfg.rate(0) == pytest.approx(0.1)
    assert cfg.rate(10) == pytest.approx(1.0, abs=1e-3)
    assert cfg.rate(999) == pytest.approx(0.1, abs=1e-3)
    assert config(steps=1000, lr=1.0, lr_schedule="constant").rate(999) == 1.0


VARIANTS = {
    "average": {"ema": 0.9},
    "lora": {"trainable": "lora", "compute": ComputeConfig(lora=LoraConfig(lora_tower="both", lora_rank=2))},
    "bfloat16": {"compute": ComputeConfig(precision="bfloat16"), "ema": 0.5},
    "checkpointing": {"compute": ComputeConfig(gradient_checkpointing=True)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_way_to_train_stops_and_resumes_exactly(pair: Pair, tmp_path: Path, variant: str) -> None:
    cfg = config(**VARIANTS[variant])
    straight = tiny()
    run_sft(straight, mixture(pair), cfg, folder=tmp_path / "straight", inputs={})

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sft(tiny(), mixture(pair), cfg, folder=tmp_path / "resumed", inputs={}, progress=stop)
    resumed = tiny()
    run_sft(resumed, mixture(pair), cfg, folder=tmp_path / "resumed", inputs={})
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert not all(torch.equal(v, tiny().state_dict()[k]) for k, v in straight.merged_state().items())


def test_the_policy_ends_with_the_average_and_continues_from_the_last_weights(pair: Pair, tmp_path: Path) -> None:
    cfg = config(ema=0.9, ema_warmup=False)
    averaged, last = tiny(), tiny()
    run_sft(averaged, mixture(pair), cfg, folder=tmp_path / "ema", inputs={})
    trainer = SFTTrainer(last, mixture(pair), config())
    shadow = [p.detach().clone() for p in last.actor_parameters()]
    for _ in range(cfg.steps):
        trainer.update(trainer.next_batch())
        shadow = [0.9 * s + 0.1 * p.detach() for s, p in zip(shadow, last.actor_parameters(), strict=True)]
    for ours, by_hand in zip(averaged.actor_parameters(), shadow, strict=True):
        torch.testing.assert_close(ours.detach(), by_hand, atol=1e-7, rtol=1e-5)
    saved = torch.load(tmp_path / "ema" / "checkpoints" / "last" / "state.pt", weights_only=False)["policy"]
    assert all(torch.equal(value, last.state_dict()[name]) for name, value in saved.items())


def test_a_run_that_was_killed_between_its_last_step_and_its_end_still_ends_with_the_average(
    pair: Pair, tmp_path: Path
) -> None:
    whole, killed, again = tiny(), tiny(), tiny()
    cfg = config(ema=0.9)
    run_sft(whole, mixture(pair), cfg, folder=tmp_path / "whole", inputs={})

    def stop(step: int, total: int) -> None:
        if step == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sft(killed, mixture(pair), cfg, folder=tmp_path / "killed", inputs={}, progress=stop)
    run_sft(again, mixture(pair), cfg, folder=tmp_path / "killed", inputs={})
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_sixteen_bits_learn_what_float32_learns(pair: Pair) -> None:
    losses = {}
    for precision in ("float32", "bfloat16"):
        cfg = config(steps=60, lr=3e-3, jitter=None, compute=ComputeConfig(precision=precision))
        trainer = SFTTrainer(tiny(), mixture(pair, alpha=0.0), cfg)
        batch = trainer.next_batch()
        losses[precision] = np.array([float(trainer.update(batch)["sft/loss"]) for _ in range(60)])
    assert np.abs(losses["bfloat16"] / losses["float32"] - 1).max() < 0.1
    assert losses["float32"][-5:].mean() < 0.8 * losses["float32"][:5].mean()


def test_checkpointing_changes_no_step(pair: Pair) -> None:
    policies = []
    for again in (False, True):
        trainer = SFTTrainer(tiny(), mixture(pair), config(compute=ComputeConfig(gradient_checkpointing=again)))
        for _ in range(2):
            trainer.update(trainer.next_batch())
        policies.append(trainer.policy)
    for a, b in zip(*(p.parameters() for p in policies), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_the_expert_alone_can_be_trained(pair: Pair) -> None:
    trainer = SFTTrainer(tiny(), mixture(pair), config(trainable="expert"))
    before = {name: p.detach().clone() for name, p in trainer.policy.named_parameters()}
    trainer.update(trainer.next_batch())
    moved = {n for n, p in trainer.policy.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert not any("paligemma." in name or "grounding" in name for name in moved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 1.0}, r"SFTConfig.ema must be in \(0, 1\), got 1.0"),
        ({"lr_floor": -0.1}, r"SFTConfig.lr_floor must be in \[0, 1\], got -0.1"),
        ({"lr": 0.0}, "SFTConfig.lr must be above 0"),
    ],
)
def test_bad_numbers_are_refused_when_the_configuration_is_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_nan_in_the_data_stops_the_run_and_names_the_dump(pair: Pair, tmp_path: Path) -> None:
    poisoned = mixture(pair, alpha=0.0)
    numbers = poisoned._numbers
    poisoned._numbers = replace(numbers, action=np.full_like(numbers.action, np.nan))
    with pytest.raises(
        NonFiniteLossError, match=r"After step 0: The loss is nan; not finite in its batch: action.*nan-step000000"
    ):
        run_sft(tiny(), poisoned, config(), folder=tmp_path, inputs={})
    assert (tmp_path / "nan-step000000" / "batch.pt").exists()


def test_what_a_policy_refuses_leaves_no_folder(pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cropped, folder = config(crop_area=0.9), tmp_path / "run"
    with pytest.raises(ValueError, match=r"crop_area is 0.9, but a policy of pi05 sees whole pictures"):
        run_sft(tiny(), mixture(pair), cropped, folder=folder, inputs={})
    # nor does what is known from the policy alone
    monkeypatch.setattr(SFTConfig, "for_policy", lambda own, _: replace(own, trainable="all"))
    with pytest.raises(ValueError, match="family pi05 sees whole pictures"):
        run_sft(tiny(), mixture(pair), cropped, folder=folder, inputs={})
    assert not folder.exists()


def test_a_policy_that_was_trained_on_windows_is_trained_on_windows_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    areas = []

    def remembered(crop: RandomCrop, image: torch.Tensor, *, generator: torch.Generator) -> torch.Tensor:
        del generator
        areas.append(crop.area)
        return image

    monkeypatch.setattr(RandomCrop, "__call__", remembered)
    for given, asked, area in ((None, None, []), (0.8, None, [0.8]), (0.8, 0.5, [0.5]), (None, 0.9, [0.9])):
        policy = small("openvla-oft-tiny")
        if given is not None:
            policy.crop_pictures(given)
        SFTTrainer(policy, mixture(pair), config(crop_area=asked)).next_batch()
        assert (areas, policy.crop_area) == (area, given if asked is None else asked)
        areas.clear()


def test_a_folder_of_another_run_is_refused(pair: Pair, tmp_path: Path) -> None:
    run_sft(tiny(), mixture(pair), config(), folder=tmp_path, inputs={"data": "a"})
    with pytest.raises(ValueError, match="differs in: inputs, lr"):
        run_sft(tiny(), mixture(pair), config(lr=1e-3), folder=tmp_path, inputs={"data": "b"})
