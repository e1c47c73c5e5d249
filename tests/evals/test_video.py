"""Films show the episode that was evaluated."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np

from rlco.data.clip import encode_mp4
from rlco.evals.suite import EvaluationSettings, evaluate
from rlco.evals.video import BORDER_PX, CAPTION_PX, GREEN, GREY, LABEL_PX, RED, TILE_PX, Film, film, side_by_side
from tests.evals.fakes import FakePolicy, FakeWorld, state

STATES = [state(f"s{i}", length=3 + i) for i in range(5)]
SETTINGS = EvaluationSettings(task="fake", domain="twin", repeats=1, image_size=8)


def test_a_film_is_the_episode_that_was_evaluated() -> None:
    policy = FakePolicy(push_m=0.02, noise_m=0.02)
    films = film(policy, settings=SETTINGS, initial_states=STATES, make_world=FakeWorld)
    outcomes = evaluate(policy, name="x", settings=SETTINGS, initial_states=STATES, make_world=FakeWorld).outcomes
    assert [f.success for f in films] == [o.success for o in outcomes]
    assert [len(f.frames) for f in films] == [o.steps + 1 for o in outcomes]
    assert {f.success for f in films} == {True, False}


def test_the_grid_shows_every_film_and_how_it_ended() -> None:
    short = Film(state=STATES[0], frames=np.full((2, 8, 8, 3), 10, dtype=np.uint8), success=True)
    long = Film(state=STATES[0], frames=np.full((4, 8, 8, 3), 200, dtype=np.uint8), success=False)
    grid = side_by_side({"twin": {"a": short, "b": long}})
    assert grid.shape == (4, CAPTION_PX + TILE_PX, LABEL_PX + 2 * TILE_PX, 3)
    corner_a, corner_b = grid[:, CAPTION_PX, LABEL_PX], grid[:, CAPTION_PX, LABEL_PX + TILE_PX]
    assert corner_a.tolist() == [list(GREY)] + [list(GREEN)] * 3
    assert corner_b.tolist() == [list(GREY)] * 3 + [list(RED)]
    inside = CAPTION_PX + BORDER_PX + 5
    assert (grid[:, inside, LABEL_PX + BORDER_PX + 5] == 10).all()
    assert (grid[:, inside, LABEL_PX + TILE_PX + BORDER_PX + 5] == 200).all()


def test_an_mp4_decodes_to_the_frames_that_went_in() -> None:
    ramp = np.linspace(30, 220, 6).astype(np.uint8)
    frames = np.broadcast_to(ramp[:, None, None, None], (6, 32, 48, 3)).copy()
    opened: Any = av.open(io.BytesIO(encode_mp4(frames, fps=5)))
    with opened as container:
        decoded = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
        assert container.streams.video[0].average_rate == 5
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 3
