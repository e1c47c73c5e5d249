"""The probe reads what is in features and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from rlco.data.normalise import Codec
from rlco.evals.probe import probe, ridge_errors_m
from rlco.policies.families import CONFIGS, new_policy
from rlco.recipes.references import open_policy
from rlco.train.pretrain import BASE_CODEC


def test_places_that_are_linear_in_the_features_are_read_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    features = 5.0 + rng.normal(size=(400, 20)) * np.logspace(-2, 2, 20)
    places = 0.3 + (features / np.logspace(-2, 2, 20)) @ rng.normal(size=(20, 2)) * 0.1
    error, blind = ridge_errors_m(features, places)
    assert len(error) == len(blind) == 100
    assert np.median(error) < 1e-3 * np.median(blind)
    noise = rng.normal(size=(400, 2)) * 0.1
    error, blind = ridge_errors_m(features, noise)
    assert np.median(error) > 0.9 * np.median(blind)


def test_more_features_than_starts_are_penalised() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(200, 300))
    places = rng.normal(size=(200, 2)) * 0.1
    error, blind = ridge_errors_m(features, places)
    # nothing is there to be read: a penalty too small goes through every training place, 1.6 times worse than the mean
    assert np.median(error) < 1.1 * np.median(blind)


def test_the_blind_one_answers_with_the_mean_of_what_it_saw() -> None:
    places = np.concatenate([np.full((30, 2), 0.5), np.tile([0.8, 0.9], (10, 1))])
    _, blind = ridge_errors_m(np.random.default_rng(0).normal(size=(40, 3)), places)
    np.testing.assert_allclose(blind, 0.5)


def test_what_cannot_be_probed_is_refused() -> None:
    codec: Codec = BASE_CODEC
    with pytest.raises(ValueError, match="no grounding token"):
        probe(new_policy("openvla-tiny", codec, seed=0), "pick-place")
    with pytest.raises(ValueError, match="needs 40 starts at least, got 39"):
        probe(new_policy("pi05-tiny", codec, seed=0), "pick-place", count=39)


@pytest.mark.sim
@pytest.mark.parametrize(
    ("name", "things"),
    [("pick-place", ["named", "bowl"]), ("open-drawer", ["named", "handle"]), ("push-cube", ["named"])],
)
def test_a_probe_measures_every_thing_that_the_task_is_about(name: str, things: list[str]) -> None:
    policy = new_policy("pi05-tiny", BASE_CODEC, seed=0).eval()
    sights = probe(policy, name, count=40)
    assert [sight.thing for sight in sights] == things
    assert all(0.0 < sight.error_m < 1.0 and 0.005 < sight.blind_m < 0.2 for sight in sights)
    assert probe(policy, name, count=40) == sights


@pytest.mark.sim
def test_what_is_learnt_in_the_twin_is_read_worse_in_the_stand_in() -> None:
    policy = open_policy("pi05-nano").eval()
    (same,), (other,) = (probe(policy, "push-cube", learnt_in="twin", domain=world) for world in ("twin", "standin"))
    assert probe(policy, "push-cube") == [same]
    assert other.blind_m == same.blind_m
    assert other.error_m > 2 * same.error_m


@pytest.mark.sim
@pytest.mark.parametrize("name", ["pi05-nano", "openvla-nano", "openvla-oft-nano"])
def test_a_shipped_base_is_of_its_size_and_sees_the_cube_that_is_named(name: str) -> None:
    policy = open_policy(name)
    assert policy.config == CONFIGS[name]()
    (sight,) = probe(policy.eval(), "push-cube", count=240)
    assert sight.error_m < 0.03
    assert sight.blind_m > 0.1
