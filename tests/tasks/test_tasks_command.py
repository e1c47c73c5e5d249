"""``rlco tasks``: the list, the cards, and the picture that explains a task."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlco.cli import FAILED, OK, main
from rlco.evals import task_picture
from rlco.evals.task_card import card
from rlco.evals.task_picture import draw_task, pictures, regions, seen_at, sheet, view_on_table
from rlco.tasks import TASKS
from rlco.tasks.objects import IRREGULAR_NAMES, TRAINING_NAMES

EVERY_TASK = pytest.mark.parametrize("name", list(TASKS))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["tasks", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_list_tells_of_every_task_what_it_asks_and_how_success_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == OK
    for name, task in TASKS.items():
        assert f"\n{name}\n" in f"\n{out}"
        assert all(shift in out for shift in task.shifts)
    for part in (
        "5 Hz, at most 100 control steps (20 s)",
        "+0.2 (grasped), +1 (success), -0.4 (left, after success)",
        "72 cm from the robot's base or farther, and within 4 cm",
        "open by 90 % of its 12 cm or more, for 2 control steps",
        "(2 x share closed in the step - 0.02) / 5; 1 at success",
        "recipes: ",
    ):
        assert part in out
    one = run(capsys, "open-drawer")[1]
    assert one.startswith("open-drawer\n")
    assert "push-cube" not in one


def test_the_json_carries_every_number_of_every_card(capsys: pytest.CaptureFixture[str]) -> None:
    known = json.loads(run(capsys, "--json")[1])
    assert list(known["tasks"]) == list(TASKS)
    assert "push-cube-demo" in known["recipes"]
    pick = known["tasks"]["pick-place"]
    assert (pick["control_hz"], pick["max_steps"], pick["hold_steps"]) == (5.0, 100, 3)
    assert pick["objects"] == list(TRAINING_NAMES)
    assert pick["unseen_objects"] == list(IRREGULAR_NAMES)
    only = json.loads(run(capsys, "close-drawer", "--json")[1])
    assert list(only["tasks"]) == ["close-drawer"]


@EVERY_TASK
def test_a_card_says_in_words_what_the_task_itself_computes(name: str) -> None:
    said, task = card(TASKS[name]), TASKS[name]
    assert "own" not in said.success  # the words for a task from elsewhere
    assert said.paraphrases == task.paraphrases(task.fixed_states(1, seed=0, prefix="card")[0])
    assert said.seconds == task.max_steps / task.control_hz


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["push-cub"], ["No task named 'push-cub'", "Did you mean 'push-cube'"]),
        (["--show", "out.png"], ["--show draws one task: rlco tasks TASK --show out.png", "pick-place"]),
        (["push-cube", "--show", "out.svg"], ["writes a PNG file, got 'out.svg'"]),
        (["push-cube", "--show", "here.png"], ["'here.png' is a folder"]),
        (["push-cube", "--show", "/proc/nowhere/out.png"], ["Cannot write in '/proc/nowhere'"]),
        (["push-cube", "--show", "out.png", "--reality", "-1"], ["reality must be 0 or more, got -1"]),
    ],
)
def test_a_bad_request_is_one_line_before_any_world_starts(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    parts: list[str],
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a world was started")

    monkeypatch.setattr(task_picture, "make_world", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.png").mkdir()
    code, out, err = run(capsys, *words)
    assert (code, out) == (FAILED, "")
    assert err.count("\n") == 1
    assert all(part in err for part in parts)
    assert [path.name for path in tmp_path.iterdir()] == ["here.png"]


@EVERY_TASK
def test_the_regions_are_those_of_the_starts(name: str) -> None:
    found = {region.name: region for region in regions(TASKS[name])}
    wanted = {
        "pick-place": {
            "centre of the object": (0.42, 0.0, 0.62, 0.25),
            "centre of the bowl": (0.47, -0.25, 0.57, -0.05),
        },
        "push-cube": {
            f"centre of the {side} cube": (0.475, y - 0.025, 0.525, y + 0.025)
            for side, y in (("left", 0.15), ("middle", 0.0), ("right", -0.15))
        },
        "open-drawer": {"front edge of the drawer": (0.54, -0.10, 0.60, 0.10)},
        # open by 10 cm and turned by up to 30 degrees: the front edge is that much nearer to the robot and to the side
        "close-drawer": {"front edge of the drawer": (0.43, -0.22, 0.52, 0.22)},
    }[name]
    assert found.keys() == wanted.keys()
    for key, bounds in wanted.items():
        slack = 0.015 if name == "close-drawer" else 0.003
        np.testing.assert_allclose([*found[key].low_m, *found[key].high_m], bounds, atol=slack)


@pytest.mark.sim
def test_a_place_is_drawn_where_the_camera_sees_it() -> None:
    task, side = TASKS["push-cube"], 160
    states = task.fixed_states(6, seed=0, prefix="test")
    for state, image in zip(states, pictures("push-cube", states, domain="twin", side_px=side), strict=True):
        target = state.labels["target"]
        colour, centre = np.array(state.object_rgb[target]), np.array([state.object_pose[target][:3]])
        shade = image / np.maximum(image.max(-1, keepdims=True), 1)
        seen = np.abs(shade - colour / colour.max()).max(-1) < 0.08
        assert seen.sum() > 40
        row, column = np.argwhere(seen).mean(0)
        np.testing.assert_allclose(seen_at(centre, task.scene.camera, side_px=side)[0], [column, row], atol=2.5)


def test_the_corners_of_the_view_are_the_corners_of_the_picture() -> None:
    camera = TASKS["push-cube"].scene.camera
    corners = np.concatenate([view_on_table(camera), np.zeros((4, 1))], axis=1)
    found = seen_at(corners, camera, side_px=100)
    np.testing.assert_allclose(found, [[0, 0], [100, 0], [100, 100], [0, 100]], atol=1e-6)


@pytest.mark.sim
def test_the_picture_is_written_whole_and_replaces_an_older_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "new" / "out.png"
    path.parent.mkdir()
    path.write_text("older")
    code, out, _ = run(capsys, "pick-place", "--show", str(path))
    assert code == OK
    assert out.startswith("pick-place\n")
    assert [p.name for p in path.parent.iterdir()] == ["out.png"]
    with Image.open(path) as image:
        assert image.size == (1500, 1320)
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 5000


@EVERY_TASK
def test_no_two_texts_of_a_picture_overlap(name: str) -> None:
    task = TASKS[name]
    states = task.fixed_states(10, seed=0, prefix="show")
    blank = np.zeros((10, 16, 16, 3), np.uint8)
    figure = sheet(task, states, twin=blank, standin=blank[0], reality=0)
    figure.draw_without_rendering()
    texts = [*figure.texts, *figure.legends[0].get_texts()]
    for axis in figure.axes:
        texts += [axis.title, axis.xaxis.label, axis.yaxis.label, *axis.texts]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text() and text.get_visible()]
    assert len(boxes) > 25
    for i, (words, box) in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1, words
        assert box.y1 <= figure.bbox.y1, words
        for other, another in boxes[i + 1 :]:
            assert not box.overlaps(another), f"'{words}' and '{other}'"


def test_an_unknown_task_is_not_drawn(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="No task named 'push'"):
        draw_task("push", tmp_path / "out.png")
