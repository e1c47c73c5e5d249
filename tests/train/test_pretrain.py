"""Pretraining: what cannot be trained so is refused, every answer learns, and a stopped run goes on."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rlco.cli import FAILED, OK, main
from rlco.core.policy import Observation
from rlco.engines.mujoco.randomised import EDITION, NAMEABLE, NOTHING, Pictures
from rlco.engines.mujoco.things.kinds import HANDLE, KIND_NAMES
from rlco.engines.mujoco.things.pieces import COLOURS
from rlco.policies.contract import AnyPolicy
from rlco.policies.families import CONFIGS, new_policy
from rlco.policies.openvla.config import OpenVlaConfig, openvla_oft_tiny
from rlco.recipes.references import open_policy
from rlco.train import pretrain
from rlco.train.captions import Labels
from rlco.train.pretrain import (
    BASE_CODEC,
    PlaceReader,
    PretrainConfig,
    measure,
    new_answers,
    place_loss,
    pointing_loss,
    run_pretrain,
)

STEPWISE, CHUNKED = "openvla-stepwise-tiny", "openvla-oft-tiny"
FEW = PretrainConfig(
    policy="pi05-tiny",
    looks=2,
    pictures_per_look=8,
    held_out_looks=1,
    steps=3,
    batch_size=4,
    warmup_steps=1,
    workers=1,
    save_every=1,
    log_every=1,
)


def stepwise() -> OpenVlaConfig:
    """Return the size that answers one control step at a time and has the weights of ``CHUNKED``."""
    return replace(openvla_oft_tiny(), head="autoregressive", horizon=1, executed=1)


@pytest.fixture(autouse=True)
def sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, STEPWISE, stepwise)


def noise_pictures(count: int = 24) -> Pictures:
    """Return pictures of noise, in each of which every thing is shown."""
    rng = np.random.default_rng(0)
    many = (count, NAMEABLE)
    kind = rng.integers(0, len(KIND_NAMES) - 1, many)
    kind[:, -1] = KIND_NAMES.index(HANDLE)
    return Pictures(
        image=rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
        state=rng.uniform(0.2, 0.3, (count, 8)).astype(np.float32),
        position_m=rng.uniform(0.4, 0.7, (*many, 3)),
        pixel=rng.uniform(-1, 1, (*many, 2)),
        half_m=rng.uniform(0.01, 0.03, (*many, 3)),
        colour=rng.integers(0, len(COLOURS), many),
        kind=kind,
        is_shown=np.ones(many, dtype=bool),
        held=np.full(count, NOTHING),
    )


def together(policies: list[AnyPolicy]) -> nn.ModuleDict:
    return nn.ModuleDict({"policy": policies[0], "reader": PlaceReader(policies[0].place_features_dim, seed=0)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--policy openvla-tiny", "'openvla-tiny' has no grounding token"),
        ("--policy openvla-7b", "'openvla-7b' has no grounding token"),
        ("--policy openvla-nan", "Did you mean 'openvla-nano'?"),
        ("--policy openvla-nano --also openvla-oft-nan", "Did you mean 'openvla-oft-nano'?"),
        ("--policy openvla-nano --also openvla-oft-tiny", "not with other sizes"),
        ("--policy pi05-nano --also pi0-nano", "answers in one way"),
    ],
)
def test_what_cannot_be_pretrained_is_one_line_before_anything_is_rendered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    def refuse_to_start(*_: object, **__: object) -> None:
        raise AssertionError("pictures were rendered")

    monkeypatch.setattr(pretrain, "render_all", refuse_to_start)
    assert main(["pretrain", str(tmp_path / "out"), *arguments.split()]) == FAILED
    said = capsys.readouterr().err
    assert message in said
    assert said.count("rlco: ") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["looks", "steps", "batch_size", "held_out_looks", "workers"])
def test_a_quantity_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"PretrainConfig\.{name} must be above 0, got 0"):
        replace(FEW, **{name: 0})


@pytest.mark.parametrize("also", [(CHUNKED, CHUNKED), (FEW.policy,)])
def test_a_policy_named_twice_is_refused(also: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=rf"PretrainConfig.also must not repeat a policy, got {also[0]} twice"):
        replace(FEW, also=also)


def test_what_is_measured_of_an_answer_depends_on_no_draw_and_on_no_other_answer() -> None:
    config = replace(FEW, policy=STEPWISE, also=(CHUNKED,))
    answers, pictures = new_answers(config), noise_pictures()
    modules = together(answers)
    figures = measure(modules, answers, pictures, range(16), config)
    monkeyed = [one.at_temperature(5.0) for one in answers]
    assert measure(modules, monkeyed, pictures, range(16), config) == figures
    assert [one.config for one in answers] == [CONFIGS[name]() for name in (STEPWISE, CHUNKED)]


def test_a_base_is_of_its_pictures_and_only_of_the_answers_that_it_has() -> None:
    assert FEW.identity()["pictures"] == EDITION
    assert "also" not in FEW.identity()
    assert replace(FEW, also=(CHUNKED,)).identity() == {**FEW.identity(), "also": (CHUNKED,)}


def labels_of(pixel: list[list[float]], second: list[list[float]], *, has_second: list[bool]) -> Labels:
    count = len(pixel)
    return Labels(
        place=torch.zeros(count, 3),
        pixel=torch.tensor(pixel),
        second_place=torch.ones(count, 3),
        second_pixel=torch.tensor(second),
        has_second=torch.tensor(has_second),
    )


def test_half_of_the_heads_point_at_the_first_thing_and_a_quarter_at_the_second() -> None:
    # 2 x 2 cells, numbered row by row; 4 heads
    scores = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    # up right, then down left; the second picture's first thing is out of the frame
    labels = labels_of([[-0.5, 0.5], [1.5, 0.0]], [[0.5, -0.5], [0.5, 0.5]], has_second=[True, True])
    found = pointing_loss(scores, labels)
    missed = -scores.log_softmax(-1)
    by_hand = (missed[0, 0, 1] + missed[0, 1, 1] + missed[0, 2, 2] + missed[1, 2, 3]) / 2
    torch.testing.assert_close(found, by_hand)


def test_the_second_place_counts_only_where_two_things_are_named() -> None:
    reader = PlaceReader(3, seed=0)
    for parameter in reader.parameters():
        nn.init.zeros_(parameter)
    nowhere = [[0.0, 0.0]] * 2
    # the first is read right; the second is 1 off, beyond beta 0.1: 1 - 0.05
    one = place_loss(reader, torch.zeros(2, 3), labels_of(nowhere, nowhere, has_second=[True, False]))
    assert float(one.detach()) == pytest.approx(0.95)
    none = place_loss(reader, torch.zeros(2, 3), labels_of(nowhere, nowhere, has_second=[False, False]))
    assert float(none.detach()) == 0.0


def test_both_places_are_measured() -> None:
    answers, pictures = new_answers(FEW), noise_pictures()
    modules = together(answers)
    for parameter in modules["reader"].parameters():
        nn.init.zeros_(parameter)
    figures = measure(modules, answers, pictures, range(24), FEW)
    _, labels = pretrain.caption_batch(
        pictures, np.arange(24), horizon=answers[0].horizon, rng=pretrain.numpy_generator(FEW.seed, "held-out")
    )
    # the middle of the scale is read, from where each thing is as far as its label says
    for name, place in (("place", labels.place), ("second", labels.second_place[labels.has_second])):
        centimetres = 100 * (place[:, :2] * torch.tensor([0.2, 0.3])).norm(dim=1).median()
        assert figures[f"held_out/{name}_cm"] == pytest.approx(float(centimetres), rel=1e-4)


def test_the_imitation_loss_is_the_sum_over_the_ways_to_answer() -> None:
    config = replace(FEW, policy=STEPWISE, also=(CHUNKED,))
    pictures = noise_pictures()

    def imitation(chosen: slice) -> tuple[Tensor, float]:
        """Return the loss of one update, and how much the network changed."""
        answers = new_answers(config)[chosen]
        modules = together(answers)
        before = copy.deepcopy(answers[0].network.state_dict())
        figures = pretrain._update(
            modules,
            answers,
            torch.optim.SGD(modules.parameters(), lr=1.0),
            pictures,
            np.arange(16),
            np.random.default_rng(1),
            torch.Generator().manual_seed(1),
            config,
        )
        after = answers[0].network.state_dict()
        return figures["pretrain/imitation"], max(float((after[k] - before[k]).abs().max()) for k in after)

    (first, _), (second, _), (both, moved) = (imitation(chosen) for chosen in (slice(0, 1), slice(1, 2), slice(0, 2)))
    assert first > 0
    assert second > 0
    torch.testing.assert_close(both, first + second)
    assert moved > 0


def test_a_reach_is_measured_over_four_steps_or_as_many_as_an_answer_has(monkeypatch: pytest.MonkeyPatch) -> None:
    chunked = new_policy(CHUNKED, BASE_CODEC, seed=0)
    answers = [chunked.answering_as(stepwise()), chunked]
    pictures, given = noise_pictures(), []
    wanted = pretrain.caption_batch

    def remembered(*args: object, **options: object) -> object:
        given.append(wanted(*args, **options))  # pyright: ignore[reportArgumentType]
        return given[-1]

    monkeypatch.setattr(pretrain, "caption_batch", remembered)
    for one in answers:

        def a_centimetre_off(_: Observation, *, steps: int = one.horizon, **__: object) -> SimpleNamespace:
            off = torch.tensor([0.0, 0.01, 0.0, 0.5, 0.5, 0.5, 1.0])
            return SimpleNamespace(action=given[-1][0].action[:, :steps] + off)

        monkeypatch.setattr(one, "sample", a_centimetre_off)
        monkeypatch.setattr(one, "at_temperature", lambda _, same=one: same)
    config = replace(FEW, policy=STEPWISE, also=(CHUNKED,))
    figures = measure(together(answers), answers, pictures, range(16), config)
    # each step is 1 cm beside the wanted one, in y alone
    assert figures["held_out/reach_cm"] == pytest.approx(1.0, rel=1e-4)
    assert figures[f"held_out/reach_{CHUNKED}_cm"] == pytest.approx(4.0, rel=1e-4)
    # 3 to 4.5 cm a step: the things are farther away than one of them, and some are nearer than four
    assert 3.0 <= figures["held_out/reach_motion_cm"] <= 4.5
    assert 4.5 < figures[f"held_out/reach_motion_{CHUNKED}_cm"] <= 18.0


@pytest.mark.parametrize(("policy", "also"), [("pi05-tiny", ()), (STEPWISE, (CHUNKED,))])
def test_a_stopped_pretraining_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, policy: str, also: tuple[str, ...]
) -> None:
    config = replace(FEW, policy=policy, also=also)
    monkeypatch.setattr(pretrain, "render_all", lambda *_, **__: noise_pictures())
    straight, figures = run_pretrain(config, folder=tmp_path / "straight")

    def stop(done: int, total: int) -> None:
        if done == 2 and total == config.steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pretrain(config, folder=tmp_path / "stopped", progress=stop)
    resumed, again = run_pretrain(config, folder=tmp_path / "stopped")
    assert again == figures
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize(("policy", "also"), [("pi05-tiny", ()), (STEPWISE, (CHUNKED,))])
def test_the_command_renders_trains_and_keeps_a_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, policy: str, also: tuple[str, ...]
) -> None:
    words = f"--policy {policy} --looks 2 --pictures-per-look 4 --held-out-looks 1 --steps 2 --batch-size 4 --workers 1"
    words = [*words.split(), *(("--also", *also) if also else ())]
    assert main(["pretrain", str(tmp_path), *words]) == OK
    said = capsys.readouterr().out
    assert '"held_out/place_cm"' in said
    assert all(f'"held_out/reach_{name}_cm"' in said for name in also)
    base = open_policy(tmp_path)
    assert base.config == CONFIGS[policy]()
    for name in also:
        base.answering_as(CONFIGS[name]())
    # a finished base is kept, another one's folder refused
    assert main(["pretrain", str(tmp_path), *words]) == OK
    assert main(["pretrain", str(tmp_path), *words, "--seed", "1"]) == FAILED
    assert "(differs in: seed)" in capsys.readouterr().err
