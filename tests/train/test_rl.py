from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlco.core.policy import Observation, Sample
from rlco.rollout.collect import Collector
from rlco.train.log import read_metrics
from rlco.train.nan_guard import NonFiniteLossError
from rlco.train.rl import run_rl
from tests.train.fakes import CountingWorld
from tests.train.stage_two import config, gradients, stage


@pytest.mark.parametrize("part", ["all", "expert"])
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_the_real_term_reaches_the_gradient_with_weight_beta(part: str, beta: float) -> None:
    with_real, without = stage(config(beta=beta, trainable=part)), stage(config(beta=0.0, trainable=part))
    both, rl = gradients(with_real), gradients(without)
    repeat = stage(config(beta=beta, trainable=part))
    assert repeat.real_term is not None
    repeat.generator.manual_seed(5)
    sft = torch.autograd.grad(repeat.real_term.loss(generator=repeat.generator), repeat.actor, allow_unused=True)
    assert any(g is not None and g.norm() > 1e-4 for g in sft)
    for a, b, c in zip(both, rl, sft, strict=True):
        expected = beta * c if c is not None else torch.zeros_like(a)
        torch.testing.assert_close(a - b, expected, atol=2e-5, rtol=1e-3)


def test_the_first_minibatch_of_every_iteration_has_ratio_one() -> None:
    two = stage(config())
    for _ in range(3):
        figures = two.iterate()
        # the minibatch is another batch size than the rollout: equal up to rounding of 112 densities
        assert figures["rl/first_ratio_error"] < 1e-4
    assert figures["rl/kl"] > 0  # the later minibatches moved


