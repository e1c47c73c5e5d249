"""Episodes in this process, on real physics: what is paid, how often, and in comparison with which moment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.scene import Facts, InitialState
from rlco.demos.operator import EXACT, Operator
from rlco.engines.mujoco.simulation import Simulation
from rlco.tasks import TASKS
from rlco.tasks.drawer import DRAWER, TRAVEL_M
from rlco.tasks.objects import BOWL
from rlco.worlds.episodes import Episodes
from rlco.worlds.spec import Start, WorldSpec

pytestmark = pytest.mark.sim
STAY = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
PICK = TASKS["pick-place"]
LIME, CAN = (PICK.fixed_states(1, seed=0, prefix="test", objects=[name])[0] for name in ("lime", "can"))


@dataclass(frozen=True)
class Bench:
    """Episodes with their simulation and arrays."""

    episodes: Episodes
    simulation: Simulation
    arrays: dict[str, ndarray]

    def reset(self, states: list[InitialState]) -> None:
        self.episodes.reset([Start(env=e, initial=state, noise_seed=0) for e, state in enumerate(states)])

    def step(self, actions: ndarray | tuple[float, ...] = STAY) -> ndarray:
        """Run (E, h, 7) actions, or one action of every environment; return the rewards (E, h)."""
        count = len(self.arrays["done"])
        chunk = np.broadcast_to(actions, (count, 1, 7)) if isinstance(actions, tuple) else actions
        self.arrays["actions"][:, : chunk.shape[1]] = chunk
        self.episodes.step(chunk.shape[1], "none")
        return self.arrays["rewards"][:, : chunk.shape[1]].copy()

    def put(self, e: int, name: str, place: tuple[float, float, float]) -> None:
        """Move an object by force, at rest."""
        model, data = self.simulation.model(e), self.simulation.data(e)
        joint = model.joint(name)
        data.qpos[joint.qposadr[0] : joint.qposadr[0] + 3] = place
        data.qvel[joint.dofadr[0] : joint.dofadr[0] + 6] = 0.0

    def total(self, steps: int) -> float:
        """Return what environment 0 is paid in so many steps of waiting."""
        return float(sum(self.step()[0, 0] for _ in range(steps)))


def bench(name: str, *, num_envs: int = 1, reward: str = "sparse", end_on_success: bool = False) -> Bench:
    spec = WorldSpec(
        task=TASKS[name],
        domain="twin",
        engine="mujoco",
        num_envs=num_envs,
        reality=0,
        image_size=8,
        render="none",
        reward=reward,
        max_steps=200,
        random_look=False,
        end_on_success=end_on_success,
    )
    arrays = {key: np.zeros(shape, dtype) for key, (shape, dtype) in spec.layout(1).items()}
    simulation = Simulation(spec.task.scene, num_envs=num_envs, image_size=8)
    return Bench(Episodes(spec, simulation, arrays, arrays.pop("heartbeat")), simulation, arrays)


@pytest.fixture(scope="module")
def pick() -> Iterator[Bench]:
    made = bench("pick-place", num_envs=2)
    yield made
    made.simulation.close()


X, Y, Z = LIME.object_pose["lime"][:3]
ON_THE_TABLE = (X, Y, Z)


def over_the_bowl(state: InitialState) -> tuple[float, float, float]:
    x, y, _ = state.object_pose[BOWL][:3]
    return x, y, 0.03


def expert_until(bench: Bench, state: InitialState, paid: float) -> int:
    """Let the exact operator act in environment 0 until it is paid so much; return the number of steps."""
    operator = Operator(PICK, num_envs=1, seed=0, style=EXACT)
    operator.start(0, state, 0)
    for step in range(1, 100):
        action = operator.act(bench.episodes.facts().select([0]), {})
        if bench.step(tuple(action[0].tolist()))[0, 0] == pytest.approx(paid):
            return step
    pytest.fail(f"{paid} was never paid")


def test_success_is_paid_once_and_leaving_costs_once_and_only_after_it(pick: Bench) -> None:
    pick.reset([LIME, CAN])
    away = ON_THE_TABLE
    assert pick.total(5) == 0.0  # out of the bowl, as at the start: nothing was left
    pick.put(0, "lime", over_the_bowl(LIME))
    paid = [pick.step()[0, 0] for _ in range(8)]
    assert sum(paid) == 1.0
    assert paid.index(1.0) >= PICK.hold_steps - 1
    assert pick.arrays["success"].tolist() == [True, False]
    pick.put(0, "lime", away)
    assert pick.step()[0, 0] == pytest.approx(-0.4)
    assert not pick.arrays["success"][0]
    assert pick.total(3) == 0.0
    pick.put(0, "lime", over_the_bowl(LIME))
    assert pick.total(8) == 0.0  # done again, and not paid again
    assert pick.arrays["success"][0]
    pick.put(0, "lime", away)
    assert pick.total(3) == 0.0
    # a new episode is paid anew
    pick.reset([LIME, CAN])
    pick.put(0, "lime", over_the_bowl(LIME))
    assert pick.total(8) == 1.0


def test_an_object_that_bounces_out_before_it_has_held_is_neither_paid_nor_fined(pick: Bench) -> None:
    pick.reset([LIME, CAN])
    pick.put(0, "lime", over_the_bowl(LIME))
    before = [pick.step()[0, 0]]
    while not PICK.succeeded(pick.episodes.facts())[0]:
        before.append(pick.step()[0, 0])
    assert len(before) < 8
    pick.put(0, "lime", ON_THE_TABLE)
    assert sum(before) + pick.total(4) == 0.0
    # the count of steps in the bowl begins again
    pick.put(0, "lime", over_the_bowl(LIME))
    paid = [pick.step()[0, 0] for _ in range(8)]
    assert paid[: PICK.hold_steps - 1] == [0.0] * (PICK.hold_steps - 1)
    assert sum(paid) == 1.0


def test_the_first_grasp_is_paid_and_the_second_is_not(pick: Bench) -> None:
    pick.reset([LIME, CAN])
    expert_until(pick, LIME, 0.2)
    held = [(*STAY[:6], command) for command in (1.0,) * 4 + (-1.0,) * 6]
    grasped, paid = [], 0.0
    for action in held:
        paid += float(pick.step(action)[0, 0])
        grasped.append(bool(pick.episodes.facts().grasped["lime"][0]))
    assert not all(grasped[:4])  # it let go,
    assert grasped[-1]  # and grasped again
    assert paid == 0.0


def test_what_was_paid_is_part_of_the_saved_state(pick: Bench) -> None:
    pick.reset([LIME, CAN])
    pick.put(0, "lime", over_the_bowl(LIME))
    assert pick.total(8) == 1.0
    saved = pick.episodes.state()
    pick.reset([LIME, CAN])
    pick.episodes.restore(saved)
    assert pick.total(4) == 0.0
    pick.put(0, "lime", ON_THE_TABLE)
    assert pick.total(2) == pytest.approx(-0.4)


def closing(count: int) -> tuple[list[InitialState], ndarray]:
    """Return starts and the exact operator's actions on them."""
    states = TASKS["close-drawer"].fixed_states(count, seed=0, prefix="test")
    made = bench("close-drawer", num_envs=count, reward="dense")
    made.reset(states)
    operator = Operator(TASKS["close-drawer"], num_envs=count, seed=0, style=EXACT)
    for e, state in enumerate(states):
        operator.start(e, state, e)
    taken = []
    for _ in range(16):
        taken.append(operator.act(made.episodes.facts(), {}))
        made.step(taken[-1][:, None])
    made.simulation.close()
    return states, np.stack(taken, axis=1)


