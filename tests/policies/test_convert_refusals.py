"""What a conversion must not pass over in silence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlco.policies.checkpoint import load_policy, save_policy
from rlco.policies.layout import network_shapes
from rlco.policies.pi.config import pi05_base
from rlco.policies.pi.released import Chunks, config_of
from rlco.policies.released import Told
from rlco.policies.tensor_files import TensorFile
from tests.policies.folders import CODEC, action, edit_json, foreign, go, policy, published, write_tokenizer


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A checkpoint of ours that the released layouts have a place for."""
    save_policy(tmp_path / "own", published("pi05"), provenance={})
    return tmp_path / "own"


def told(folder: Path, **more: object) -> Told:
    return replace(Told(tokenizer=write_tokenizer(folder / "tokenizer.json")), **more)


def test_a_normalisation_that_a_lerobot_file_contradicts_is_refused(own: Path, tmp_path: Path) -> None:
    there = foreign(own, tmp_path / "there", "lerobot")
    message = r"normalises the state by quantile, not by mean-std \(--normalisation\)"
    with pytest.raises(ValueError, match=message):
        go(there, tmp_path / "out", "rlco", told(tmp_path, normalisation="mean-std"))
    go(there, tmp_path / "out", "rlco", told(tmp_path, normalisation="quantile"))


@pytest.mark.parametrize(
    ("more", "named"), [({"normalisation": "mean-std"}, "--normalisation mean-std"), ({"floored": True}, "--floored")]
)
def test_what_is_said_of_statistics_that_are_not_read_is_refused(
    own: Path, tmp_path: Path, more: dict[str, object], named: str
) -> None:
    with pytest.raises(ValueError, match=rf"own' has a normalisation of its own.*{named}.*with --stats FILE only"):
        go(own, tmp_path / "out", "rlco", replace(Told(), **more))


@pytest.mark.parametrize("to", ["openpi", "lerobot"])
def test_the_built_in_tokenizer_is_not_passed_off_as_paligemmas(tmp_path: Path, to: str) -> None:
    save_policy(tmp_path / "own", policy("pi05"), provenance={})
    with pytest.raises(ValueError, match=r"built-in tokenizer.*stays in the layout rlco"):
        go(tmp_path / "own", tmp_path / "out", to)
    go(tmp_path / "own", tmp_path / "out", "rlco")


def test_openpi_is_given_only_the_prompts_that_it_writes(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"openpi prompts pi05 in the style 'pi05' or 'plain' only.*'pi05_padded32'"):
        go(own, tmp_path / "padded", "openpi", Told(prompt="pi05_padded32"))
    go(own, tmp_path / "plain", "openpi", Told(prompt="plain"))
    save_policy(tmp_path / "pi0", published("pi0"), provenance={})
    with pytest.raises(ValueError, match=r"openpi prompts pi0 in the style 'plain' only.*'pi05'"):
        go(tmp_path / "pi0", tmp_path / "out", "openpi", Told(prompt="pi05"))


def relative(steps: list[dict[str, object]]) -> None:
    steps.insert(2, {"registry_name": "relative_actions_processor", "config": {"enabled": True}})


def strange(steps: list[dict[str, object]]) -> None:
    steps.insert(2, {"class": "my.module.CropStep", "config": {}})


def pictures(steps: list[dict[str, object]]) -> None:
    steps[2]["config"]["norm_map"]["VISUAL"] = "MEAN_STD"  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("policy_preprocessor.json", relative, "step relative_actions_processor is enabled"),
        ("policy_preprocessor.json", strange, r"step my\.module\.CropStep.*known: .*normalizer_processor"),
        ("policy_preprocessor.json", pictures, "normalises VISUAL by MEAN_STD; supported: IDENTITY"),
        ("policy_postprocessor.json", strange, r"step my\.module\.CropStep"),
    ],
)
@pytest.mark.parametrize("has_stats", [False, True])
def test_a_lerobot_step_that_changes_the_data_is_refused_by_name(
    own: Path,
    tmp_path: Path,
    file: str,
    change: Callable[[list[dict[str, object]]], None],
    *,
    has_stats: bool,
    message: str,
) -> None:
    there = foreign(own, tmp_path / "there", "lerobot")
    values = json.loads((there / file).read_text())
    change(values["steps"]) if "post" not in file else values["steps"].append({"class": "my.module.CropStep"})
    edit_json(there / file, steps=values["steps"])
    stats = go(own, tmp_path / "openpi", "openpi") if has_stats else None
    with pytest.raises(ValueError, match=message):
        go(there, tmp_path / "out", "rlco", told(tmp_path, stats=stats))


