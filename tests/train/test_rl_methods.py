"""Stage II with each way to explore, and with each algorithm."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlco.algos.gae import Rollout
from rlco.core.policy import Observation
from rlco.policies.exploration import Exploration
from rlco.policies.pi.config import ValueFrom, pi05_tiny
from rlco.policies.pi.exploration import FlowExploration
from rlco.rollout.collect import Experience
from rlco.rollout.groups import GroupCollector
from rlco.train.advantages import by_critic, by_group
from rlco.train.rl import run_rl
from tests.train.fakes import CountingWorld, PayingWorld, start
from tests.train.stage_two import config, require_gradient_identity, stage

NOISE, REINFLOW = Exploration(), Exploration(flow=FlowExploration(method="reinflow"))
SDE_ONE = Exploration(flow=FlowExploration(method="flow-sde"))
SDE_ALL = Exploration(flow=FlowExploration(method="flow-sde", stochastic_steps="all"))
MEAN = Exploration(flow=FlowExploration(log_prob="mean"))
EVERY = [
    pytest.param(NOISE, id="flow-noise"),
    pytest.param(SDE_ONE, id="flow-sde-one"),
    pytest.param(SDE_ALL, id="flow-sde-all"),
    pytest.param(REINFLOW, id="reinflow"),
]


@pytest.mark.parametrize("value_from", ["prefix", "expert"])
@pytest.mark.parametrize("exploration", EVERY)
def test_the_real_term_reaches_the_gradient_with_every_method(exploration: Exploration, value_from: ValueFrom) -> None:
    require_gradient_identity(exploration=replace(exploration, value_from=value_from))


@pytest.mark.parametrize("part", ["all", "expert"])
def test_the_real_term_reaches_the_gradient_with_grpo(part: str) -> None:
    require_gradient_identity(algo="grpo", trainable=part)


@pytest.mark.parametrize("algo", ["ppo", "grpo"])
@pytest.mark.parametrize("exploration", EVERY)
def test_the_first_minibatch_has_ratio_one_with_every_method(exploration: Exploration, algo: str) -> None:
    two = stage(config(exploration=exploration, algo=algo), world=PayingWorld())
    for _ in range(2):
        figures = two.iterate()
        # the minibatch is another batch size than the rollout: equal up to rounding
        assert figures["rl/first_ratio_error"] < 1e-4
    assert figures["rl/kl"] > 0


@pytest.mark.parametrize(
    "changes",
    [
        {"exploration": SDE_ONE},
        {"exploration": replace(REINFLOW, value_from="expert")},
        {"algo": "grpo", "num_envs": 8},
    ],
)
def test_every_way_resumes_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    cfg = config(**changes)
    straight = stage(cfg, world=CountingWorld(cfg.num_envs))
    run_rl(straight, folder=tmp_path / "straight", inputs={})

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rl(stage(cfg, world=CountingWorld(cfg.num_envs)), folder=tmp_path / "cut", inputs={}, progress=stop)
    resumed = stage(cfg, world=CountingWorld(cfg.num_envs))
    run_rl(resumed, folder=tmp_path / "cut", inputs={})
    for a, b in zip(straight.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exploration": SDE_ONE, "lr": 3e-3}, id="flow-sde"),
        pytest.param({"exploration": REINFLOW, "lr": 3e-3}, id="reinflow"),
        pytest.param({"algo": "grpo", "lr": 3e-3}, id="grpo"),
    ],
)
def test_every_way_learns_to_pass_the_line(changes: dict[str, Any]) -> None:
    cfg = config(beta=0.0, iterations=15, num_envs=32, decisions=6, minibatch=64, kl_stop=None, **changes)
    two = stage(cfg, world=CountingWorld(32, line_m=0.12))
    success = [two.iterate()["rl/success"] for _ in range(cfg.iterations)]
    assert np.mean(success[1:4]) < 0.4
    assert np.mean(success[-3:]) > 0.5


def test_a_group_plays_the_same_named_start_and_no_start_twice() -> None:
    world = CountingWorld(6)
    two = stage(config(algo="grpo", group_size=3, num_envs=6, decisions=7), world=world)
    two.iterate()  # 12 steps are 3 decisions: two rounds fit into 7
    names = [f"counting/{n:04d}" for n in range(4)]
    assert world.starts == [[names[0]] * 3 + [names[1]] * 3, [names[2]] * 3 + [names[3]] * 3]


def test_what_follows_an_episodes_end_is_masked() -> None:
    class Late(CountingWorld):
        """Pays every step, ends the first environment after its first chunk and loses the last one in its second."""

        def step_chunk(self, actions: np.ndarray) -> tuple:
            if self.step_E[0] == 4:
                self.lose = 3
            observation, _, terminated, truncated, info = super().step_chunk(actions)
            terminated[0] = self.step_E[0] == 4
            return observation, np.ones(actions.shape[:2]), terminated, truncated, info

    two = stage(config(algo="grpo", decisions=3), world=Late(line_m=9.0))
    experience = two.collector.collect(two.policy, decisions=3, generator=two.generator)
    valid = experience.rollout.is_valid
    assert valid[:, 0].tolist() == [True, False, False]
    assert valid[:, 1:3].all()
    assert not valid[:, 3].any()  # its score is not known
    assert (experience.finished, experience.lost) == (3, 1)
    assert experience.mean_length == (4 + 12 + 12) / 3
    judged = by_group(experience, two.config)
    # scores: 4 and 12 in the first group; in the second one episode is left, which tells nothing
    torch.testing.assert_close(judged.advantage.view(3, 4)[0, :2], torch.tensor([-1.0, 1.0]), atol=1e-5, rtol=0)
    assert judged.is_kept.view(3, 4).tolist() == [[True, True, False, False]] + [[False, True, False, False]] * 2
    assert judged.figures["rl/informative_groups"] == 0.5


@pytest.mark.parametrize("algo", ["ppo", "grpo"])
def test_the_steps_of_a_chunk_are_those_before_the_end(algo: str) -> None:
    class Brief(CountingWorld):
        """Ends the second environment in the second step of every chunk."""

        def step_chunk(self, actions: np.ndarray) -> tuple:
            observation, reward, terminated, truncated, info = super().step_chunk(actions)
            terminated[1, 1], info["valid"][1, 2:] = True, False
            return observation, reward, terminated, truncated, info

    two = stage(config(algo=algo), world=Brief(length=6, line_m=9.0))
    steps = two.collector.collect(two.policy, decisions=2, generator=two.generator).rollout.steps
    assert steps[:, 1].tolist()[0] == 2
    assert steps[:, 0].tolist() == [4, 2]  # the clock cuts the second chunk


def test_groups_that_tell_nothing_change_nothing() -> None:
    two = stage(config(algo="grpo"), world=CountingWorld(line_m=9.0))
    before = [p.detach().clone() for p in two.policy.parameters()]
    figures = two.iterate()
    assert figures["rl/informative_groups"] == figures["rl/updates"] == 0.0
    assert all(torch.equal(a, b) for a, b in zip(before, two.policy.parameters(), strict=True))


def test_the_critic_has_no_part_in_grpo() -> None:
    two = stage(config(algo="grpo", critic_warmup=2))
    before = [p.detach().clone() for p in two.policy.critic_parameters()]
    actor = [p.detach().clone() for p in two.actor]
    for _ in range(2):
        two.iterate()
    assert all(torch.equal(a, b) for a, b in zip(before, two.policy.critic_parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(actor, two.actor, strict=True))  # and nothing to warm up


def test_groups_need_whole_episodes_and_environments_that_divide() -> None:
    with pytest.raises(ValueError, match="take up to 3 decisions; got decisions 2"):
        stage(config(algo="grpo", decisions=2)).iterate()
    with pytest.raises(ValueError, match="6 environments do not divide into groups of 4"):
        GroupCollector(CountingWorld(6), group_size=4, starts=start)


def experience(reward: torch.Tensor) -> Experience:
    no = torch.zeros_like(reward, dtype=torch.bool)
    rollout = Rollout(
        reward=reward,
        value=torch.zeros_like(reward),
        next_value=torch.zeros_like(reward),
        terminated=no,
        truncated=~no,
        is_valid=~no,
        steps=torch.ones_like(reward, dtype=torch.int64),
    )
    seen = Observation(image=torch.zeros(0, 8, 8, 3, dtype=torch.uint8), state=torch.zeros(0, 8), instruction=())
    flat = torch.zeros(reward.numel())
    return Experience(
        rollout=rollout,
        observation=seen,
        log_prob=flat,
        trace={},
        successes=0,
        finished=0,
        lost=0,
        is_settled=True,
        mean_length=1.0,
        round_of=torch.arange(len(reward)),
    )


def test_advantages_are_normalised_over_the_whole_iteration() -> None:
    reward = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    whole = by_critic(experience(reward), config()).advantage.view(6, 4)
    assert float(whole.mean()) == pytest.approx(0.0, abs=1e-6)
    assert float(whole.std(correction=0)) == pytest.approx(1.0, abs=1e-4)
    # neither the order of the environments nor the size of the minibatches is in it
    order = torch.tensor([2, 0, 3, 1])
    swapped = by_critic(experience(reward[:, order]), config(minibatch=3)).advantage.view(6, 4)
    torch.testing.assert_close(swapped, whole[:, order])


def test_group_advantages_are_taken_round_by_round() -> None:
    reward = torch.tensor([[1.0, 0.0, 2.0, 2.0], [0.0, 0.0, 5.0, 1.0]])
    judged = by_group(experience(reward), config(algo="grpo"))
    expected = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    torch.testing.assert_close(judged.advantage.view(2, 4), expected, atol=1e-5, rtol=0)
    assert judged.is_kept.tolist() == [True, True, False, False, False, False, True, True]


def test_updates_stop_where_the_policy_has_moved_too_far() -> None:
    far, near = (stage(config(kl_stop=stop, lr=1e-2, epochs=4)).iterate() for stop in (1e9, 1e-3))
    assert far["rl/updates"] == 8  # 16 decisions in minibatches of 8, four times
    assert near["rl/updates"] < 8
    assert near["rl/kl_max"] > 1e-3
    assert near["rl/clip_fraction"] > 0


def test_an_entropy_bonus_widens_the_noise() -> None:
    entropy = []
    for weight in (0.0, 1.0):
        two = stage(config(entropy=weight, beta=0.0, lr=3e-3, iterations=6))
        entropy.append([two.iterate()["rl/entropy"] for _ in range(6)][-1])
    assert entropy[1] > entropy[0] + 0.05


@pytest.mark.parametrize(
    ("exploration", "clip", "kl_stop"),
    [(NOISE, 0.2, 0.1), (SDE_ONE, 0.2, 0.1), (REINFLOW, 0.01, 2.5e-4), (MEAN, 0.01, 2.5e-4)],
)
def test_clip_and_stop_follow_the_scale_of_the_log_probability(
    exploration: Exploration, clip: float, kl_stop: float
) -> None:
    region = stage(config(exploration=exploration, kl_stop=None)).trust_region
    assert (region.clip, region.kl_stop) == (clip, kl_stop)
    given = stage(config(exploration=exploration, clip=0.3, kl_stop=0.5)).trust_region
    assert (given.clip, given.kl_stop) == (0.3, 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entropy": float("nan")}, "RLConfig.entropy must be 0 or more and finite, got nan"),
        ({"entropy": float("inf")}, "RLConfig.entropy must be 0 or more and finite, got inf"),
        ({"entropy": -0.1}, "RLConfig.entropy must be 0 or more and finite, got -0.1"),
        ({"algo": "grpo", "group_size": 1}, "group_size must be 2 or more, got 1"),
        ({"algo": "grpo", "group_size": 3}, "num_envs must be a multiple of group_size 3 for grpo, got 4"),
        ({"kl_stop": 0.0}, "kl_stop must be above 0, got 0.0"),
    ],
)
def test_what_cannot_work_is_refused_when_the_configuration_is_made(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_the_entropy_of_a_fixed_noise_is_refused_once_the_policy_is_known() -> None:
    asked = config(exploration=SDE_ONE, entropy=0.01)
    with pytest.raises(ValueError, match=r"entropy must be 0 with flow-sde, whose noise is fixed, got 0\.01"):
        asked.for_policy(pi05_tiny())
