"""Options of Stage II that stand beside the paper's: beta's control, averages, schedules, adapters, precision."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from rlco.policies.adapters import LoraConfig
from rlco.policies.checkpoint import load_policy, save_policy
from rlco.train.beta import BetaControl
from rlco.train.compute import ComputeConfig
from rlco.train.log import read_metrics
from rlco.train.rl import StageTwo, run_rl
from rlco.train.rl_config import RLConfig
from tests.train.stage_two import config, stage

OPTIONS: dict[str, dict[str, object]] = {
    "constraint": {"beta_control": BetaControl(beta_mode="constraint", sft_tolerance=0.0, beta_rate=5.0)},
    "linear beta": {"beta_control": BetaControl(beta_mode="linear", beta_end=0.2)},
    "average and cosine": {"ema": 0.9, "lr_schedule": "cosine", "lr_warmup": 3},
    "adapters": {"trainable": "lora", "compute": ComputeConfig(lora=LoraConfig(lora_tower="both", lora_rank=2))},
    "16 bits": {"compute": ComputeConfig(precision="bfloat16", gradient_checkpointing=True), "trainable": "all"},
    "no cache": {"compute": ComputeConfig(prefix_cache_gb=0.0)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_stop_after_two_iterations_and_resume_equals_four_straight(tmp_path: Path, name: str) -> None:
    cfg = config(**OPTIONS[name])
    straight = stage(cfg)
    run_rl(straight, folder=tmp_path / "straight", inputs={})

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rl(stage(cfg), folder=tmp_path / "resumed", inputs={}, progress=stop)
    resumed = stage(cfg)
    run_rl(resumed, folder=tmp_path / "resumed", inputs={})
    before = [p.detach() for p in stage(cfg).policy.parameters()]
    after = list(straight.policy.parameters())
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after, resumed.policy.parameters(), strict=True))


def figures(two: StageTwo, iterations: int) -> list[dict[str, float]]:
    return [two.iterate() for _ in range(iterations)]


def test_the_constraint_raises_beta_while_the_real_loss_is_above_its_limit() -> None:
    # nothing is tolerated below what the first policy has, and minibatches of few frames scatter around it
    control = BetaControl(beta_mode="constraint", sft_tolerance=0.0, beta_rate=2.0)
    two = stage(config(beta=0.5, beta_control=control, critic_warmup=1))
    said = figures(two, 4)
    assert "rl/beta" not in said[0]  # only the critic learns, beta has no part in it
    for now, following in pairwise(said[1:]):
        assert (following["rl/beta"] > now["rl/beta"]) == (now["rl/loss_sft"] > now["rl/sft_limit"])
    assert two.real_term is not None
    fresh = stage(config(beta=0.5, beta_control=control))
    assert fresh.real_term is not None
    assert said[1]["rl/sft_limit"] == pytest.approx(fresh.real_term.mean_loss())


def test_the_present_beta_weighs_the_real_term() -> None:
    two = stage(config(beta=1.0, beta_control=BetaControl(beta_mode="linear", beta_end=0.1)))
    experience = two.collector.collect(two.policy, decisions=4, generator=two.generator)
    data, _ = two._learnable(experience)
    two.beta.value = 0.25
    loss = two.loss(data)
    torch.testing.assert_close(loss.total, loss.rl + 0.25 * loss.sft + loss.critic)


def test_what_is_kept_is_the_average_and_not_the_last_weights(tmp_path: Path) -> None:
    two = stage(config(ema=0.99, ema_warmup=False, lr=1e-2))
    start = [p.detach().clone() for p in two.actor]
    run_rl(two, folder=tmp_path, inputs={})
    saved = torch.load(tmp_path / "checkpoints" / "last" / "state.pt", weights_only=False)
    names = [name for name, p in two.policy.named_parameters() if p.requires_grad and "value_head" not in name]
    last = [saved["policy"][name] for name in names]
    ends = zip(start, [p.detach() for p in two.actor], last, strict=True)
    travelled = [(float((kept - a).norm()), float((b - a).norm())) for a, kept, b in ends]
    assert sum(kept for kept, _ in travelled) < 0.5 * sum(far for _, far in travelled)
    assert sum(kept for kept, _ in travelled) > 0


def test_the_cosine_follows_the_iterations_and_leaves_the_critics_rate(tmp_path: Path) -> None:
    cfg = config(lr_schedule="cosine", lr=1e-3, lr_floor=0.2)
    two = stage(cfg)
    run_rl(two, folder=tmp_path, inputs={})
    wanted = [1e-3 * (0.2 + 0.8 * 0.5 * (1 + shape)) for shape in (1.0, 2**-0.5, 0.0, -(2**-0.5))]
    assert [line["rl/lr"] for line in read_metrics(tmp_path)] == pytest.approx(wanted)
    assert two.optimiser.param_groups[1]["lr"] == cfg.value_lr


def test_a_prefix_that_is_not_kept_is_encoded_again_and_changes_nothing() -> None:
    kept, encoded = stage(config()), stage(config(compute=ComputeConfig(prefix_cache_gb=0.0)))
    experience = [two.collector.collect(two.policy, decisions=4, generator=two.generator) for two in (kept, encoded)]
    assert "prefix_key" in experience[0].trace
    assert "prefix_key" not in experience[1].trace
    scores = [
        two.policy.evaluate(seen.observation, seen.trace).log_prob
        for two, seen in zip((kept, encoded), experience, strict=True)
    ]
    torch.testing.assert_close(*scores)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ema": 1.0}, r"RLConfig.ema must be in \(0, 1\), got 1.0"),
        ({"lr_floor": 2.0}, r"RLConfig.lr_floor must be in \[0, 1\], got 2.0"),
        ({"beta": 0.0, "beta_control": BetaControl(beta_mode="linear")}, "RLConfig.beta must be above 0"),
        ({"beta": 500.0, "beta_control": BetaControl(beta_mode="constraint")}, "must be in beta_range"),
    ],
)
def test_bad_options_are_refused_when_the_configuration_is_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RLConfig(), **changes)


@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_what_16_bits_would_round_away_is_kept(tmp_path: Path, ema: float) -> None:
    cfg = config(trainable="all", lr=1e-6, ema=ema, compute=ComputeConfig(precision="bfloat16"))
    two = stage(cfg)
    before = {name: p.detach().float().clone() for name, p in two.policy.named_parameters()}
    rounded = [name for name, p in two.policy.named_parameters() if p.dtype == torch.bfloat16]
    run_rl(two, folder=tmp_path / "run", inputs={})
    save_policy(tmp_path / "policy", two.policy, provenance={})
    saved = {name: p.detach() for name, p in load_policy(tmp_path / "policy").named_parameters()}
    moved = [(saved[name] - before[name]).abs() for name in rounded]
    # a step is a millionth, and 16 bits show none below a 512th of a weight
    assert sum(int((m > 0).sum()) for m in moved) > 0.5 * sum(m.numel() for m in moved)
    assert max(float(m.max()) for m in moved) < 1e-4