def test_a_lerobot_step_that_is_switched_off_is_none(own: Path, tmp_path: Path) -> None:
    there = foreign(own, tmp_path / "there", "lerobot")
    steps = json.loads((there / "policy_preprocessor.json").read_text())["steps"]
    steps.insert(2, {"registry_name": "relative_actions_processor", "config": {"enabled": False}})
    edit_json(there / "policy_preprocessor.json", steps=steps)
    go(there, tmp_path / "out", "rlco", told(tmp_path))


@pytest.mark.parametrize("to", ["openpi", "lerobot"])
def test_heads_that_no_shape_shows_are_not_assumed_of_an_unknown_width(own: Path, tmp_path: Path, to: str) -> None:
    there = foreign(own, tmp_path / "there", to)
    back = load_policy(go(there, tmp_path / "back", "rlco", told(tmp_path)))  # said by the config.json that we wrote
    assert (back.config.vision_heads, back.config.kv_heads) == (16, 1)
    edit_json(there / "config.json", vision_heads=None)
    with pytest.raises(ValueError, match=r"vision width 16.*config\.json.*vision_heads"):
        go(there, tmp_path / "out", "rlco", told(tmp_path))
    edit_json(there / "config.json", vision_heads=16, kv_heads=None)
    with pytest.raises(ValueError, match=r"language width 16.*config\.json.*kv_heads"):
        go(there, tmp_path / "out", "rlco", told(tmp_path))


def test_several_key_heads_are_read_where_they_are_said() -> None:
    wide = replace(pi05_base(), kv_heads=2)
    names = ("horizon", "executed", "denoise_steps", "prompt_length")
    chunks = Chunks(**{name: getattr(wide, name) for name in names}, kv_heads=2)
    assert config_of(network_shapes(wide), chunks, source="released") == wide


def test_weights_that_were_trained_on_after_a_conversion_do_not_get_the_old_description(
    own: Path, tmp_path: Path
) -> None:
    there = go(own, tmp_path / "there", "lerobot")
    file = there / "model.safetensors"
    go(there, tmp_path / "same", "rlco")
    with file.open("r+b") as opened:  # as another program's training leaves it: same names, shapes and size
        opened.seek(-1, 2)
        opened.write(b"\x01")
    with pytest.raises(ValueError, match=r"rlco' describes other weights than.*delete .*rlco"):
        go(there, tmp_path / "out", "rlco")
    (there / "rlco" / "weights.sha256").unlink()
    with pytest.raises(ValueError, match=r"rlco' describes other weights than.*delete .*rlco"):
        go(there, tmp_path / "out", "rlco")


@pytest.mark.parametrize("to", ["openpi", "lerobot"])
@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float32")]
)
def test_the_type_that_is_written_down_is_that_of_the_tensors(
    own: Path, tmp_path: Path, to: str, dtype: str, expected: str
) -> None:
    file = own / "model.safetensors"
    kept = ("norm", "rlco.", "action", "time", "position", "patch")
    tensors = {
        name: value if any(part in name for part in kept) else value.to(getattr(torch, dtype))
        for name, value in load_file(file).items()
    }
    save_file(tensors, file)
    values = json.loads((go(own, tmp_path / "there", to) / "config.json").read_text())
    assert values[{"openpi": "precision", "lerobot": "dtype"}[to]] == expected


def test_a_clip_can_be_taken_away(tmp_path: Path) -> None:
    made = published("pi05")
    clipped = replace(made.interface, codec=replace(CODEC, state_clip=1.5))
    save_policy(tmp_path / "own", published("pi05", interface=clipped), provenance={})
    with pytest.raises(ValueError, match=r"clips its states at 1\.5.*--state-clip 0 takes it away"):
        go(tmp_path / "own", tmp_path / "out", "openpi")
    back = load_policy(go(tmp_path / "own", tmp_path / "free", "rlco", Told(state_clip=0.0)))
    assert back.codec.state_clip is None
    assert torch.equal(action(back), action(made))
    with pytest.raises(ValueError, match=r"state_clip must be above 0, got -1\.0"):
        go(tmp_path / "own", tmp_path / "out", "rlco", Told(state_clip=-1.0))


def test_tensors_of_a_kind_that_we_cannot_carry_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.float8_e4m3fn)}, path)
    with pytest.raises(ValueError, match=r"holds tensors of kinds that are not read: b \(F8_E4M3\); read are .*BF16"):
        TensorFile(path)