def opening_of(facts: Facts) -> ndarray:
    return facts.joint_value[DRAWER] / TRAVEL_M


def test_closing_is_paid_for_what_changed_in_each_control_step_however_it_is_cut_into_chunks() -> None:
    states, actions = closing(6)
    made = bench("close-drawer", num_envs=6, reward="dense", end_on_success=True)
    made.reset(states)
    before, expected, valid = opening_of(made.episodes.facts()), [], []
    for t in range(16):
        made.step(actions[:, t : t + 1])
        after = opening_of(made.episodes.facts())
        ended, valid_now = made.arrays["terminated"][:, 0], made.arrays["valid"][:, 0].copy()
        expected.append(np.where(ended, 1.0, (2.0 * (before - after) - 0.02) / 5.0) * valid_now)
        valid.append(valid_now)
        before = after
    ends = np.array(valid).sum(0)
    # one ends while a later one goes on: what stood before stays with its environment
    assert ends[:-1].min() < ends[ends[:-1].argmin() + 1 :].max()
    assert made.arrays["success"].all()
    assert np.array(expected).max(initial=0.0, where=np.array(expected) < 1.0) > 0.02  # it did move
    made.reset(states)
    np.testing.assert_allclose(made.step(actions), np.array(expected).T, atol=1e-6)
    made.reset(states)
    chunks = [made.step(actions[:, t : t + 4]) for t in (0, 4, 8, 12)]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), np.array(expected).T, atol=1e-6)
    made.simulation.close()
