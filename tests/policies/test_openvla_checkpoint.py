"""The token policy's sizes, and what a checkpoint keeps of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rlco.core.policy import Observation
from rlco.policies.checkpoint import load_policy, save_policy
from rlco.policies.openvla.config import CONFIGS, OpenVlaConfig, openvla_7b, openvla_oft_tiny, openvla_tiny
from rlco.policies.openvla.inputs import Preprocessor
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.network import OpenVlaNetwork, without_weights
from tests.policies.folders import edit_json
from tests.policies.token_policies import CODEC, generator, observation, policy_of

BOTH = pytest.mark.parametrize("config", [openvla_tiny(), openvla_oft_tiny()], ids=["autoregressive", "parallel"])


@BOTH
def test_a_saved_policy_samples_the_same(config: OpenVlaConfig, tmp_path: Path) -> None:
    policy = policy_of(config)
    save_policy(tmp_path / "policy", policy, provenance={})
    loaded = load_policy(tmp_path / "policy")
    before, after = (p.sample(observation(), explore=True, generator=generator()) for p in (policy, loaded))
    assert torch.equal(before.action, after.action)
    assert torch.equal(before.log_prob, after.log_prob)
    assert torch.equal(before.value, after.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_comes_back_from_json(name: str) -> None:
    config = CONFIGS[name]()
    assert OpenVlaConfig.from_json(config.to_json()) == config


def test_the_released_size_takes_no_memory_until_it_is_loaded() -> None:
    network = without_weights(openvla_7b(), state_dim=8)
    assert all(p.is_meta for p in network.parameters())
    assert not any(b.is_meta for b in network.buffers())
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    assert shapes["vision_backbone.featurizer.reg_token"] == (1, 4, 1024)
    assert shapes["projector.fc1.weight"] == (8704, 2176)
    assert shapes["language_model.lm_head.weight"] == (32064, 4096)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 7_541_237_184


@pytest.mark.parametrize("name", [name for name in CONFIGS if "7b" not in name])
def test_a_network_without_weights_gives_the_same_bits_once_it_has_them(name: str) -> None:
    config = CONFIGS[name]()
    network = OpenVlaNetwork(config, state_dim=8)
    empty = without_weights(config, state_dim=8)
    empty.load_state_dict(network.state_dict(), assign=True)
    size = config.image_size
    seen = Observation(
        image=torch.randint(0, 256, (2, size, size, 3), generator=generator(), dtype=torch.uint8),
        state=torch.zeros(2, 8),
        instruction=("push the cube", "pick"),
    )
    inputs = Preprocessor(config, Interface(codec=CODEC))(seen)
    one, two = (n.read(n.see(inputs), inputs).outputs for n in (network, empty))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 2}, r"OpenVlaConfig\.horizon must be 1, as hold is, with the autoregressive head, got 2: "),
        ({"head": "parallel", "horizon": 4, "executed": 5}, r"OpenVlaConfig\.executed must be in \[1, 4\], got 5"),
        ({"kv_heads": 3}, r"OpenVlaConfig\.heads must be a multiple of kv_heads 3, got 2"),
        ({"text_vocabulary": 256}, r"OpenVlaConfig\.text_vocabulary must be above 256 and at most vocabulary 832"),
        ({"text_vocabulary": 900}, r"at most vocabulary 832, got 900"),
        ({"image_size": 33}, r"OpenVlaConfig\.image_size must be a multiple of patch_size 16, got 33"),
        ({"depth": 0}, r"OpenVlaConfig\.depth must be 1 or more, got 0"),
        ({"head_dim": 0}, r"OpenVlaConfig\.head_dim must be 1 or more, got 0"),
        ({"head_dim": 7}, r"OpenVlaConfig\.head_dim must be even, got 7"),
        ({"width": 17}, r"OpenVlaConfig\.width must be even, got 17"),
        ({"mlp": 0}, r"OpenVlaConfig\.mlp must be 1 or more, got 0"),
        ({"image_size": 0}, r"OpenVlaConfig\.image_size must be 1 or more, got 0"),
        ({"registers": -1}, r"OpenVlaConfig\.registers must be 0 or more, got -1"),
        ({"grounding_heads": -1}, r"OpenVlaConfig\.grounding_heads must be 0 or more, got -1"),
        ({"hold": 0}, r"OpenVlaConfig\.hold must be 1 or more, got 0"),
    ],
)
def test_a_size_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(openvla_tiny(), **change)


@pytest.mark.parametrize("tower", ["dino", "siglip"])
@pytest.mark.parametrize("field", ["heads", "width", "mlp"])
def test_a_tower_of_nothing_is_refused(tower: str, field: str) -> None:
    small = replace(openvla_tiny().dino, **{field: 0})
    message = rf"OpenVlaConfig\.{tower} must have width, mlp and heads of 1 or more, got .*{field}=0"
    with pytest.raises(ValueError, match=message):
        replace(openvla_tiny(), **{tower: small})


def test_a_tower_of_one_block_has_no_features() -> None:
    with pytest.raises(ValueError, match=r"OpenVlaConfig\.dino\.depth must be 2 or more"):
        replace(openvla_tiny(), dino=replace(openvla_tiny().dino, depth=1))


@pytest.mark.parametrize("field", ["prompt", "tokenizer", "camera"])
def test_a_checkpoint_says_how_it_reads_or_is_refused(tmp_path: Path, field: str) -> None:
    save_policy(tmp_path / "policy", policy_of(openvla_tiny()), provenance={})
    edit_json(tmp_path / "policy" / "stats.json", crop_area=0.9, **{field: None})
    with pytest.raises(ValueError, match=rf"stats\.json lacks the fields: {field}\."):
        load_policy(tmp_path / "policy")


def test_a_checkpoint_says_whether_it_crops_or_is_refused(tmp_path: Path) -> None:
    save_policy(tmp_path / "policy", policy_of(openvla_tiny()), provenance={})
    edit_json(tmp_path / "policy" / "stats.json", crop_area=None)  # takes it away
    with pytest.raises(ValueError, match=r"stats\.json lacks the fields: crop_area\."):
        load_policy(tmp_path / "policy")
