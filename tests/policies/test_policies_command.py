"""``rlco policies``: the list, and conversion from the command line."""

import json
from pathlib import Path

import pytest

from rlco.cli import main
from rlco.policies.checkpoint import load_policy, save_policy
from tests.policies import openvla_folders
from tests.policies.folders import published


def test_the_command_converts_and_says_what_it_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_policy(tmp_path / "own", published("pi0"), provenance={})
    assert main(["policies", "convert", "own", "there", "--to", "lerobot"]) == 0
    assert "family: pi0\n" in capsys.readouterr().out
    words = ["--camera", "base_0_rgb=top", "--prompt", "plain", "--json"]
    assert main(["policies", "convert", "there", "back", "--to", "rlco", *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["source"], said["cameras"]) == ("there (lerobot)", "base_0_rgb=top")
    assert load_policy(tmp_path / "back").interface.cameras == {"base_0_rgb": "top"}


def test_the_command_converts_openvla_and_says_which_units_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_policy(tmp_path / "own", openvla_folders.published(tmp_path), provenance={})
    assert main(["policies", "convert", "own", "there", "--to", "openvla", "--unnorm-key", "my_robot"]) == 0
    (tmp_path / "there" / "rlco").rename(tmp_path / "aside")
    capsys.readouterr()
    words = ["--crop-area", "0.9", "--head", "parallel", "--horizon", "8", "--executed", "4"]
    assert main(["policies", "convert", "there", "back", "--to", "rlco", *words]) == 0
    said = capsys.readouterr().out
    assert "unnorm_key: my_robot\n" in said
    assert "gripper: open1-closed0, the released convention\n" in said
    assert "horizon: 8, 4 executed\n" in said
    assert "sees: the centre of pictures, 0.9 of their area\n" in said
    assert main(["policies", "convert", "there", "no", "--to", "rlco", "--unnorm-key", "bridge"]) == 1
    assert capsys.readouterr().err == "rlco: No unnorm_key named 'bridge'. Known: my_robot.\n"


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("own there --to hf", 2, "hf"),
        ("nothing there --to rlco", 1, "There is no checkpoint folder 'nothing'"),
        ("own own --to rlco", 1, "'own' exists already"),
        ("own there --to rlco --camera front", 1, "--camera takes SLOT=NAME"),
        ("own there --to rlco --camera base_0_rgb=a base_0_rgb=b", 1, "--camera names a slot twice"),
        ("own there --to rlco --family pi05", 1, "is of family pi0, not pi05"),
        ("own there --to rlco --horizon 50", 1, "has action horizon 8, not 50"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    code: int,
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_policy(tmp_path / "own", published("pi0"), provenance={})
    assert main(["policies", "convert", *words.split()]) == code
    err = capsys.readouterr().err
    assert part in err
    assert err.count("\n") == 1
    assert not (tmp_path / "there").exists()


def test_policies_are_listed_for_people_and_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies"]) == 0
    assert "pi05-base (pi05)" in capsys.readouterr().out
    assert main(["policies", "--json"]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["pi05-base"]["parameters"] == 3_616_757_520 - 257_152 * 1024
    assert known["pi0-base"]["parameters"] == 3_501_372_176 - 257_152 * 1024
    card = known["pi05-base"]
    # by hand: two bytes each; sixteen where trained
    assert card["inference_bytes"] == 2 * card["parameters"]
    assert card["expert_bytes"] == 2 * card["parameters"] + 14 * card["expert_parameters"]
    assert card["full_bytes"] == 16 * card["parameters"]
    # rank 16, 18 layers: q 2048+2048, k and v 2048+256, o 2048+2048; expert q 1024+2048, k and v 1024+256, o
    adapters = 16 * 18 * (2 * 4096 + 2 * 2304 + 2 * 3072 + 2 * 1280)
    assert card["lora_bytes"] == 2 * card["parameters"] + 16 * adapters
    assert known["pi05-nano"]["start"] == "ships with the package"
    card = known["openvla-7b"]
    assert card["parameters"] == 7_541_237_184
    # Llama 2 7B with 64 more rows in and out
    assert card["expert_parameters"] == 6_738_415_616 + 2 * 64 * 4096
    # rank 32 on every linear map: of 23 + 26 blocks that are used, the projector, 32 layers and the output
    tower = 23 * (4 * 1024 + 2 * 1024 + 2 * 5120) + 26 * (4 * 1152 + 2 * 1152 + 2 * (1152 + 4304))
    projector = (2176 + 8704) + (8704 + 4096) + 2 * 4096
    llama = 32 * (4 * 2 * 4096 + 3 * (4096 + 11008)) + 4096 + 32064
    assert card["lora_bytes"] == 2 * card["parameters"] + 16 * 32 * (tower + projector + llama)
    assert known["openvla-oft-nano"]["parameters"] == known["openvla-nano"]["parameters"]
