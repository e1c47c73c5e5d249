"""Close the drawer: push it in."""

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
from rlco.tasks.contract import CLOSE, SUCCESS, Ends, EventReward, Stage, Waypoint
from rlco.tasks.drawer import (
    DRAWER,
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
from rlco.tasks.progress import MOVED_M, furthest

_LOW_M = 0.06
"""A hand lower than this is low enough to push the handle."""
_PUSHED_M = 0.03
"""A way of at least this much there is a push."""
FINGER_M = 0.010
"""Half the thickness of the closed fingers along the push."""
PUSH_HEIGHT_M = 0.028


@dataclass(frozen=True, kw_only=True, slots=True)
class CloseDrawer:
    """The task's numbers. Lengths in metres."""

    name: str = "close-drawer"
    control_hz: float = 5.0
    max_steps: int = 60
    hold_steps: int = 2
    needs_touching: bool = False
    cabinet: Cabinet = field(default_factory=lambda: Cabinet(width_m=0.03, height_m=0.04))
    """Little wider than the fingers, and so low that the hand, 20 cm wide, is above it: the fingers push alone."""
    region: Region = field(default_factory=lambda: Region(y_m=(-0.18, 0.18), yaw_rad=float(np.deg2rad(30.0))))
    opened_m: tuple[float, float] = (0.09, 0.11)
    """How far it is open at the start."""
    open_share: float = 0.05
    """Success is an opening of at most this share of the travel."""
    gain: float = 2.0
    """Reward for closing by the whole travel (the paper's alpha)."""
    time_penalty: float = 0.02
    """Subtracted at every control step (the paper's beta)."""

    @property
    def scene(self) -> SceneSpec:
        """The drawer."""
        return self.cabinet.scene

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Push, relative to the drawer."""
        return (Stage(name="push", ends=Ends.EPISODE),)

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
        """Draw the drawer's place, heading and opening."""
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
        return "push the drawer in", "push the handle of the drawer", "close it"

    def check(self, state: InitialState) -> None:
        """Raise ``ValueError`` if ``state`` is not a start of this task."""
        check_state(state, task=self.name)

    def succeeded(self, facts: Facts) -> Bool[ndarray, " E"]:
        """Return where the drawer is closed."""
        return open_fraction(facts) <= self.open_share

    def dense_reward(self, facts: Facts, success: Bool[ndarray, " E"], *, before: Facts) -> Float[ndarray, " E"]:
        """Return (gain clip(Delta, -1, 1) - time_penalty) / 5, and 1 on success (eqs. 16-17, divided by their maximum).

        Delta = open_frac_{t-1} - open_frac_t.
        """
        closed = np.clip(open_fraction(before) - open_fraction(facts), -1.0, 1.0)
        return np.where(success, 1.0, (self.gain * closed - self.time_penalty) / 5.0)

    def events(self, facts: Facts, success: Bool[ndarray, " E"]) -> dict[str, Bool[ndarray, " E"]]:
        """Return success, the only event."""
        del facts
        return {SUCCESS: success}

    def progress(self, facts: Facts) -> Int[ndarray, " E"]:
        """Return: reached is at the handle; under way, the drawer is less open than at the start."""
        closing = slid_m(facts) <= -MOVED_M
        return furthest(reached=at_handle(facts, self.cabinet.handle_tip_m) | closing, under_way=closing)

    def reference_object(self, state: InitialState, stage: int) -> str:
        """Return the drawer."""
        del state, stage
        return DRAWER

    def reference_pose(self, object_pose: Float[ndarray, " 7"], stage: int) -> Float[ndarray, " 7"]:
        """Return the drawer's frame: it is pushed along its own axis."""
        del stage
        return object_pose

    def expert(self, state: InitialState) -> tuple[Waypoint, ...]:
        """Return: behind and above the handle, down, and in to beyond the closed place."""
        pose = np.array(state.object_pose[DRAWER])
        yaw, tip = float(quat_to_yaw(pose[3:])), self.cabinet.handle_tip_m[0] - FINGER_M
        left = state.joint_value.get(DRAWER, 0.0)
        behind = point(pose, (tip - 0.03, 0.0, PUSH_HEIGHT_M))
        end = point(pose, (tip + left + 0.01, 0.0, PUSH_HEIGHT_M))
        above = triple(point(pose, (tip - 0.03, 0.0, PUSH_HEIGHT_M + 0.06)))
        return (
            Waypoint(position_m=above, yaw_rad=yaw, gripper=CLOSE, tolerance_m=0.018),
            Waypoint(position_m=triple(behind), yaw_rad=yaw, gripper=CLOSE, tolerance_m=0.012),
            Waypoint(position_m=triple(end), yaw_rad=yaw, gripper=CLOSE, beyond=True),
        )

    def guesses(self, motion: Motion, instruction: str) -> tuple[Guess, ...]:
        """Return: closed where the last push ends, or a little before or beyond; turned like the gripper or the push.

        Where it was touched does not show: it was open as usual, or by as much as the hand moved if that is less.
        """
        usual = float(np.mean(self.opened_m))
        xy, spells = motion.tcp_pose[:, :2], motion.low_spells(below_m=_LOW_M)
        ends = [last for first, last in spells if np.linalg.norm(xy[last] - xy[first]) >= _PUSHED_M]
        if not ends:
            raise UnreadableMotionError("never pushed: no long way at the handle's height")
        last = ends[-1]
        ways = xy[last] - np.concatenate([xy[first : end + 1] for first, end in spells if end <= last])
        way = ways[int(np.argmax(np.linalg.norm(ways, axis=1)))]
        opening = min(usual, float(np.linalg.norm(way)))
        found = []
        for by, yaw in (("the gripper", float(motion.yaw_rad[last])), ("the push", heading(way))):
            along = np.array([np.cos(yaw), np.sin(yaw)])
            for short_m in (0.0, 0.003, -0.003):
                closed = xy[last] + (FINGER_M + short_m - self.cabinet.handle_tip_m[0]) * along
                place, name = self.region.place(closed, yaw), f"{self.name}/guessed"
                state = self._at(place, name=name, instruction=instruction, opening_m=opening)
                found.append(Guess(state=state, by=f"the end of the push and {by}, {1000 * short_m:+.0f} mm"))
        return tuple(found)

    def _state(self, rng: np.random.Generator, *, name: str, cell: tuple[int, int]) -> InitialState:
        opening = float(rng.uniform(*self.opened_m))
        return self._at(self.region.draw(rng, cell), name=name, instruction="close the drawer", opening_m=opening)

    def _at(self, place: Place, *, name: str, instruction: str, opening_m: float) -> InitialState:
        return drawer_state(place, task=self.name, name=name, instruction=instruction, opening_m=opening_m)
