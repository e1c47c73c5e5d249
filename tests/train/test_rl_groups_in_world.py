import pytest
import torch

from rlco.core.scene import InitialState
from rlco.recipes.stages import collector
from rlco.rollout.groups import GroupCollector
from rlco.train.rl_config import RLConfig
from rlco.worlds.make import make_world
from rlco.worlds.world import World
from tests.train.samples import tiny

CONFIG = RLConfig(algo="grpo", num_envs=4, group_size=2, decisions=2)


def world() -> World:
    return make_world("push-cube", num_envs=4, seed=0, image_size=32, max_steps=8, num_workers=1)


@pytest.mark.sim
def test_a_group_starts_alike_in_the_twin_and_a_resumed_one_plays_the_same() -> None:
    policy, generator = tiny(), torch.Generator()
    with world() as twin:
        playing = collector(twin, CONFIG)
        assert isinstance(playing.collector, GroupCollector)
        first = playing.collect(policy, decisions=2, generator=generator.manual_seed(0))
        between = playing.state_dict()
        names = [state.name for state in twin.initial_states]
        second = playing.collect(policy, decisions=2, generator=generator.manual_seed(1))
    assert names[0] == names[1] != names[2] == names[3]
    image = first.observation.image[:4]
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[2], image[3])
    assert not torch.equal(image[0], image[2])
    assert not torch.equal(first.observation.image[:4], second.observation.image[:4])
    assert (first.finished, first.lost) == (4, 0)
    with world() as twin:
        resumed = collector(twin, CONFIG)
        resumed.load_state_dict(between)
        again = resumed.collect(policy, decisions=2, generator=generator.manual_seed(1))
    assert torch.equal(again.observation.image, second.observation.image)
    assert torch.equal(again.log_prob, second.log_prob)
    assert torch.equal(again.rollout.reward, second.rollout.reward)


@pytest.mark.sim
def test_the_starts_of_groups_follow_from_the_seed() -> None:
    def starts(seed: int) -> list[InitialState]:
        with world() as twin:
            playing = collector(twin, RLConfig(algo="grpo", num_envs=4, group_size=2, seed=seed))
            assert isinstance(playing.collector, GroupCollector)
            return [playing.collector.starts(n) for n in range(3)]

    assert starts(0) == starts(0) != starts(1)
