"""Chunks, mixtures and normalisers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlco.data.chunks import ChunkDataset
from rlco.data.mixture import Mixture
from rlco.data.normalise import (
    DatasetStatistics,
    Normaliser,
    Statistics,
    action_normaliser,
    state_normaliser,
    statistics_of,
)
from rlco.data.reader import Dataset
from rlco.data.tables import EpisodeSpan, Tables


def fake(tag: int, lengths: tuple[int, ...] = (5, 3)) -> Dataset:
    """Every number says which dataset and frame it is, so that a shuffle bug shows."""
    count, spans, start = sum(lengths), [], 0
    for number, n in enumerate(lengths):
        spans.append(
            EpisodeSpan(task=f"{tag}.{number}", start=start, stop=start + n, video_path=Path("none"), video_start=start)
        )
        start += n
    number = np.arange(count, dtype=np.float32)
    tables = Tables(
        info={"fps": 5},
        image_key="none",
        height=4,
        width=4,
        state=np.tile(100 * tag + number[:, None], (1, 8)),
        action=np.tile(100 * tag + number[:, None], (1, 7)),
        episodes=tuple(spans),
    )
    dataset = Dataset(
        folder=Path("none"), cache_folder=Path("none"), tables=tables, initial_states=(None,) * len(spans)
    )
    picture = (10 * tag + np.arange(count)).astype(np.uint8)[:, None, None, None]
    # a cached property: nothing is decoded
    dataset.__dict__["frames"] = np.broadcast_to(picture, (count, 4, 4, 3))
    return dataset


def mixture(alpha: float = 0.5, *, seed: int = 0, batch_size: int = 64) -> Mixture:
    return Mixture.of_sim_and_real(fake(1), fake(2), alpha=alpha, horizon=4, batch_size=batch_size, seed=seed)


def test_a_chunk_repeats_the_last_action_after_the_end_and_marks_it() -> None:
    # episodes cover frames 0-4 and 5-7
    action, is_pad = ChunkDataset.of(fake(0), horizon=4).chunk(np.array([0, 3, 4, 6]))
    assert action[..., 0].tolist() == [[0, 1, 2, 3], [3, 4, 4, 4], [4, 4, 4, 4], [6, 7, 7, 7]]
    assert is_pad.astype(int).tolist() == [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_all_parts_of_a_sample_are_of_the_same_frame() -> None:
    batch = mixture().next_batch()
    first = batch.action[:, 0, 0].long()
    assert torch.equal(batch.observation.state[:, 0].long(), first)
    assert torch.equal(batch.observation.image[:, 0, 0, 0].long(), 10 * (first // 100) + first % 100)
    frame = first % 100
    wanted = [f"{t}.{int(f >= 5)}" for t, f in zip((first // 100).tolist(), frame.tolist(), strict=True)]
    assert list(batch.observation.instruction) == wanted
    assert batch.action.dtype == torch.float32


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.95])
def test_a_sample_is_simulated_with_probability_alpha(alpha: float) -> None:
    drawn, batch_size = 200, 64
    source = mixture(alpha, batch_size=batch_size)
    simulated = sum(int((source.next_batch().action[:, 0, 0] < 200).sum()) for _ in range(drawn))
    n = drawn * batch_size
    # 4.5 standard deviations of a binomial: fails by chance once in 150,000
    assert abs(simulated / n - alpha) < 4.5 * np.sqrt(alpha * (1 - alpha) / n)
    assert source.realised_fraction == pytest.approx((simulated / n, 1 - simulated / n))


def test_frames_of_a_dataset_are_drawn_uniformly() -> None:
    source = mixture(1.0)
    frame = np.concatenate([source.draw()[1] for _ in range(250)])
    count, expected = np.bincount(frame, minlength=8), len(frame) / 8
    assert len(count) == 8
    # chi-square of 7 degrees of freedom: above 26 once in 2,000
    assert ((count - expected) ** 2 / expected).sum() < 26


@pytest.mark.parametrize(("alpha", "tag"), [(0.0, 2), (1.0, 1)])
def test_at_the_ends_one_dataset_is_never_drawn(alpha: float, tag: int) -> None:
    batch = mixture(alpha).next_batch()
    assert ((batch.action[:, 0, 0] // 100).long() == tag).all()


def test_a_mixture_resumes_with_the_very_next_sample() -> None:
    straight, before = mixture(seed=3), mixture(seed=3)
    wanted = [straight.next_batch().action for _ in range(4)][2:]
    for _ in range(2):
        before.next_batch()
    after = mixture(seed=99)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert all(torch.equal(w, after.next_batch().action) for w in wanted)
    assert after.realised_fraction == straight.realised_fraction


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_outside_0_1_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got"):
        mixture(alpha)


def test_weights_that_are_no_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="add up to 1"):
        Mixture([fake(1), fake(2)], [0.5, 0.6], horizon=2, batch_size=2, seed=0)


def statistics(seed: int = 0) -> DatasetStatistics:
    rng = np.random.default_rng(seed)
    return DatasetStatistics(
        state=Statistics.of(rng.normal(size=(300, 8))), action=Statistics.of(rng.normal(size=(300, 7)))
    )


def test_statistics_equal_numpy_over_all_frames_of_all_datasets() -> None:
    found = statistics_of([fake(1), fake(2, (9,))]).action
    pooled = np.concatenate([fake(1).action, fake(2, (9,)).action]).astype(np.float64)
    np.testing.assert_allclose(found.q01, np.quantile(pooled, 0.01, axis=0))
    np.testing.assert_allclose(found.q99, np.quantile(pooled, 0.99, axis=0))
    np.testing.assert_allclose(found.std, pooled.std(0))


def test_statistics_survive_json() -> None:
    value = statistics()
    assert DatasetStatistics.from_json(json.loads(json.dumps(value.to_json()))) == value
    with pytest.raises(ValueError, match="missing action"):
        DatasetStatistics.from_json({"state": value.state.to_json()})


def test_undo_is_the_inverse_of_do_and_leaves_its_input_alone() -> None:
    codec = action_normaliser(statistics())
    value = torch.randn(5, 4, 7)
    before = value.clone()
    torch.testing.assert_close(codec.undo(codec.do(value)), value)
    assert torch.equal(value, before)


def test_the_quantiles_map_to_minus_one_and_one() -> None:
    stats = statistics()
    codec = state_normaliser(stats)
    wide = torch.tensor(stats.state.q99) - torch.tensor(stats.state.q01) > 2.0
    assert wide[:7].all()
    torch.testing.assert_close(codec.do(torch.tensor(stats.state.q01))[:7], -torch.ones(7))
    torch.testing.assert_close(codec.do(torch.tensor(stats.state.q99))[:7], torch.ones(7))


def test_a_constant_dimension_does_not_explode() -> None:
    constant = Statistics.of(np.full((50, 2), -1.0))
    codec = Normaliser.of(constant, floor=(2.0, 0.01))
    torch.testing.assert_close(codec.do(torch.tensor([-1.0, -1.0])), torch.zeros(2))
    # a deviation of one floor is 2 normalised units, not infinite
    torch.testing.assert_close(codec.do(torch.tensor([1.0, -0.99])), torch.full((2,), 2.0))


def test_a_normaliser_needs_as_many_floors_as_dimensions() -> None:
    with pytest.raises(ValueError, match="dimensions"):
        Normaliser.of(Statistics.of(np.zeros((3, 6))), floor=(1.0,) * 7)


def test_a_mixture_of_three_reports_what_was_drawn_and_keeps_rows_together() -> None:
    source = Mixture([fake(1), fake(2), fake(3)], [0.2, 0.0, 0.8], horizon=2, batch_size=50, seed=0)
    tags = np.concatenate([(source.next_batch().action[:, 0, 0] // 100).numpy() for _ in range(40)])
    shares = [float((tags == tag).mean()) for tag in (1, 2, 3)]
    assert source.realised_fraction == pytest.approx(shares)
    assert shares[1] == 0
    # 4.5 standard deviations of a binomial of 2,000
    assert abs(shares[0] - 0.2) < 4.5 * np.sqrt(0.2 * 0.8 / 2000)


def test_datasets_that_do_not_fit_together_are_refused() -> None:
    def mix(other: Dataset) -> None:
        Mixture([fake(1), other], [0.5, 0.5], horizon=2, batch_size=2, seed=0)

    slow, small = fake(2), fake(2)
    with pytest.raises(ValueError, match=r"one control rate: 'none' has 5 Hz, 'none' 10 Hz.*--control-hz"):
        mix(replace(slow, tables=replace(slow.tables, info={"fps": 10})))
    with pytest.raises(ValueError, match=r"one size of pictures: 'none' has 4 x 4, 'none' 4 x 6.*--image-size"):
        mix(replace(small, tables=replace(small.tables, width=6)))
    with pytest.raises(ValueError, match="one weight a dataset, got 2 datasets and 3 weights"):
        Mixture([fake(1), fake(2)], [0.5, 0.25, 0.25], horizon=2, batch_size=2, seed=0)


def test_a_frame_that_does_not_exist_is_refused() -> None:
    with pytest.raises(IndexError, match="Frames 3 to 8 of a dataset of 8"):
        ChunkDataset.of(fake(1), horizon=2).batch(np.array([3, 8]))
