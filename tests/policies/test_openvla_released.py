"""The released layout of OpenVLA: names, shapes, towers, and the way there and back."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlco.policies.checkpoint import load_policy
from rlco.policies.layout import network_shapes, require_tensors
from rlco.policies.openvla.config import openvla_7b
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.openvla.released import config_of
from rlco.policies.released import Told
from tests.policies.folders import go
from tests.policies.openvla_folders import (
    action,
    config,
    sharded,
    write_statistics,
)
from tests.policies.openvla_names import released


def test_the_released_size_has_the_published_names_and_shapes() -> None:
    wanted = released(openvla_7b())
    found = network_shapes(openvla_7b())
    require_tensors(found, wanted, source="openvla-7b")
    by_hand = {
        "vision_backbone.featurizer.cls_token": (1, 1, 1024),
        "vision_backbone.featurizer.reg_token": (1, 4, 1024),
        "vision_backbone.featurizer.pos_embed": (1, 256, 1024),
        "vision_backbone.featurizer.patch_embed.proj.weight": (1024, 3, 14, 14),
        "vision_backbone.featurizer.blocks.23.attn.qkv.weight": (3072, 1024),
        "vision_backbone.featurizer.blocks.0.ls1.scale_factor": (1024,),
        "vision_backbone.fused_featurizer.pos_embed": (1, 256, 1152),
        "vision_backbone.fused_featurizer.blocks.26.mlp.fc1.weight": (4304, 1152),
        "vision_backbone.fused_featurizer.attn_pool.kv.weight": (2304, 1152),
        "vision_backbone.fused_featurizer.attn_pool.latent": (1, 1, 1152),
        "projector.fc1.weight": (8704, 2176),
        "projector.fc2.weight": (4096, 8704),
        "projector.fc3.bias": (4096,),
        "language_model.model.embed_tokens.weight": (32064, 4096),
        "language_model.model.layers.31.mlp.down_proj.weight": (4096, 11008),
        "language_model.model.layers.0.self_attn.k_proj.weight": (4096, 4096),
        "language_model.model.norm.weight": (4096,),
        "language_model.lm_head.weight": (32064, 4096),
    }
    assert {name: found[name] for name in by_hand} == by_hand
    # DINO 7 + 24 x 14, SigLIP 5 + 27 x 12 + 13 of its pooling, projector 6, Llama 3 + 32 x 9
    assert len(found) == 7 + 24 * 14 + 5 + 27 * 12 + 13 + 6 + 3 + 32 * 9
    assert sum(math.prod(shape) for shape in found.values()) == 7_541_237_184


def test_the_sizes_of_the_released_model_are_read_off_its_shapes() -> None:
    assert config_of({}, released(openvla_7b()), source="released") == openvla_7b()
    said = {"pad_to_multiple_of": 32, "text_config": {"rms_norm_eps": 1e-5, "num_attention_heads": 16}}
    found = config_of(said, released(openvla_7b()), source="released")
    assert (found.text_vocabulary, found.rms_norm_eps, found.heads, found.head_dim) == (32032, 1e-5, 16, 256)


def test_the_written_file_has_exactly_the_published_names(there: Path) -> None:
    tensors = load_file(there / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in tensors.items()} == released(config())


def test_there_and_back_is_bit_for_bit(made: OpenVlaPolicy, own: Path, tmp_path: Path) -> None:
    back = load_policy(go(go(own, tmp_path / "there", "openvla"), tmp_path / "back", "rlco"))
    assert isinstance(back, OpenVlaPolicy)
    assert (back.config, back.interface) == (made.config, made.interface)
    first, second = made.state_dict(), back.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(action(back), action(made))


def test_a_folder_of_another_program_gives_the_same_policy(made: OpenVlaPolicy, there: Path, tmp_path: Path) -> None:
    assert (there / "tokenizer.json").is_file()
    back = load_policy(go(there, tmp_path / "back", "rlco"))
    assert isinstance(back, OpenVlaPolicy)
    assert replace(back.config, prompt_length=made.config.prompt_length) == made.config
    assert all(
        torch.equal(a, b)
        for a, b in zip(back.network.state_dict().values(), made.network.state_dict().values(), strict=True)
    )
    assert replace(back.interface, codec=made.codec) == made.interface
    assert back.codec.action.low == pytest.approx(made.codec.action.low, abs=1e-9)
    own_heads = {name: value for name, value in back.state_dict().items() if name.startswith("value_head")}
    assert own_heads
    assert all(value.isfinite().all() for value in own_heads.values())


def test_the_files_around_the_weights_say_what_openvla_reads(there: Path) -> None:
    values = json.loads((there / "config.json").read_text())
    assert (values["model_type"], values["pad_token_id"], values["pad_to_multiple_of"]) == ("openvla", 768, 64)
    assert values["image_sizes"] == [32, 32]
    assert values["text_config"]["vocab_size"] == 832
    assert list(values["norm_stats"]) == ["rlco"]
    assert values["norm_stats"]["rlco"]["action"]["mask"] == [True] * 6 + [False]
    pictures = json.loads((there / "preprocessor_config.json").read_text())
    assert pictures["means"] == [[0.485, 0.456, 0.406], [0.5, 0.5, 0.5]]
    assert pictures["image_resize_strategy"] == "resize-naive"
    assert json.loads((there / "tokenizer_config.json").read_text())["pad_token"] == "<PAD>"


def test_the_key_of_the_statistics_may_be_said(own: Path, tmp_path: Path) -> None:
    out = go(own, tmp_path / "out", "openvla", Told(unnorm_key="my_robot"))
    assert list(json.loads((out / "config.json").read_text())["norm_stats"]) == ["my_robot"]


def test_types_are_kept_bit_for_bit_in_shards_too(there: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {k: torch.randn(v, generator=generator).bfloat16() for k, v in released(config()).items()}
    save_file(tensors, there / "model.safetensors")
    sharded(there, shards=3)
    ours = go(there, tmp_path / "ours", "rlco")
    again = go(ours, tmp_path / "again", "openvla")
    found = load_file(again / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[k].view(torch.int16), v.view(torch.int16)) for k, v in tensors.items())
    assert json.loads((again / "config.json").read_text())["torch_dtype"] == "bfloat16"
    state = load_policy(ours).network.state_dict()
    assert all(torch.equal(state[k], v.float()) for k, v in tensors.items())


def test_shards_that_are_not_complete_or_twice_are_refused(there: Path, tmp_path: Path) -> None:
    single = (there / "model.safetensors").read_bytes()
    sharded(there)
    (there / "model.safetensors").write_bytes(single)
    with pytest.raises(ValueError, match=r"has weights twice, in model\.safetensors and in the shards of"):
        go(there, tmp_path / "out", "rlco")
    (there / "model.safetensors").unlink()
    index = there / "model.safetensors.index.json"
    kept = index.read_text()
    values = json.loads(kept)
    values["weight_map"].pop("projector.fc1.bias")
    index.write_text(json.dumps(values))
    with pytest.raises(
        ValueError, match=r"its shards do not agree about 1 tensors, for example projector\.fc1\.bias in"
    ):
        go(there, tmp_path / "out", "rlco")
    index.write_text("{}")
    with pytest.raises(ValueError, match="is no index of shards"):
        go(there, tmp_path / "out", "rlco")
    index.write_text(kept)
    (there / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-00002-of-00002\.safetensors' does not exist"):
        go(there, tmp_path / "out", "rlco")


def test_every_wrong_tensor_is_named(there: Path, tmp_path: Path) -> None:
    file = there / "model.safetensors"
    tensors = load_file(file)
    tensors.pop("projector.fc3.bias")
    tensors["language_model.lm_head.weight"] = torch.zeros(3, 16)
    tensors["projector.fc4.bias"] = torch.zeros(3)
    save_file(tensors, file)
    message = r"\(3 keys\): missing projector\.fc3\.bias; unexpected projector\.fc4\.bias; .*lm_head\.weight has shape"
    with pytest.raises(ValueError, match=message):
        go(there, tmp_path / "out", "rlco")
    tensors.pop("vision_backbone.featurizer.reg_token")
    save_file(tensors, file)
    with pytest.raises(
        ValueError, match=r"lacks the tensor vision_backbone\.featurizer\.reg_token, which tells a size"
    ):
        go(there, tmp_path / "out", "rlco")


def test_timms_own_name_of_layer_scale_is_recognised(there: Path, tmp_path: Path) -> None:
    file = there / "model.safetensors"
    save_file({k.replace("scale_factor", "gamma"): v for k, v in load_file(file).items()}, file)
    with pytest.raises(
        ValueError, match=r"calls LayerScale gamma.* in 4 keys \(.*blocks\.0\.ls1\.gamma.*scale_factor: rename"
    ):
        go(there, tmp_path / "out", "rlco")


def test_the_head_the_crop_and_the_camera_may_be_said(there: Path, own: Path, tmp_path: Path) -> None:
    told = Told(
        head="parallel", horizon=8, executed=3, crop_area=0.9, camera={"image": "wrist"}, gripper="open0-closed1"
    )
    back = load_policy(go(there, tmp_path / "back", "rlco", replace(told, gripper=None)))
    assert isinstance(back, OpenVlaPolicy)
    assert (back.config.head, back.horizon, back.executed) == ("parallel", 8, 3)
    assert not back.config.coded_slots  # OpenVLA-OFT's chunks are trained on zeros
    assert load_policy(go(there, tmp_path / "one", "rlco")).config.coded_slots
    assert (back.interface.crop_area, back.interface.camera) == (0.9, "wrist")
    stats = write_statistics(tmp_path)
    other = load_policy(go(own, tmp_path / "other", "rlco", replace(told, stats=stats)))
    assert isinstance(other, OpenVlaPolicy)
    assert other.codec.action.flipped == (6,)
    assert (other.config.head, other.executed) == ("parallel", 3)
    assert (
        json.loads((tmp_path / "other" / "stats.json").read_text())["provenance"]["converted"]["gripper"]
        == "open0-closed1"
    )
