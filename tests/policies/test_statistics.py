"""Statistics that other programs wrote."""

import json
from pathlib import Path

import pytest
import torch

from rlco.data.normalise import ACTION_RANGE_FLOOR, Codec, Normaliser
from rlco.policies.checkpoint import save_policy
from rlco.policies.pi.interface import Interface
from rlco.policies.pi.statistics import read_statistics
from rlco.policies.released import Normalisation
from tests.policies.folders import edit_json, foreign, published


def stats_file(folder: Path, **stats: object) -> Path:
    path = folder / "norm_stats.json"
    path.write_text(json.dumps({"norm_stats": stats}))
    return path


FIGURES = {"mean": 0.5, "std": 0.25, "q01": -1.0, "q99": 3.0}


def figures(count: int, *names: str, padding: int = 0) -> dict[str, list[float]]:
    return {name: [FIGURES[name]] * count + [0.0] * padding for name in names or FIGURES}


def test_openpi_statistics_are_read_with_its_epsilon(tmp_path: Path) -> None:
    found = read_statistics(stats_file(tmp_path, state=figures(8), actions=figures(7)))
    assert found.codec("quantile").state == Normaliser(low=(-1.0,) * 8, high=(3.0 + 1e-6,) * 8)
    score = found.codec("mean-std").action
    torch.testing.assert_close(score.do(torch.full((1, 7), 1.0)), torch.full((1, 7), 0.5 / 0.250001))


def test_padding_of_statistics_is_dropped_and_other_dimensions_are_refused(tmp_path: Path) -> None:
    padded = stats_file(tmp_path, state=figures(8, padding=24), actions=figures(7, padding=25))
    assert len(read_statistics(padded).codec("quantile").action.low) == 7
    for state, actions, message in (
        (figures(14), figures(7), "has 14 dimensions of the state, ours has 8"),
        (figures(8), figures(6), "has 6 dimensions of the action, ours has 7"),
    ):
        with pytest.raises(ValueError, match=message):
            read_statistics(stats_file(tmp_path, state=state, actions=actions)).codec("quantile")


def test_missing_figures_are_named(tmp_path: Path) -> None:
    path = stats_file(tmp_path, state=figures(8, "mean", "std"), actions=figures(7))
    with pytest.raises(ValueError, match=r"has no q01 and q99 of the state, which quantile.*it has mean, std"):
        read_statistics(path).codec("quantile")
    read_statistics(path).codec("mean-std")
    with pytest.raises(ValueError, match="no statistics of actions; it has state"):
        read_statistics(stats_file(tmp_path, state=figures(8)))
    other = tmp_path / "other.json"
    other.write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"holds no statistics: openpi's norm_stats.json"):
        read_statistics(other)


def test_statistics_of_a_lerobot_dataset_are_read(tmp_path: Path) -> None:
    path = tmp_path / "stats.json"
    values = {"observation.state": figures(8), "action": figures(7), "observation.images.front": {"mean": [[[0.5]]]}}
    path.write_text(json.dumps(values))
    codec = read_statistics(path).codec("quantile")
    assert codec.action == Normaliser(low=(-1.0,) * 7, high=(3.0,) * 7)  # no epsilon in lerobot
    values["action"]["q99"] = [-1.0] * 7  # a constant dimension
    path.write_text(json.dumps(values))
    constant = read_statistics(path).codec("quantile").action
    assert bool((constant.do(torch.full((1, 7), -1.0)) == -1).all())


@pytest.mark.parametrize("normalisation", ["quantile", "mean-std"])
def test_dimensions_that_hardly_moved_are_widened_where_asked(tmp_path: Path, normalisation: Normalisation) -> None:
    values = figures(7)
    values["q99"], values["std"] = values["q01"], [0.0] * 7
    found = read_statistics(stats_file(tmp_path, state=figures(8), actions=values))
    plain, floored = found.codec(normalisation).action, found.codec(normalisation, floored=True).action
    lengths = [[high - low for low, high in zip(n.low, n.high, strict=True)] for n in (plain, floored)]
    assert lengths[0] == pytest.approx([1e-6 if normalisation == "quantile" else 2e-6] * 7, rel=1e-6)
    assert lengths[1] == pytest.approx(ACTION_RANGE_FLOOR)


def test_how_lerobot_normalised_is_read_from_its_processor(tmp_path: Path) -> None:
    state, action = (Normaliser.mean_std((0.1,) * n, (0.3,) * n, epsilon=1e-6) for n in (8, 7))
    made = published("pi05", interface=Interface.of_family("pi05", Codec(state=state, action=action)))
    save_policy(tmp_path / "own", made, provenance={})
    found = read_statistics(foreign(tmp_path / "own", tmp_path / "there", "lerobot"))
    codec = found.codec("quantile")  # what pi0.5 was released with; lerobot's own recipes use the other too
    assert codec.state.centred
    assert codec.action.low == pytest.approx(made.codec.action.low)


def test_a_normalisation_that_lerobot_knows_and_we_do_not_is_named(tmp_path: Path) -> None:
    save_policy(tmp_path / "own", published("pi05"), provenance={})
    there = foreign(tmp_path / "own", tmp_path / "there", "lerobot")
    path = there / "policy_preprocessor.json"
    path.write_text(path.read_text().replace('"STATE": "QUANTILES"', '"STATE": "QUANTILE10"'))
    with pytest.raises(ValueError, match="normalises STATE by QUANTILE10; supported: QUANTILES, MEAN_STD"):
        read_statistics(there)
    edit_json(path, steps=[])
    with pytest.raises(ValueError, match="no normalizer_processor with a state_file"):
        read_statistics(there)
