"""What a conversion of OpenVLA's refuses, by the names of the file, the field and the value."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlco.policies.checkpoint import load_policy, save_policy
from rlco.policies.convert import convert
from rlco.policies.families import new_policy
from rlco.policies.openvla.config import openvla_nano
from rlco.policies.openvla.interface import Interface
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.released import Told
from tests.policies.folders import edit_json, go
from tests.policies.openvla_folders import ACTION, Q01, released_codec, write_statistics, write_tokenizer


def text(**values: object) -> dict[str, object]:
    """Return a change of ``text_config``, with what no shape tells."""
    return {"text_config": {"num_attention_heads": 2, **values}}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (Told(unnorm_key="rlc"), "No unnorm_key named 'rlc'. Did you mean 'rlco'"),
        (Told(head="parallel"), "answers with a chunk of as many control steps as it was trained on: --horizon"),
        (Told(head="both"), "No head named 'both'"),
        (Told(horizon=8), r"OpenVlaConfig\.horizon must be 1, as hold is, with the autoregressive head, got 8"),
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
        (Told(state_clip=1.5), r"--state-clip 1\.5 changes nothing of .*, which reads no state"),
        (Told(state_clip=0.0), "--state-clip 0 changes nothing of"),
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
        ("config.json", text(rope_parameters={"rope_theta": 5e5}), r"text_config\.rope_parameters\.rope_theta 500000"),
        ("config.json", text(rope_parameters={"rope_type": "llama3"}), r"rope_parameters\.rope_type 'llama3', which"),
        ("config.json", text(rope_parameters={"rope_type": "default", "factor": 8.0}), r"rope_parameters\.factor 8\.0"),
        ("config.json", text(hidden_act="gelu"), r"text_config\.hidden_act 'gelu', which is not built"),
        ("config.json", text(num_key_value_heads=1), r"says text_config\.num_key_value_heads 1, its tensors have 2"),
        ("config.json", text(head_dim=16), r"says text_config\.head_dim 16, its tensors have 8"),
        ("config.json", text(num_attention_heads=3), "has 3 heads .num_attention_heads., by which its 16 rows of"),
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
        (
            lambda m: OpenVlaPolicy(replace(m.config, head="parallel", horizon=4, executed=4, hold=2), m.interface),
            "openvla",
            "has a parallel head and a hold of 2 control steps, which openvla has no place for",
        ),
        (
            lambda m: OpenVlaPolicy(m.config, replace(m.interface, crop_area=0.5)),
            "openvla",
            "sees 0.5 of a picture's area, and openvla all of it or 0.9",
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


def test_a_crop_that_no_file_says_is_said(made: OpenVlaPolicy, tmp_path: Path) -> None:
    cropped = OpenVlaPolicy(made.config, replace(made.interface, crop_area=0.9))
    save_policy(tmp_path / "own", cropped, provenance={})
    found = convert(tmp_path / "own", tmp_path / "out", "openvla", Told())
    assert found.described.notes["sees"].endswith("no file of openvla says it: run it with --center_crop True")
    found = convert(tmp_path / "own", tmp_path / "again", "rlco", Told())
    assert found.described.notes["sees"] == "the centre of pictures, 0.9 of their area"


def test_what_transformers_5_says_of_a_plain_rope_is_read(there: Path, tmp_path: Path) -> None:
    edit_json(there / "config.json", **text(rope_parameters={"rope_type": "default", "rope_theta": 10_000.0}))
    go(there, tmp_path / "out", "rlco")


@pytest.mark.parametrize("part", ["action_head", "noisy_action_projector", "proprio_projector", "vision_backbone"])
def test_a_continuous_head_beside_the_weights_is_refused(there: Path, tmp_path: Path, part: str) -> None:
    (there / f"{part}--150000_checkpoint.pt").touch()
    with pytest.raises(ValueError, match=f"has {part}--150000_checkpoint.pt: OpenVLA-OFT's parts"):
        go(there, tmp_path / "out", "rlco")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_config": []}, r"text_config \[\], which is no object"),
        (text(rms_norm_eps="small"), r"text_config\.rms_norm_eps 'small', which is no number"),
        (text(rope_parameters=[1]), r"text_config\.rope_parameters \[1\], which is no object"),
        (text(num_attention_heads="2"), "num_attention_heads '2', which is no whole number of 1 or more"),
        ({"dino_heads": 0}, "dino_heads 0, which is no whole number of 1 or more"),
        ({"pad_to_multiple_of": "x"}, "pad_to_multiple_of 'x', which is no whole number"),
        ({"image_sizes": 32}, "image_sizes 32, which is no list"),
        ({"norm_stats": [1]}, r"norm_stats \[1\], which is no object"),
    ],
)
def test_a_field_of_another_kind_is_named_with_its_file(
    there: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    edit_json(there / "config.json", **change)
    with pytest.raises(ValueError, match=f"there.*' has {message}"):
        go(there, tmp_path / "out", "rlco")


def test_a_field_that_is_null_is_named_with_its_file(there: Path, tmp_path: Path) -> None:
    file = there / "config.json"
    plain = json.loads(file.read_text())
    for change, message in (
        ({"text_config": None}, "has text_config None, which is no object"),
        (text(rms_norm_eps=None), r"has text_config\.rms_norm_eps None, which is no number"),
        ({"pad_to_multiple_of": None}, "has pad_to_multiple_of None, which is no whole"),
    ):
        file.write_text(json.dumps({**plain, **change}))
        with pytest.raises(ValueError, match=message):
            go(there, tmp_path / "out", "rlco")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"action": {**ACTION, "q01": None}}, r"action\.q01 None, which is no list"),
        ({"action": {**ACTION, "min": None}}, r"action\.min None, which is no list"),
        ({"action": {**ACTION, "q99": [[1.0]] * 7}}, r"action\.q99\[0\] \[1\.0\], which is no number"),
        ({"action": {**ACTION, "q01": ["a", *Q01[1:]]}}, r"action\.q01\[0\] 'a', which is no number"),
        ({"action": {**ACTION, "q01": [*Q01[:6], float("nan")]}}, r"action\.q01\[6\] nan, which is no number"),
        ({"action": {**ACTION, "mask": ["True"] * 7}}, r"action\.mask\[0\] 'True', which is neither true nor false"),
        ({"action": [1, 2]}, r"action \[1, 2\], which is no object"),
        ({"action": ACTION, "gripper": ["a"]}, r"gripper \['a'\], which is no text"),
    ],
)
def test_statistics_of_another_kind_are_named_with_their_file(
    there: Path, tmp_path: Path, entry: object, message: str
) -> None:
    write_statistics(there, mine=entry)
    with pytest.raises(ValueError, match=rf"dataset_statistics\.json' \(mine\) has {message}"):
        go(there, tmp_path / "out", "rlco")
