"""``rlco policies``: the list, and conversion from the command line."""

import json
from pathlib import Path

import pytest

from rlco.cli import main
from rlco.policies.checkpoint import load_policy, save_policy
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
