"""Evaluation over a fake world with known behaviour."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from rlco.core.episode import StopReason
from rlco.evals.outcome import Ending, EvaluationResult, labelled, merged, not_labelled
from rlco.evals.suite import EvaluationSettings, evaluate
from tests.evals.fakes import HOME, FakePolicy, FakeWorld, state

STATES = [state(f"s{i}", length=3 + i, colour=("purple", "orange")[i % 2]) for i in range(7)]


def settings(num_envs: int = 3, repeats: int = 2, seed: int = 0) -> EvaluationSettings:
    return EvaluationSettings(task="fake", domain="twin", num_envs=num_envs, repeats=repeats, seed=seed, image_size=8)


def run(policy: FakePolicy, *, num_envs: int = 3, lose: str = "", seed: int = 0) -> EvaluationResult:
    return evaluate(
        policy,
        name="fake",
        settings=settings(num_envs, seed=seed),
        initial_states=STATES,
        make_world=partial(FakeWorld, lose=lose),
    )


def test_every_state_runs_repeats_times_in_the_order_given() -> None:
    result = run(FakePolicy())
    assert [(o.state, o.repeat) for o in result.outcomes] == [(s.name, r) for s in STATES for r in range(2)]


@pytest.mark.parametrize("num_envs", [1, 2, 5, 50])
def test_the_answer_does_not_depend_on_the_number_of_environments(num_envs: int) -> None:
    policy = FakePolicy(push_m=0.015, noise_m=0.02)
    assert run(policy, num_envs=num_envs).outcomes == run(policy, num_envs=3).outcomes


def test_another_seed_draws_other_noise() -> None:
    policy = FakePolicy(push_m=0.015, noise_m=0.02)
    assert run(policy, seed=1).outcomes != run(policy, seed=0).outcomes


def test_repeats_of_a_state_draw_different_noise() -> None:
    result = run(FakePolicy(push_m=0.015, noise_m=0.02))
    steps = {(o.state, o.repeat): (o.steps, o.success) for o in result.outcomes}
    assert any(steps[s.name, 0] != steps[s.name, 1] for s in STATES)


def test_an_environment_starts_the_next_episode_while_others_still_run() -> None:
    policy = FakePolicy(push_m=0.0)
    run(policy, num_envs=2)
    # 2 * (3 + 4 + ... + 9) steps at 2 a chunk is 46 chunks (odd lengths waste half a chunk): two environments that
    # never wait need about 23 calls. Waves of two would need more than 26.
    assert len(policy.batch_sizes) <= 25
    assert policy.batch_sizes.count(1) <= 4


def test_steps_and_reasons_are_those_of_the_world() -> None:
    outcomes = {o.state: o for o in run(FakePolicy(push_m=0.025)).outcomes}
    assert (outcomes["s0"].stop_reason, outcomes["s0"].steps) == (StopReason.TIME_LIMIT, 3)
    assert (outcomes["s6"].stop_reason, outcomes["s6"].steps) == (StopReason.SUCCESS, 4)
    assert outcomes["s6"].ending is Ending.SUCCESS


@pytest.mark.parametrize(
    ("push_m", "other_m", "ending"),
    [
        (0.005, 0.0, Ending.TIMED_OUT),  # 4 steps: 2 cm
        (0.005, 0.005, Ending.TIMED_OUT),  # another one was moved too
        (0.001, 0.0, Ending.REACHED),  # 4 mm
        (0.001, 0.005, Ending.WRONG_OBJECT),
        (0.0, 0.005, Ending.WRONG_OBJECT),
        (0.0, 0.001, Ending.NEVER_REACHED),
    ],
)
def test_a_failure_says_how_it_ended(push_m: float, other_m: float, ending: Ending) -> None:
    result = run(FakePolicy(push_m=push_m, other_m=other_m))
    assert {o.ending for o in result.outcomes if o.state == "s1"} == {ending}
    assert sum(result.endings.values()) == len(result.outcomes)


def test_the_start_is_that_of_the_named_object() -> None:
    assert run(FakePolicy(other_m=0.01)).starts == {s.name: HOME[:2] for s in STATES}


def test_the_shift_is_that_of_the_named_object_at_the_end() -> None:
    outcome = run(FakePolicy(push_m=0.01, other_m=0.5)).outcomes[0]
    assert outcome.shift_m == pytest.approx((0.03, 0.0))  # 3 steps of 1 cm


def test_merging_keeps_states_of_different_realities_apart() -> None:
    result = run(FakePolicy(push_m=0.025))
    both = merged({"reality 0": result, "reality 1": result})
    assert len(both.successes()) == 2 * len(STATES)
    assert both.rate().value == result.rate().value


def test_a_lost_episode_is_neither_success_nor_failure() -> None:
    result = run(FakePolicy(push_m=0.025), lose="s6")
    assert result.num_lost == 2
    assert "s6" not in result.successes()
    rate = result.rate()
    # it takes 4 steps: s0 runs out of time, s1 to s5 solve it, s6 is lost; each twice
    assert rate.value == pytest.approx(10 / 12)


def test_seen_and_unseen_colours_split_every_finished_episode() -> None:
    result = run(FakePolicy(push_m=0.025))
    seen, unseen = (
        result.successes(not_labelled("object", {"orange"})),
        result.successes(labelled("object", {"orange"})),
    )
    assert seen.keys() | unseen.keys() == {s.name for s in STATES}
    assert not seen.keys() & unseen.keys()


def test_a_saved_result_loads_back_equal(tmp_path: Path) -> None:
    result = run(FakePolicy(push_m=0.025), lose="s6")
    result.save(tmp_path / "eval" / "a.json")
    assert EvaluationResult.load(tmp_path / "eval" / "a.json") == result


def test_a_file_that_is_no_evaluation_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"policy": "x"}')
    with pytest.raises(ValueError, match=r"a\.json' is not a saved evaluation"):
        EvaluationResult.load(path)


def test_no_states_and_repeated_names_are_refused() -> None:
    for states, message in (([], "at least one"), ([STATES[0], STATES[0]], "occur twice: s0")):
        with pytest.raises(ValueError, match=message):
            evaluate(FakePolicy(), name="x", settings=settings(), initial_states=states, make_world=FakeWorld)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="num_envs must be 1 or more, got 0"):
        settings(num_envs=0)
