"""Both published normalisations, against their formulas in double precision."""

import json
import math

import pytest
import torch

from rlco.data.normalise import ACTION_RANGE_FLOOR, Codec, Normaliser

D = 5
Q01, Q99 = (-0.7, 0.0, 0.5, -3.0, 0.25), (0.9, 0.08, 0.5, -2.0, 0.26)
MEAN, STD = (0.1, 0.04, 0.5, -2.5, 30.0), (0.4, 0.02, 0.0, 0.25, 1e-3)


def values() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([1.0, 0.1, 0.0, 1.0, 1e-3])
    return torch.tensor(MEAN) + spread * torch.randn(50, D, generator=generator)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-8])
def test_a_z_score_follows_its_formula_also_where_a_dimension_is_constant(epsilon: float) -> None:
    x = values()
    wanted = (x.double() - torch.tensor(MEAN, dtype=torch.float64).float().double()) / (
        torch.tensor(STD, dtype=torch.float64) + epsilon
    )
    found = Normaliser.mean_std(MEAN, STD, epsilon=epsilon)
    torch.testing.assert_close(found.do(x).double(), wanted, rtol=1e-6, atol=1e-6)
    assert bool((found.do(x)[:, 2] == 0).all())  # constant and at its mean
    torch.testing.assert_close(found.undo(found.do(x)), x)


@pytest.mark.parametrize("epsilon", [1e-6, 1e-8])
def test_quantiles_follow_their_formula_also_where_they_are_equal(epsilon: float) -> None:
    x = values()
    x[:, 4] = 0.255
    low, high = (torch.tensor(q, dtype=torch.float64) for q in (Q01, Q99))
    wanted = (x.double() - low.float().double()) / (high - low + epsilon) * 2 - 1
    found = Normaliser.quantile(Q01, Q99, epsilon=epsilon)
    torch.testing.assert_close(found.do(x).double(), wanted, rtol=1e-6, atol=1e-5)
    assert bool((found.do(x)[:, 2] == -1).all())  # constant
    torch.testing.assert_close(found.undo(found.do(x)), x)


def test_a_floor_keeps_narrow_dimensions_from_exploding() -> None:
    floor = (0.1,) * D
    for found, centre in (
        (Normaliser.quantile(Q01, Q99, floor=floor), 0.5),
        (Normaliser.mean_std(MEAN, STD, epsilon=1e-6, floor=floor), 0.5),
    ):
        x = torch.tensor([MEAN])
        x[0, 2] = centre + 0.05  # half a floor from the constant value
        assert float(found.do(x)[0, 2]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="5 dimensions, the normaliser needs 7"):
        Normaliser.mean_std(MEAN, STD, epsilon=1e-6, floor=ACTION_RANGE_FLOOR)


def test_a_normaliser_survives_json() -> None:
    for found in (Normaliser.quantile(Q01, Q99, epsilon=1e-6), Normaliser.mean_std(MEAN, STD, epsilon=1e-8)):
        assert Normaliser.from_json(json.loads(json.dumps(found.to_json()))) == found
    # as written before there were z-scores
    assert not Normaliser.from_json({"low": [0], "high": [1]}).centred
    with pytest.raises(ValueError, match="it needs low and high, got low, hgih"):
        Normaliser.from_json({"low": [0.0], "hgih": [1.0]})


def test_an_empty_range_is_refused() -> None:
    with pytest.raises(ValueError, match="low must be below high in each dimension"):
        Normaliser.quantile(Q01, Q99)


@pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["low", "high"])
def test_a_bound_that_is_no_number_is_refused(bound: float, side: str) -> None:
    bounds = {"low": (-1.0, -1.0), "high": (1.0, 1.0)} | {side: (0.0, bound)}
    with pytest.raises(ValueError, match=r"low must be below high in each dimension, both finite, got .*(nan|inf)"):
        Normaliser(low=bounds["low"], high=bounds["high"])


def test_a_codec_has_our_dimensions_and_clips_only_states_and_only_where_told() -> None:
    state, action = (Normaliser(low=(-1.0,) * n, high=(1.0,) * n) for n in (8, 7))
    with pytest.raises(ValueError, match=r"Codec\.state must have 8 dimensions, got 7"):
        Codec(state=action, action=action)
    with pytest.raises(ValueError, match=r"Codec\.state_clip must be above 0, got 0\.0"):
        Codec(state=state, action=action, state_clip=0.0)
    far = torch.full((2, 8), -4.0)
    assert torch.equal(Codec(state=state, action=action).read(far), far)
    assert torch.equal(Codec(state=state, action=action, state_clip=1.5).read(far), torch.full((2, 8), -1.5))
