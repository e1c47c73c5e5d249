import math

import torch

from rlco.algos.grpo import group_advantage, is_informative


def test_groups_by_hand() -> None:
    # [1, 0, 0, 1]: mean .5, std .5; [3, 1, 1, 3]: mean 2, std 1
    score = torch.tensor([[1.0, 0.0, 0.0, 1.0], [3.0, 1.0, 1.0, 3.0]])
    advantage = group_advantage(score, torch.ones(2, 4, dtype=torch.bool))
    torch.testing.assert_close(advantage, torch.tensor([[1.0, -1.0, -1.0, 1.0]] * 2), atol=1e-5, rtol=0)


def test_a_rare_success_weighs_more_than_a_frequent_one() -> None:
    # 1 of 4: mean .25, std sqrt(3)/4: success 3/4 / (sqrt(3)/4) = sqrt(3), failure -1/sqrt(3)
    advantage = group_advantage(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.ones(1, 4, dtype=torch.bool))
    expected = torch.tensor([[math.sqrt(3)] + [-1 / math.sqrt(3)] * 3])
    torch.testing.assert_close(advantage, expected, atol=1e-5, rtol=0)


def test_a_lost_episode_has_no_advantage_and_moves_no_baseline() -> None:
    valid = torch.tensor([[True, True, True, False]])
    low, high = (group_advantage(torch.tensor([[1.0, 0.0, 0.0, lost]]), valid) for lost in (0.0, 99.0))
    assert torch.equal(low, high)
    assert float(low[0, 3]) == 0.0
    torch.testing.assert_close(low[:, :3], group_advantage(torch.tensor([[1.0, 0.0, 0.0]]), valid[:, :3]))


def test_groups_that_all_win_or_all_lose_tell_nothing() -> None:
    score = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [5.0, 5.0, 5.0]])
    valid = torch.ones(5, 3, dtype=torch.bool)
    valid[3, 2] = valid[4] = False
    assert is_informative(score, valid).tolist() == [False, False, True, False, False]
    assert group_advantage(score, valid)[[0, 1, 3, 4]].abs().max() == 0
