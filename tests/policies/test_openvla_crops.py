"""What is trained on random crops is looked at through the centre of pictures, everywhere."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from rlco.core.policy import Batch
from rlco.data.augment import RandomCrop
from rlco.data.mixture import Mixture
from rlco.data.normalise import Codec, Normaliser
from rlco.policies.families import new_policy
from rlco.policies.openvla.inputs import to_pixels
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.train.sft import SFTConfig, SFTTrainer
from tests.policies.openvla_folders import observation

CODEC = Codec(state=Normaliser(low=(-1.0,) * 8, high=(1.0,) * 8), action=Normaliser(low=(-1.0,) * 7, high=(1.0,) * 7))


class OneBatch(Mixture):
    """A mixture of two pictures."""

    def __init__(self) -> None: ...

    def next_batch(self) -> Batch:
        return Batch(observation=observation(), action=torch.zeros(2, 1, 7), is_pad=torch.zeros(2, 1, dtype=torch.bool))


def trainer(policy: str, **config: Any) -> SFTTrainer:  # noqa: ANN401
    made = new_policy(policy, CODEC, seed=0)
    return SFTTrainer(made, OneBatch(), SFTConfig(jitter=None, **config))


def test_training_on_crops_sets_what_evaluation_sees() -> None:
    made = trainer("openvla-tiny", crop_area=0.7)
    policy = made.policy
    assert isinstance(policy, OpenVlaPolicy)
    assert policy.interface.crop_area == 0.7
    seen = observation().image
    assert torch.equal(policy.preprocessor(observation()).pixels, to_pixels(seen, size=32, crop_area=0.7))
    batch = made.next_batch()
    generator = torch.Generator()
    generator.set_state(trainer("openvla-tiny", crop_area=0.7).generator.get_state())
    assert torch.equal(batch.observation.image, RandomCrop(area=0.7)(seen, generator=generator))


def test_without_crops_pictures_are_whole() -> None:
    made = trainer("openvla-tiny")
    assert made.policy.interface.crop_area is None
    assert torch.equal(made.next_batch().observation.image, observation().image)


def test_a_family_that_sees_whole_pictures_refuses_crops() -> None:
    with pytest.raises(ValueError, match=r"crop_area is 0\.9, but a policy of pi05 sees whole pictures"):
        trainer("pi05-tiny", crop_area=0.9)
    with pytest.raises(ValueError, match=r"SFTConfig\.crop_area must be in \(0, 1\], got 0"):
        replace(SFTConfig(), crop_area=0.0)
