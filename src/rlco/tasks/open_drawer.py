"""Open the drawer: grasp its handle and pull it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from rlco.core.poses import quat_to_yaw
from rlco.core.rng import numpy_generator
from rlco.core.scene import Facts, InitialState, SceneSpec
from rlco.tasks import shifts
from rlco.tasks.contract import CLOSE, OPEN, SUCCESS, Ends, EventReward, Stage, Waypoint
from rlco.tasks.drawer import (
    DRAWER,
    TRAVEL_M,
    Cabinet,
    Place,
    Region,
    at_handle,
    check_state,
    drawer_state,
    heading,
    no_objects,
    open_fraction,
    point,
    slid_m,
    triple,
)
from rlco.tasks.motion import Guess, Motion, UnreadableMotionError
from rlco.tasks.progress import MOVED_M, flags, furthest

_HOLDS_M = 0.004
"""Fingers that stop farther apart than this hold something."""
_PULLED_M = 0.05
"""A way shorter than this tells no direction."""
_STARTED_M = 0.005
"""An opening beyond this has begun."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenDrawer:
    """The task's numbers. Lengths in metres."""

    name: str = "open-drawer"
    control_hz: float = 5.0
    max_steps: int = 60
    hold_steps: int = 2
    needs_touching: bool = False
    cabinet: Cabinet = field(default_factory=lambda: Cabinet(width_m=0.22))
    region: Region = field(default_factory=Region)
    open_share: float = 0.9
    """Success is an opening of at least this share of the travel."""

    @property
    def scene(self) -> SceneSpec:
        """The drawer."""
        return self.cabinet.scene

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Grasp and pull, relative to the handle."""
        return (Stage(name="pull", ends=Ends.EPISODE),)

    @property
    def event_rewards(self) -> tuple[EventReward, ...]:
        """Return 1 at success."""
        return (EventReward(event=SUCCESS, reward=1.0),)

    @property
    def shifts(self) -> tuple[str, ...]:
        """All that leave the drawer where and what it is."""
        return shifts.UNSEEN_STATES, shifts.LIGHTING, shifts.CAMERA, shifts.CLUTTER, shifts.PARAPHRASE

    def sample_initial_state(
        self, rng: np.random.Generator, *, objects: Sequence[str] | None = None, name: str | None = None
    ) -> InitialState:
        """Draw the closed drawer's place and heading."""
        no_objects(self.name, objects)
        name = name or f"{self.name}/drawn/{rng.integers(1 << 62):016x}"
        return self._state(rng, name=name, cell=(int(rng.integers(2)), int(rng.integers(3))))

    def fixed_states(
        self, count: int, *, seed: int, prefix: str, objects: Sequence[str] | None = None, shift: str | None = None
    ) -> list[InitialState]:
        """Return ``count`` starts in which every part of the region is equally frequent."""
        no_objects(self.name, objects)
        shifts.require_shift(self, shift)
        states = []
        for i in range(count):
            rng = numpy_generator(seed, self.name, prefix, i)
            state = self._state(rng, name=shifts.named(self.name, prefix, shift, i), cell=(i % 2, i // 2 % 3))
            states.append(shifts.shifted(self, state, shift, rng))
        return states

    def paraphrases(self, state: InitialState) -> tuple[str, ...]:
        """Return three."""
        del state
        return "pull the drawer open", "pull the handle of the drawer", "open it"

    def check(self, state: InitialState) -> None:
        """Raise ``ValueError`` if ``state`` is not a start of this task."""
        check_state(state, task=self.name)

    def succeeded(self, facts: Facts) -> Bool[ndarray, " E"]:
        """Return where the drawer is open."""
        return open_fraction(facts) >= self.open_share

    def dense_reward(self, facts: Facts, success: Bool[ndarray, " E"], *, before: Facts) -> Float[ndarray, " E"]:
        """Return (r_reach + r_open) / 5, and 1 on success (eqs. 13-15, divided by their maximum).

        r_reach = 1 - tanh(5 |p_tcp - p_handle|), 1 once the drawer has begun to open; r_open = 2 open_frac.
        """
        del before
        handle = point(facts.object_pose[DRAWER], self.cabinet.handle_m)
        distance = np.linalg.norm(facts.tcp_pose[:, :3] - handle, axis=-1)
        reach = np.where(facts.joint_value[DRAWER] > _STARTED_M, 1.0, 1.0 - np.tanh(5.0 * distance))
        opened = 2.0 * np.clip(open_fraction(facts), 0.0, 1.0)
        return np.where(success, 1.0, (reach + opened) / 5.0)

    def events(self, facts: Facts, success: Bool[ndarray, " E"]) -> dict[str, Bool[ndarray, " E"]]:
        """Return success, the only event."""
        del facts
        return {SUCCESS: success}

    def progress(self, facts: Facts) -> Int[ndarray, " E"]:
        """Return: reached is at the handle; under way, the drawer has opened and the hand is still there."""
        there, opened = at_handle(facts, self.cabinet.handle_m), slid_m(facts) >= MOVED_M
        grasped = there & flags(facts.grasped, [DRAWER] * len(facts.initial))
        return furthest(reached=there | opened, grasped=grasped, under_way=opened & there)

    def reference_object(self, state: InitialState, stage: int) -> str:
        """Return the drawer."""
        del state, stage
        return DRAWER

    def reference_pose(self, object_pose: Float[ndarray, " 7"], stage: int) -> Float[ndarray, " 7"]:
        """Return the drawer's frame: it is pulled along its own axis."""
        del stage
        return object_pose

    def expert(self, state: InitialState) -> tuple[Waypoint, ...]:
        """Return: above the handle, down, close, and out to beyond the end of the travel."""
        pose, (x, y, z) = np.array(state.object_pose[DRAWER]), self.cabinet.handle_m
        left = TRAVEL_M - state.joint_value.get(DRAWER, 0.0) + 0.03
        yaw, end = float(quat_to_yaw(pose[3:])), point(pose, (x - left, y, z))
        at, above = triple(point(pose, (x, y, z))), triple(point(pose, (x, y, z + 0.08)))
        return (
            Waypoint(position_m=above, yaw_rad=yaw, gripper=OPEN, tolerance_m=0.013),
            Waypoint(position_m=at, yaw_rad=yaw, gripper=OPEN, tolerance_m=0.01, speed=0.8),
            Waypoint(position_m=at, yaw_rad=yaw, gripper=CLOSE, tolerance_m=0.025, wait_steps=3),
            Waypoint(position_m=triple(end), yaw_rad=yaw, gripper=CLOSE, held_m=at),
        )

    def guesses(self, motion: Motion, instruction: str) -> tuple[Guess, ...]:
        """Return: the handle where the fingers stopped, turned like the gripper or along the pull."""
        held = [grip for grip in motion.grips() if grip.width_m > _HOLDS_M]
        if not held:
            raise UnreadableMotionError("handle missed: the gripper never stopped on anything")
        found = []
        # the first grasp is where the handle was at the start, the last one the grasp that pulled it out
        for grip in dict.fromkeys((held[0], held[-1])):
            handle = motion.tcp_pose[grip.stopped, :2]
            pull = motion.tcp_pose[len(motion) - 1 if grip.opened is None else grip.opened, :2] - handle
            turns = {"the grasp": float(motion.yaw_rad[grip.stopped])}
            if np.linalg.norm(pull) > _PULLED_M:
                turns["the grasp and the pull"] = heading(-pull)
            for by, yaw in turns.items():
                closed = handle - self.cabinet.handle_m[0] * np.array([np.cos(yaw), np.sin(yaw)])
                state = self._at(self.region.place(closed, yaw), name=f"{self.name}/guessed", instruction=instruction)
                found.append(Guess(state=state, by=by))
        return tuple(found)

    def _state(self, rng: np.random.Generator, *, name: str, cell: tuple[int, int]) -> InitialState:
        return self._at(self.region.draw(rng, cell), name=name, instruction="open the drawer")

    def _at(self, place: Place, *, name: str, instruction: str) -> InitialState:
        return drawer_state(place, task=self.name, name=name, instruction=instruction, opening_m=0.0)
