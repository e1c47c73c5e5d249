"""What a policy cannot read is refused before a frame is decoded, a world started or a run begun."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

import pytest

from rlco.core.files import read_manifest
from rlco.core.scene import InitialState
from rlco.evals.outcome import EvaluationResult
from rlco.evals.suite import EvaluationSettings, States
from rlco.policies.checkpoint import save_policy
from rlco.policies.openvla.policy import OpenVlaPolicy
from rlco.policies.pi.config import pi05_tiny
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.policy import PiPolicy
from rlco.recipes import recipe, stages
from rlco.recipes.references import require_kind, weights_fingerprint
from rlco.recipes.run import run_recipe
from rlco.recipes.stages import Demonstrations
from rlco.train.rl import RLConfig
from rlco.train.sft import SFTConfig
from tests.policies.folders import CODEC
from tests.train.samples import write_pair

TWO = {"base_0_rgb": "front", "left_wrist_0_rgb": "wrist"}


def save(folder: Path, *, length: int = 24, cameras: dict[str, str] | None = None) -> Path:
    """Write an untrained policy with a prompt of this length, or with other cameras."""
    plain = Interface.of_family("pi05", CODEC)
    interface = plain if cameras is None else replace(plain, cameras=cameras)
    save_policy(folder, PiPolicy(replace(pi05_tiny(), prompt_length=length), interface), provenance={})
    return folder


def refuse_to_start(*_: object, **__: object) -> None:
    raise AssertionError("a world was started, or frames were decoded")


@pytest.mark.parametrize(
    ("length", "cameras", "message"),
    [
        (15, None, r"In the dataset '.*real': .*'push the pink cube' has 16 tokens, the policy takes 15"),
        (24, TWO, r"2 cameras \(front, wrist\), the dataset '.*real' has front: missing wrist"),
    ],
)
def test_supervised_training_is_refused_before_frames_are_decoded(
    tmp_path: Path, length: int, cameras: dict[str, str] | None, message: str
) -> None:
    _, real = write_pair(tmp_path)
    start = save(tmp_path / "start", length=length, cameras=cameras)
    with pytest.raises(ValueError, match=message):
        stages.sft(
            tmp_path / "out", start=start, demonstrations=Demonstrations(real=real.folder), config=SFTConfig(steps=1)
        )
    assert not list(tmp_path.rglob("*.u8"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("length", "cameras", "message"),
    [(15, None, "tokens, the policy takes 15"), (24, TWO, r"2 cameras \(front, wrist\), the world has front")],
)
def test_stage_two_and_evaluation_are_refused_before_a_world_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, cameras: dict[str, str] | None, message: str
) -> None:
    monkeypatch.setattr(stages, "make_world", refuse_to_start)
    start = save(tmp_path / "start", length=length, cameras=cameras)
    with pytest.raises(ValueError, match=message):
        stages.rl(tmp_path / "rl", start=start, real=None, task_name="push-cube", config=RLConfig(beta=0.0))
    with pytest.raises(ValueError, match=message):
        stages.evaluation(
            tmp_path / "eval",
            name="tiny",
            policy=start,
            settings=EvaluationSettings(task="push-cube", domain="twin"),
            num_states=2,
        )
    assert not (tmp_path / "rl").exists()
    assert not (tmp_path / "eval").exists()


def test_an_evaluation_draws_at_the_policys_own_temperature_or_says_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def remember(policy: OpenVlaPolicy, *, name: str, settings: EvaluationSettings, **_: object) -> EvaluationResult:
        drawn.append(policy.config.eval_temperature)
        return EvaluationResult(policy=name, settings=asdict(settings), outcomes=(), seconds=0.0)

    monkeypatch.setattr(stages, "evaluate", remember)
    said = []
    for temperature in (None, 0.0):
        settings = EvaluationSettings(task="push-cube", domain="twin", temperature=temperature)
        folder = tmp_path / f"at-{temperature}"
        stages.evaluation(folder, name="x", policy="untrained:openvla-tiny", settings=settings, num_states=2)
        manifest = read_manifest(folder)
        assert manifest is not None
        said.append(manifest["inputs"]["settings"])
    assert drawn == [0.6, 0.0]
    assert "temperature" not in said[0]  # the identity of evaluations from before there was the option
    assert said[1] == {**said[0], "temperature": 0.0}


def test_settings_are_chosen_on_another_list_of_states_than_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, set[str]] = {}
    starts: list[str] = []

    def remember(
        _: OpenVlaPolicy, *, settings: EvaluationSettings, initial_states: list[InitialState], **__: object
    ) -> EvaluationResult:
        started[settings.states] = {state.name for state in initial_states}
        starts.extend(repr(state.object_pose) for state in initial_states)
        return EvaluationResult(policy="x", settings=asdict(settings), outcomes=(), seconds=0.0)

    monkeypatch.setattr(stages, "evaluate", remember)
    identities = []
    for states in get_args(States):
        settings = EvaluationSettings(task="push-cube", domain="twin", states=states)
        stages.evaluation(tmp_path / states, name="x", policy="untrained:openvla-tiny", settings=settings, num_states=9)
        manifest = read_manifest(tmp_path / states)
        assert manifest is not None
        identities.append(manifest["inputs"]["settings"])
    assert started["eval"] == {f"push-cube/eval/{i:04d}" for i in range(9)}
    assert started["dev"] == {f"push-cube/dev/{i:04d}" for i in range(9)}
    assert len(set(starts)) == 18
    assert identities[1] == {**identities[0], "states": "dev"}


def test_a_base_of_another_family_or_horizon_than_the_recipe_wants_is_refused_first(tmp_path: Path) -> None:
    start = save(tmp_path / "start")
    config = replace(recipe("push-cube-pi05-nano-debug"), base=str(start))
    with pytest.raises(ValueError, match=r"policy '.*start' has family pi05, the recipe wants pi0\."):
        run_recipe(replace(config, family="pi0"), tmp_path / "run")
    with pytest.raises(ValueError, match="has horizon 8, the recipe wants 50"):
        run_recipe(replace(config, family="pi05", horizon=50), tmp_path / "run")
    with pytest.raises(ValueError, match="has horizon 8, the recipe wants 50"):
        run_recipe(replace(config, base="pi05-nano", horizon=50), tmp_path / "run")
    with pytest.raises(LookupError, match="No pretrained base named 'pi05-nan'"):
        run_recipe(replace(config, base="pi05-nan", horizon=50), tmp_path / "run")
    require_kind("untrained:pi0-tiny", family="pi0", horizon=8)
    assert not (tmp_path / "run").exists()


def test_the_same_weights_used_in_another_way_are_another_policy(tmp_path: Path) -> None:
    first, again = save(tmp_path / "first"), save(tmp_path / "again")
    other = save(tmp_path / "other", cameras={"base_0_rgb": "wrist"})
    assert (first / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    fingerprints = [weights_fingerprint(folder) for folder in (first, again, other)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    tokenized = []
    for words in ("one tokenizer", "another"):
        (again / "tokenizer.json").write_text(words)
        tokenized.append(weights_fingerprint(again))
    assert len({fingerprints[0], *tokenized}) == 3