def test_the_value_of_the_rollout_is_the_value_recomputed() -> None:
    two = stage(config())
    experience = two.collector.collect(two.policy, decisions=4, generator=two.generator)
    again = two.policy.evaluate(experience.observation, experience.trace).value
    torch.testing.assert_close(again, experience.rollout.value.flatten(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("part", ["all", "expert"])
def test_stop_after_two_iterations_and_resume_equals_four_straight(tmp_path: Path, part: str) -> None:
    straight = stage(config(trainable=part))
    run_rl(straight, folder=tmp_path / "straight", inputs={})

    class StopError(Exception):
        pass

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise StopError

    with pytest.raises(StopError):
        run_rl(stage(config(trainable=part)), folder=tmp_path / "resumed", inputs={}, progress=stop)
    resumed = stage(config(trainable=part))
    run_rl(resumed, folder=tmp_path / "resumed", inputs={})
    for a, b in zip(straight.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    timeless = [
        [{k: v for k, v in line.items() if not k.startswith("time/")} for line in read_metrics(tmp_path / name)]
        for name in ("straight", "resumed")
    ]
    assert timeless[0] == timeless[1]


def test_ppo_learns_to_pass_the_line() -> None:
    cfg = config(beta=0.0, iterations=15, num_envs=32, decisions=6, minibatch=64, lr=3e-3, kl_stop=0.2)
    two = stage(cfg, world=CountingWorld(32, line_m=0.12))
    success = [two.iterate()["rl/success"] for _ in range(cfg.iterations)]
    assert np.mean(success[1:4]) < 0.4  # in the first iteration only successes end
    assert np.mean(success[-3:]) > 0.5


def test_the_critic_warm_up_leaves_the_actor_alone() -> None:
    two = stage(config(critic_warmup=1))
    before = [p.detach().clone() for p in two.actor]
    critic = [p.detach().clone() for p in two.policy.critic_parameters()]
    two.iterate()
    assert all(torch.equal(a, b) for a, b in zip(before, two.actor, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(critic, two.policy.critic_parameters(), strict=True))
    two.iterate()
    assert not all(torch.equal(a, b) for a, b in zip(before, two.actor, strict=True))


def test_a_lost_environment_is_neither_success_nor_failure_and_teaches_nothing() -> None:
    world = CountingWorld(line_m=1.0)
    two = stage(config(), world=world)
    world.lose = 1
    experience = two.collector.collect(two.policy, decisions=2, generator=two.generator)
    assert experience.lost == 1
    assert experience.finished == 0
    assert experience.rollout.is_valid.tolist() == [[True, False, True, True], [True] * 4]
    data, _ = two._learnable(experience)
    assert len(data.advantage) == 7


def test_episodes_are_bootstrapped_by_the_clock_and_not_by_success() -> None:
    class Clock:
        """Values an observation by the step that its picture shows, and succeeds in the first environment."""

        executed = 4

        def value(self, observation: Observation) -> torch.Tensor:
            return observation.image[:, 0, 0, 0].float() / 10

        def sample(self, observation: Observation, *, explore: bool, generator: torch.Generator) -> Sample:
            del explore, generator
            action = torch.zeros(len(observation), 8, 7)
            action[0, 3, 0] = 1.0
            zeros = torch.zeros(len(observation))
            return Sample(action=action, log_prob=zeros, value=self.value(observation), trace={"t": zeros})

    collector = Collector(CountingWorld(length=8))
    rollout = collector.collect(Clock(), decisions=3, generator=torch.Generator()).rollout
    assert rollout.terminated[:, 0].all()
    assert rollout.truncated[:, 1].tolist() == [False, True, False]
    assert rollout.value[:, 1].tolist() == [0.0, 4.0, 0.0]
    # before the clock: the next decision's value; at the clock: the last observation's, not the reset one's
    assert rollout.next_value[:, 1].tolist() == [4.0, 8.0, 4.0]
    assert rollout.next_value[:, 0].tolist() == [0.0, 0.0, 0.0]


def test_the_gradient_samples_are_counted_as_announced() -> None:
    cfg = config(critic_warmup=1)
    two = stage(cfg)
    for _ in range(cfg.iterations):
        two.iterate()
    assert two.gradient_samples == cfg.gradient_samples


def test_the_rate_of_the_policy_warms_up_and_the_critics_does_not() -> None:
    cfg = config(critic_warmup=1, lr_warmup=4, lr=1e-3, value_lr=5e-3)
    two = stage(cfg)
    rates = []
    step = two._step

    def watched(*arguments: Any) -> None:  # noqa: ANN401
        step(*arguments)
        rates.append([group["lr"] for group in two.optimiser.param_groups])

    two._step = watched  # pyright: ignore[reportAttributeAccessIssue]
    two.iterate()
    assert rates[-1] == [1e-3, 5e-3]  # while only the critic learns, nothing is counted
    rates.clear()
    two.iterate()
    two.iterate()
    wanted = [min(1.0, (i + 1) / 4) * 1e-3 for i in range(len(rates))]
    assert [actor for actor, _ in rates] == pytest.approx(wanted)
    assert len(rates) > 4
    assert {critic for _, critic in rates} == {5e-3}


def test_a_nan_stops_the_run_with_a_dump_of_the_batch_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    two = stage(config())

    def poison(step: int, _: int) -> None:
        if step == 2:
            assert two.real_term is not None
            two.real_term.real.action[:] = np.nan

    with pytest.raises(
        NonFiniteLossError, match=r"After step 2: The loss is nan; not finite in its batch: loss_sft, real_action"
    ):
        run_rl(two, folder=tmp_path, inputs={}, progress=poison)
    dump = torch.load(tmp_path / "nan-step000002" / "batch.pt")
    assert dump["image"].shape[1:] == dump["real_image"].shape[1:] == (32, 32, 3)
    assert dump["real_action"].isnan().all()
    assert (tmp_path / "checkpoints" / "000002" / "state.pt").exists()


def test_a_folder_of_another_run_is_refused_even_before_its_first_checkpoint(tmp_path: Path) -> None:
    def stop(_step: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rl(stage(config(save_every=9)), folder=tmp_path, inputs={}, progress=stop)
    before = (tmp_path / "metrics.jsonl").read_text()
    with pytest.raises(ValueError, match="differs in: beta"):
        run_rl(stage(config(save_every=9, beta=0.5)), folder=tmp_path, inputs={})
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run_rl(stage(config(iterations=1)), folder=tmp_path, inputs={})
    with pytest.raises(ValueError, match="differs in: clip"):
        run_rl(stage(config(iterations=1, clip=0.3)), folder=tmp_path, inputs={})


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"beta": -0.1}, "beta must be 0 or more"), ({"clip": 2.0}, "clip"), ({"epochs": 0}, "epochs")],
)
def test_bad_numbers_are_refused_when_the_configuration_is_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)
