import pytest
import torch

from rlco.algos.gae import Rollout, explained_variance, gae


def rollout(**changes: torch.Tensor) -> Rollout:
    column = {
        "reward": torch.tensor([[1.0], [0.0], [2.0]]),
        "value": torch.tensor([[0.5], [1.0], [0.0]]),
        "next_value": torch.tensor([[1.0], [0.0], [4.0]]),
        "terminated": torch.tensor([[False], [False], [False]]),
        "truncated": torch.tensor([[False], [False], [False]]),
        "is_valid": torch.tensor([[True], [True], [True]]),
        "steps": torch.tensor([[4], [4], [4]]),
    }
    return Rollout(**(column | changes))


def test_three_steps_by_hand() -> None:
    # discount 0.5, lam 0.5: delta = [1 + .5 - .5, 0 + 0 - 1, 2 + 2 - 0] = [1, -1, 4]
    # A2 = 4; A1 = -1 + .25 * 4 = 0; A0 = 1 + .25 * 0 = 1
    advantage = gae(rollout(), discount=0.5, lam=0.5)
    torch.testing.assert_close(advantage[:, 0], torch.tensor([1.0, 0.0, 4.0]))


def test_only_termination_drops_the_bootstrap() -> None:
    last = torch.tensor([[False], [False], [True]])
    terminated = gae(rollout(terminated=last), discount=0.5, lam=0.5)
    truncated = gae(rollout(truncated=last), discount=0.5, lam=0.5)
    assert float(terminated[2]) == 2.0  # 2 + 0 - 0
    assert float(truncated[2]) == 4.0  # 2 + .5 * 4 - 0


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_nothing_flows_back_over_an_end(end: str) -> None:
    ends = {end: torch.tensor([[False], [True], [False]])}
    plain = gae(rollout(**ends), discount=0.5, lam=0.5)
    later = gae(rollout(**ends, reward=torch.tensor([[1.0], [0.0], [99.0]])), discount=0.5, lam=0.5)
    torch.testing.assert_close(plain[:2], later[:2])


def test_a_lost_step_counts_for_nothing() -> None:
    lost = gae(rollout(is_valid=torch.tensor([[True], [False], [True]])), discount=0.5, lam=0.5)
    assert float(lost[1]) == 0.0
    assert float(lost[0]) == 1.0


def test_environments_do_not_mix() -> None:
    one = rollout()
    both = {
        name: torch.cat([getattr(one, name), getattr(one, name).flip(0)], dim=1) for name in one.__dataclass_fields__
    }
    swapped = {name: value.flip(1) for name, value in both.items()}
    a = gae(Rollout(**both), discount=0.9, lam=0.8)
    b = gae(Rollout(**swapped), discount=0.9, lam=0.8)
    torch.testing.assert_close(a, b.flip(1))


def test_lambda_one_is_the_return_minus_the_value() -> None:
    # discounted return from step 0: 1 + .9 * 0 + .81 * 2 + .729 * 4
    advantage = gae(
        rollout(value=torch.tensor([[0.5], [1.0], [0.0]]), next_value=torch.tensor([[1.0], [0.0], [4.0]])),
        discount=0.9,
        lam=1.0,
    )
    assert float(advantage[0]) == pytest.approx(1 + 0.81 * 2 + 0.729 * 4 - 0.5)


def test_explained_variance_is_one_for_truth_and_zero_for_the_mean() -> None:
    target = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(target, target) == 1.0
    assert explained_variance(torch.full((3,), 2.0), target) == pytest.approx(0.0)


def test_a_discount_per_step_counts_the_steps_that_a_chunk_lasted() -> None:
    # discount .5, lam .5, chunks of 1, 2 and 3 steps:
    # delta = [1 + .5 * 1 - .5, 0 + 0 - 1, 2 + .125 * 4 - 0] = [1, -1, 2.5]
    # A2 = 2.5; A1 = -1 + .25 * .5 * 2.5 = -.6875; A0 = 1 + .5 * .5 * -.6875 = .828125
    chunks = rollout(steps=torch.tensor([[1], [2], [3]]))
    advantage = gae(chunks, discount=0.5, lam=0.5, discount_per="step")
    torch.testing.assert_close(advantage[:, 0], torch.tensor([0.828125, -0.6875, 2.5]))


def test_a_discount_per_step_bootstraps_a_cut_chunk_by_the_steps_it_had() -> None:
    # the clock cuts the last chunk after 1 of 4 steps: 2 + .5 * 4; success there: 2, whatever follows
    last, steps = torch.tensor([[False], [False], [True]]), torch.tensor([[4], [4], [1]])
    cut = gae(rollout(truncated=last, steps=steps), discount=0.5, lam=0.5, discount_per="step")
    done = gae(rollout(terminated=last, steps=steps), discount=0.5, lam=0.5, discount_per="step")
    assert float(cut[2]) == 4.0
    assert float(done[2]) == 2.0


def test_chunks_of_one_step_are_discounted_alike_both_ways() -> None:
    single = rollout(steps=torch.ones(3, 1, dtype=torch.int64))
    per_chunk, per_step = (gae(single, discount=0.9, lam=0.7, discount_per=per) for per in ("chunk", "step"))
    assert torch.equal(per_chunk, per_step)
