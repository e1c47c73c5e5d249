"""Attempts follow their seeds stage by stage, and slots give the same whatever runs beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rlco.core.poses import IDENTITY_POSE
from rlco.core.scene import InitialState
from rlco.demos.attempt import Attempt, Reject
from rlco.demos.attempts import Attempts, Limits, SlotResult
from rlco.demos.layouts import Layouts, cell
from rlco.demos.plan import PlanConfig
from rlco.demos.sources import Seed, Source
from rlco.demos.targets import commanded_targets
from rlco.tasks import task
from tests.demos.kinematic import BOUNCING, RUNAWAY, SLIPPERY, KinematicWorld

PICK = task("pick-place")
EXACT = PlanConfig(noise_m=0.0)
LIMITS = Limits(max_steps=90, stable_steps=2, attempts_per_layout=3)
APPLE = (0.5, 0.1, 0.03)
BOWL = (0.5, -0.15, 0.0)


def start(name: str, *, kind: str = "plain", apple: tuple[float, float, float] = APPLE) -> InitialState:
    state = PICK.fixed_states(1, seed=0, prefix="test", objects=["apple"])[0]
    turn = (1.0, 0.0, 0.0, 0.0)
    return replace(
        state,
        name=name,
        object_pose={"apple": (*apple, *turn), "bowl": (*BOWL, *turn)},
        labels={**state.labels, "kind": kind},
    )


def seed() -> Seed:
    """Down on the apple, close, up; down into the bowl, open, up. A third of each stage is after the change."""

    def stage(at: tuple[float, float, float], gripper: tuple[float, float], low_m: float) -> Source:
        above = np.array([at[0], at[1], low_m + 0.08, *IDENTITY_POSE[3:]])
        steps = np.zeros((4, 7))
        steps[:2, 2], steps[2, 0], steps[3, 2] = -0.04, 0.001, 0.03
        return Source(
            start=above,
            targets=commanded_targets(above, steps),
            gripper=np.array([gripper[0], gripper[0], gripper[1], gripper[1]]),
            object_pose=np.array([*at, *IDENTITY_POSE[3:]]),
        )

    return Seed(number=7, stages=(stage(APPLE, (1.0, -1.0), 0.03), stage(BOWL, (-1.0, 1.0), 0.06)), pruned=9)


def run(
    states: list[InitialState],
    *,
    num_envs: int = 3,
    config: PlanConfig = EXACT,
    loses: set[tuple[str, int]] | None = None,
    spare: dict[str, tuple[InitialState, ...]] | None = None,
) -> list[SlotResult]:
    layouts = Layouts(seed=0, slots=tuple(states), spare=spare or {})
    seeds = [seed()]

    def begin(initial: InitialState, slot: int, number: int) -> Attempt:
        return Attempt(PICK, initial, seeds, config, np.random.default_rng([slot, number]))

    world = KinematicWorld(num_envs, loses or set())
    return list(Attempts(world, layouts, begin=begin, limits=LIMITS).run(0))


def only(state: InitialState, config: PlanConfig = EXACT) -> SlotResult:
    (result,) = run([state], config=config)
    return result


def test_the_layout_of_the_seed_is_solved_without_noise() -> None:
    result = only(start("same"))
    assert result.episode is not None
    assert result.attempt is not None
    assert [stage["seed_episode"] for stage in result.attempt.stages] == [7, 7]
    assert [stage["stage"] for stage in result.attempt.stages] == ["grasp", "place"]


def test_the_gripper_closes_at_the_object_and_opens_at_the_bowl() -> None:
    result = only(start("aligned", apple=(0.45, 0.05, 0.03)))
    assert result.episode is not None
    gripper, tcp = result.episode.action[:, 6], result.episode.state[:, :3]
    (closes,) = np.flatnonzero((gripper[:-1] > 0) & (gripper[1:] < 0)) + 1
    (opens,) = np.flatnonzero((gripper[:-1] < 0) & (gripper[1:] > 0)) + 1
    # the arm has arrived: the seed closes 3 cm above the apple's foot, and opens 6 cm above the bowl's
    np.testing.assert_allclose(tcp[closes], [0.45, 0.05, 0.03], atol=0.004)
    np.testing.assert_allclose(tcp[opens], [0.5, -0.15, 0.06], atol=0.004)
    # and waits for the fingers before it moves on
    assert np.abs(np.diff(tcp[closes : closes + 2], axis=0)).max() < 0.004
    assert (gripper[:closes] == 1).all()
    assert (gripper[closes:opens] == -1).all()


def test_a_stage_follows_the_object_that_has_moved_before_it_began() -> None:
    result = only(start("runaway", kind=RUNAWAY))
    assert result.episode is not None
    assert result.attempt is not None
    assert result.attempt.stages[1]["object_to"][0] == pytest.approx(0.58)


def test_what_is_carried_passes_over_the_bowl_s_rim() -> None:
    result = only(start("carried"))
    assert result.episode is not None
    tcp = result.episode.state[:, :3]
    gripper = result.episode.action[:, 6]
    near = np.linalg.norm(tcp[:, :2] - BOWL[:2], axis=1)
    coming = (gripper < 0) & (near > 0.06) & (near < 0.11)
    assert coming.any()
    assert tcp[coming, 2].min() > 0.11


def test_an_object_that_cannot_be_gripped_is_not_grasped_and_never_a_success() -> None:
    result = only(start("slippery", kind=SLIPPERY))
    assert result.episode is None
    assert [tried.reject for tried in result.tried] == [Reject.NOT_GRASPED] * 3


def test_success_must_last_and_the_wait_for_that_is_not_recorded() -> None:
    assert [tried.reject for tried in only(start("out", kind=BOUNCING)).tried] == [Reject.UNSTABLE] * 3
    episode = only(start("in")).episode
    assert episode is not None
    # what is recorded ends with the action after which the goal was met: the fingers had just opened
    assert episode.action[-1, 6] == 1
    assert (episode.action[-3:, 6] == 1).sum() == 1


def test_a_motion_that_would_leave_the_workspace_is_rejected_at_once() -> None:
    result = only(start("far", apple=(0.85, 0.1, 0.03)))
    assert [tried.reject for tried in result.tried] == [Reject.KINEMATICS] * 3


def test_noise_is_on_the_arm_alone_and_not_while_the_hand_settles() -> None:
    result = only(start("noisy"), PlanConfig(noise_m=0.002))
    assert result.episode is not None
    assert result.attempt is not None
    labels = np.stack(result.attempt.labels[: len(result.episode)])
    noise = result.episode.action - labels
    assert (noise[:, 3:] == 0).all()
    assert 0.001 < noise[:, :3].std() < 0.003
    gripper = labels[:, 6]
    (closes,) = np.flatnonzero((gripper[:-1] > 0) & (gripper[1:] < 0)) + 1
    assert (noise[closes] == 0).all()
    assert (noise[closes + 1] == 0).all()


@pytest.fixture(scope="module")
def states() -> list[InitialState]:
    kinds = ["plain", SLIPPERY, "plain", BOUNCING, "plain", RUNAWAY] * 3
    rng = np.random.default_rng(1)
    places = [(0.45 + 0.1 * float(rng.random()), 0.05 + 0.1 * float(rng.random()), 0.03) for _ in kinds]
    return [start(f"s{i}", kind=kind, apple=place) for i, (kind, place) in enumerate(zip(kinds, places, strict=True))]


def same(a: list[SlotResult], b: list[SlotResult]) -> bool:
    def told(result: SlotResult) -> tuple[object, ...]:
        episode = result.episode
        seen = None if episode is None else (episode.action.tobytes(), episode.state.tobytes(), episode.image.tobytes())
        return result.slot, [(t.initial.name, t.reject) for t in result.tried], seen

    return [told(r) for r in a] == [told(r) for r in b]


@pytest.mark.parametrize("num_envs", [1, 8])
def test_slots_come_in_order_and_are_the_same_on_any_number_of_environments(
    states: list[InitialState], num_envs: int
) -> None:
    noisy = PlanConfig(noise_m=0.002)
    three = run(states, config=noisy)
    assert [result.slot for result in three] == list(range(len(states)))
    assert {result.episode is None for result in three} == {True, False}
    assert same(run(states, config=noisy, num_envs=num_envs), three)


def test_an_attempt_whose_worker_died_is_made_again_and_gives_the_same(states: list[InitialState]) -> None:
    without = run(states)
    with_loss = run(states, loses={("s0", 4), ("s1", 9), ("s2", 1)})
    assert same(with_loss, without)
    assert [result.lost for result in with_loss[:4]] == [1, 1, 1, 0]


def test_a_layout_is_tried_again_with_others_of_its_cell() -> None:
    stubborn = start("first", kind=SLIPPERY)
    others = tuple(replace(start(f"other{i}"), labels=stubborn.labels) for i in range(3))
    layouts = Layouts(seed=0, slots=(stubborn,), spare={cell(stubborn): others})
    again = [layouts.start(0, attempt).name for attempt in range(6)]
    assert again[0] == "first"
    assert {name[:5] for name in again[1:]} == {"other"}
    assert again == [layouts.start(0, attempt).name for attempt in range(6)]


def test_layouts_are_balanced_and_have_spares_of_every_cell() -> None:
    push = task("push-cube")
    layouts = Layouts.of(push, 30, seed=0, objects=None)
    cells = [cell(state) for state in layouts.slots[:30]]
    assert {cells.count(name) for name in cells} == {2}
    assert set(cells) == set(layouts.spare)
    assert all(cell(s) == name for name, its in layouts.spare.items() for s in its)
    assert not {s.name for s in layouts.slots} & {s.name for its in layouts.spare.values() for s in its}
