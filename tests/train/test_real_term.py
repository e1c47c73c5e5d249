import numpy as np
import pytest
import torch

from rlco.data.augment import ColourJitter, RandomCrop
from rlco.policies.adapters import LoraConfig, Tower
from rlco.policies.contract import Trainable
from rlco.policies.pi.policy import PiPolicy
from rlco.train.real_term import RealTerm, frame_bytes
from tests.train.samples import demonstrations, small, tiny


def policy_training(part: Trainable, *, tower: Tower = "expert") -> PiPolicy:
    policy = tiny()
    policy.set_trainable(part, lora=LoraConfig(lora_tower=tower, lora_rank=2))
    return policy


def term(policy: PiPolicy, *, frames: int = 40, batch_size: int = 6, cache_bytes: int = 10**9) -> RealTerm:
    return RealTerm(
        policy, demonstrations(frames), batch_size=batch_size, jitter=ColourJitter(), seed=0, cache_bytes=cache_bytes
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("part", "tower", "keeps"),
    [("all", "both", False), ("expert", "both", True), ("lora", "expert", True), ("lora", "language", False)],
)
def test_prefixes_are_kept_where_nothing_upstream_of_them_learns(part: Trainable, tower: Tower, keeps: bool) -> None:  # noqa: FBT001
    assert term(policy_training(part, tower=tower)).keeps_prefixes is keeps


def test_prefixes_are_kept_only_within_the_budget() -> None:
    policy = policy_training("expert")
    frames = 12
    exactly = frames * frame_bytes(policy, demonstrations(frames))
    assert term(policy, frames=frames, cache_bytes=exactly).keeps_prefixes
    assert not term(policy, frames=frames, cache_bytes=exactly - 1).keeps_prefixes


def test_keeping_prefixes_changes_the_cost_and_not_the_loss() -> None:
    policy = policy_training("lora", tower="expert")
    kept, encoded = term(policy), term(policy, cache_bytes=0)
    for _ in range(3):
        a, b = (t.loss(generator=generator()) for t in (kept, encoded))
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert kept.mean_loss() == pytest.approx(encoded.mean_loss(), rel=1e-5)


def test_every_frame_finds_its_own_prefix() -> None:
    policy = policy_training("expert")
    kept = term(policy, frames=600)  # encoded in two parts
    assert kept._prefix is not None
    index = np.array([0, 299, 300, 301, 599])
    alone = policy.encode(kept.real.batch(index).observation)
    torch.testing.assert_close(kept._prefix.key[torch.from_numpy(index)], alone.key, atol=1e-5, rtol=1e-4)
    assert torch.isfinite(kept._prefix.key).all()


def test_the_batch_is_as_large_as_asked_whatever_else_there_is() -> None:
    policy = policy_training("expert")
    seen = []
    loss = policy.loss

    def watched(batch, **named):  # noqa: ANN001, ANN003, ANN202
        seen.append(len(batch))
        return loss(batch, **named)

    policy.loss = watched  # pyright: ignore[reportAttributeAccessIssue]
    term(policy, batch_size=17).loss(generator=generator())
    assert seen == [17]


@pytest.mark.parametrize("part", ["all", "expert"])
def test_the_mean_loss_is_that_of_many_batches_and_disturbs_nothing(part: Trainable) -> None:
    policy = policy_training(part)
    real = term(policy)
    before = real.generator.bit_generator.state
    mean = real.mean_loss()
    assert real.mean_loss() == mean
    assert real.generator.bit_generator.state == before
    draws = generator()
    with torch.no_grad():
        slow = np.mean([real.loss(generator=draws).item() for _ in range(150)])
    assert mean == pytest.approx(slow, rel=0.06)


def test_colours_are_changed_where_the_prefix_learns_and_only_there() -> None:
    assert term(policy_training("all")).changes == [ColourJitter()]
    assert term(policy_training("expert"), cache_bytes=0).changes == []


def test_a_policy_of_picture_centres_sees_random_windows_where_the_prefix_learns() -> None:
    policy = small("openvla-tiny")
    assert RealTerm(policy, demonstrations(), batch_size=6, jitter=None, seed=0).changes == []
    policy.crop_pictures(0.8)
    real = RealTerm(policy, demonstrations(), batch_size=6, jitter=None, seed=0)
    assert real.changes == [RandomCrop(area=0.8)]
    batch, draws = real.real.batch(np.arange(6)), generator()
    seen = real._augmented(batch, draws).observation.image
    assert torch.equal(seen, RandomCrop(area=0.8)(batch.observation.image, generator=generator()))
    assert not torch.equal(seen, batch.observation.image)
    policy.set_trainable("expert", lora=LoraConfig())
    assert RealTerm(policy, demonstrations(), batch_size=6, jitter=None, seed=0).changes == []


def test_an_empty_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        term(tiny(), batch_size=0)
