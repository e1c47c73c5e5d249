"""The released layout of OpenVLA: names, shapes, towers, and the way there and back."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, SiglipVisionConfig, SiglipVisionModel

from rlco.policies.checkpoint import load_policy, save_policy
from rlco.policies.families import new_policy
from rlco.policies.layout import network_shapes, require_tensors
from rlco.policies.openvla.config import openvla_7b, openvla_nano
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.openvla.released import config_of
from rlco.policies.openvla.vision import Dino, Siglip, Tower
from rlco.policies.released import Told
from tests.policies.folders import edit_json, foreign, go
from tests.policies.openvla_folders import (
    ACTION,
    action,
    config,
    published,
    released_codec,
    sharded,
    write_statistics,
    write_tokenizer,
)
from tests.policies.openvla_names import released


@pytest.fixture
def made(tmp_path: Path) -> OpenVlaPolicy:
    return published(tmp_path)


@pytest.fixture
def own(made: OpenVlaPolicy, tmp_path: Path) -> Path:
    """A checkpoint of ours that the released layout has a place for."""
    save_policy(tmp_path / "own", made, provenance={})
    return tmp_path / "own"


@pytest.fixture
def there(own: Path, tmp_path: Path) -> Path:
    """The same as a fine-tune of another program leaves it: its tokenizer beside it, nothing of ours."""
    return foreign(own, tmp_path / "there", "openvla")


def as_transformers(tower: Tower, names: dict[str, str]) -> dict[str, torch.Tensor]:
    """Rename a tower's tensors: ours (timm's) -> transformers'; qkv is three maps there."""
    out = {}
    for key, value in tower.state_dict().items():
        if key.startswith("attn_pool"):
            continue
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        if ".qkv." in key:
            out |= {key.replace("qkv", f"{name}_proj"): part for name, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            out[key] = value
    return out


def difference(tower: Tower, theirs: torch.nn.Module, state: dict[str, torch.Tensor], *, before: int) -> float:
    """Return the largest difference of the features before the last block."""
    theirs.load_state_dict(state)  # strict: every name is used
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = theirs.eval()(pixels, output_hidden_states=True).hidden_states[-2][:, before:]
        return float((tower(pixels) - wanted).abs().max() / wanted.abs().max())


def shaken(tower: Tower) -> Tower:
    """Leave nothing at its starting value: a scale of 1 or a bias of 0 hides a missing term."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return tower


def test_our_dino_is_transformers_dinov2_with_registers_through_the_table() -> None:
    small = replace(config(), image_size=56, patch_size=14)
    small = replace(small, dino=replace(small.dino, width=48, mlp=96, depth=4, heads=3))
    tower = shaken(Dino(small))
    names = {
        "blocks.": "encoder.layer.",
        "attn.qkv": "attention.qkv",
        "attn.proj": "attention.o_proj",
        "ls1.scale_factor": "layer_scale1.lambda1",
        "ls2.scale_factor": "layer_scale2.lambda1",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "cls_token": "embeddings.cls_token",
        "reg_token": "embeddings.register_tokens",
    }
    state = as_transformers(tower, names)
    state = {("layernorm" + k.removeprefix("norm") if k.startswith("norm.") else k): v for k, v in state.items()}
    position = state.pop("pos_embed")
    state["embeddings.position_embeddings"] = torch.cat([torch.zeros(1, 1, 48), position], dim=1)
    state["embeddings.mask_token"] = torch.zeros(1, 48)
    theirs = Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(
            hidden_size=48,
            num_hidden_layers=4,
            num_attention_heads=3,
            mlp_ratio=2,
            image_size=56,
            patch_size=14,
            num_register_tokens=4,
            layer_norm_eps=1e-6,
        )
    )
    assert difference(tower, theirs, state, before=5) < 2e-6


@pytest.mark.parametrize(("activation", "is_same"), [("gelu", True), ("gelu_pytorch_tanh", False)])
def test_our_siglip_is_transformers_with_exact_gelu_through_the_table(activation: str, *, is_same: bool) -> None:
    small = replace(config(), image_size=56, patch_size=14)
    small = replace(small, siglip=replace(small.siglip, width=48, mlp=80, depth=4, heads=3))
    tower = shaken(Siglip(small))
    names = {
        "blocks.": "encoder.layers.",
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "attn.qkv": "self_attn.qkv",
        "attn.proj": "self_attn.out_proj",
        "patch_embed.proj": "embeddings.patch_embedding",
    }
    state = as_transformers(tower, names)
    state = {("post_layernorm" + k.removeprefix("norm") if k.startswith("norm.") else k): v for k, v in state.items()}
    state["embeddings.position_embedding.weight"] = state.pop("pos_embed")[0]
    theirs = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=48,
            intermediate_size=80,
            num_hidden_layers=4,
            num_attention_heads=3,
            image_size=56,
            patch_size=14,
            hidden_act=activation,
            vision_use_head=False,
            layer_norm_eps=1e-6,
        )
    )
    found = difference(tower, theirs, state, before=0)
    assert (found < 2e-6) == is_same


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


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (Told(unnorm_key="rlc"), "No unnorm_key named 'rlc'. Did you mean 'rlco'"),
        (Told(head="parallel"), "answers with a chunk of as many control steps as it was trained on: --horizon"),
        (Told(head="both"), "No head named 'both'"),
        (Told(horizon=8), r"OpenVlaConfig\.horizon must be 1 with the autoregressive head, got 8"),
        (Told(head="parallel", horizon=8, executed=9), r"executed must be in \[1, 8\], got 9"),
        (Told(executed=0), r"executed must be in \[1, 1\], got 0"),
        (Told(family="pi0"), "is of family openvla, not pi0"),
        (Told(normalisation="quantile"), "--normalisation changes nothing of .*of another family"),
        (Told(floored=True), "--floored changes nothing of"),
        (Told(prompt="pi05"), "No prompt style named 'pi05'"),
        (Told(camera={"base_0_rgb": "front"}), "No camera slot named 'base_0_rgb'"),
        (Told(crop_area=2.0), r"Interface\.crop_area must be in \(0, 1\], got 2\.0"),
        (Told(gripper="open0-closed1"), "says that its gripper is open1-closed0, not open0-closed1"),
        (Told(tokenizer=Path("t.model")), "is a SentencePiece model"),
    ],
)
def test_what_does_not_fit_a_released_checkpoint_is_named(
    there: Path, tmp_path: Path, told: Told, message: str
) -> None:
    with pytest.raises((ValueError, LookupError), match=message):
        go(there, tmp_path / "out", "rlco", told)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("config.json", {"image_resize_strategy": "letterbox"}, "has image_resize_strategy 'letterbox', which is not"),
        ("config.json", {"use_fused_vision_backbone": False}, "has use_fused_vision_backbone False"),
        (
            "config.json",
            {"image_sizes": [384, 384]},
            r"says image_sizes \[384, 384\], its tensors are for pictures of 32",
        ),
        ("config.json", {"text_config": {"model_type": "phi"}}, r"text_config\.model_type 'phi'"),
        ("config.json", {"text_config": {"rope_theta": 5e5}}, r"text_config\.rope_theta 500000"),
        (
            "config.json",
            {"text_config": {}},
            "has a width of 16, of which no number of heads is known.*num_attention_heads",
        ),
        ("config.json", {"dino_heads": None}, "no number of heads is known.*dino_heads"),
        ("config.json", {"norm_stats": None}, "has no norm_stats of actions"),
        ("config.json", {"pad_to_multiple_of": 32}, "has 768 tokens beside <PAD>, the policy was trained with 800"),
        ("preprocessor_config.json", {"means": [[0.5] * 3] * 2}, r"has means \[\[0\.5, .*OpenVLA has \[\[0\.485"),
        ("preprocessor_config.json", {"stds": 0.5}, "has stds 0.5, OpenVLA has"),
        ("preprocessor_config.json", {"image_resize_strategy": "resize-crop"}, "'resize-crop', which is not built"),
    ],
)
def test_another_architecture_or_other_pictures_are_refused(
    there: Path, tmp_path: Path, file: str, change: dict[str, object], message: str
) -> None:
    edit_json(there / file, **change)
    with pytest.raises(ValueError, match=message):
        go(there, tmp_path / "out", "rlco")


def test_the_released_roundings_of_means_and_deviations_are_the_same_pictures(there: Path, tmp_path: Path) -> None:
    rounded = {
        "means": [[0.484375, 0.455078125, 0.40625], [0.5, 0.5, 0.5]],
        "stds": [[0.228515625, 0.2236328125, 0.224609375], [0.5, 0.5, 0.5]],
    }
    edit_json(there / "preprocessor_config.json", **rounded)
    go(there, tmp_path / "out", "rlco")


def test_a_source_without_its_tokenizer_or_of_another_one_is_named(there: Path, tmp_path: Path) -> None:
    (there / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json: give Llama 2's \(--tokenizer FILE\)"):
        go(there, tmp_path / "out", "rlco")
    other = write_tokenizer(tmp_path / "other.json", size=512)
    with pytest.raises(ValueError, match="has 512 tokens beside <PAD>, the policy was trained with 768"):
        go(there, tmp_path / "out", "rlco", Told(tokenizer=other))


def untouched(made: OpenVlaPolicy) -> OpenVlaPolicy:
    return made


@pytest.mark.parametrize(
    ("change", "to", "message"),
    [
        (
            lambda m: OpenVlaPolicy(openvla_nano(), Interface(codec=m.codec)),
            "openvla",
            "grounding token and a token of",
        ),
        (
            lambda m: OpenVlaPolicy(m.config, Interface(codec=m.codec)),
            "openvla",
            "built-in tokenizer, and openvla with",
        ),
        (
            lambda m: OpenVlaPolicy(m.config, replace(m.interface, prompt="v01")),
            "openvla",
            "style 'openvla' only.*trained with 'v01'",
        ),
        (untouched, "lerobot", "is of family openvla, which lerobot does not keep; layouts: rlco, openvla"),
        (
            lambda m: new_policy("pi05-tiny", m.codec, seed=0),
            "openvla",
            "is of family pi05, which openvla does not keep",
        ),
    ],
)
def test_what_a_layout_has_no_place_for_is_refused(
    made: OpenVlaPolicy, tmp_path: Path, change: Callable[[OpenVlaPolicy], OpenVlaPolicy], to: str, message: str
) -> None:
    save_policy(tmp_path / "own", change(made), provenance={})
    with pytest.raises(ValueError, match=message):
        go(tmp_path / "own", tmp_path / "out", to)


def test_what_is_said_of_statistics_that_are_not_read_is_refused(own: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="own' has a normalisation of its own, of which --gripper open0-closed1 changes"
    ):
        go(own, tmp_path / "out", "rlco", Told(gripper="open0-closed1"))
    with pytest.raises(ValueError, match="of which --unnorm-key x changes nothing"):
        go(own, tmp_path / "out", "rlco", Told(unnorm_key="x"))


def test_several_statistics_are_a_question(there: Path, tmp_path: Path) -> None:
    write_statistics(there, a={"action": ACTION}, b={"action": ACTION})
    with pytest.raises(ValueError, match="has 2 sets of statistics, say which: --unnorm-key a, b"):
        go(there, tmp_path / "out", "rlco")
    back = load_policy(go(there, tmp_path / "out", "rlco", Told(unnorm_key="b")))
    assert back.codec == released_codec(tmp_path)
