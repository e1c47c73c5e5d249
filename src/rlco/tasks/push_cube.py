"""Push the cube that the instruction names, out of three, straight ahead into the goal strip.

The robot's base is at the origin and looks along +x, the pushing direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from rlco.core.poses import IDENTITY_POSE, yaw_to_quat
from rlco.core.rng import numpy_generator
from rlco.core.scene import RGB, CameraSpec, Facts, InitialState, MarkerSpec, ObjectSpec, Part, SceneSpec, rows
from rlco.tasks import shifts
from rlco.tasks.contract import CLOSE, SUCCESS, Ends, EventReward, Stage, Waypoint
from rlco.tasks.motion import Guess, Motion, UnreadableMotionError, words
from rlco.tasks.progress import MOVED_M, displacement_m, flags, furthest, moved, near

FRONT_CAMERA = CameraSpec(position_m=(1.22, 0.30, 0.66), target_m=(0.49, -0.01, 0.03), fovy_deg=35.0)
"""The camera of every task: in front of the robot, it looks back over the table."""

COLOURS: dict[str, RGB] = {
    "purple": (0.50, 0.15, 0.78),
    "yellow": (0.95, 0.85, 0.10),
    "pink": (1.00, 0.50, 0.75),
    "orange": (0.95, 0.42, 0.05),
    "green": (0.12, 0.65, 0.25),
}
REAL_COLOURS = ("purple", "yellow", "pink")
"""The cubes that exist where real demonstrations are recorded; orange and green are never seen there."""
PLACES = ("left", "middle", "right")
CUBES = tuple(f"cube_{place}" for place in PLACES)

_FINGER_M = 0.010
"""Half the thickness of the closed fingers along the push."""
_BEHIND_M = 0.055
"""How far behind the cube's rear face the hand comes down."""
_PUSHED_M = 0.03
"""A way forward of at least this much, low over the table, is a push."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PushCube:
    """The task's numbers. Lengths in metres."""

    name: str = "push-cube"
    control_hz: float = 5.0
    max_steps: int = 60
    hold_steps: int = 1
    """A pushed cube stops with the hand: there is nothing to settle after it has crossed the line."""
    needs_touching: bool = False
    edge_m: float = 0.05
    row_x_m: float = 0.50
    spacing_m: float = 0.15
    jitter_m: float = 0.025
    """Half of the 5 x 5 cm square in which each cube is placed."""
    yaw_jitter_rad: float = 0.25
    """Each cube is turned by up to this much."""
    goal_x_m: float = 0.72
    """The goal of a cube is (goal_x_m, its own first y)."""
    band_m: float = 0.04
    """A cube farther than this from its goal sideways is not a success."""
    goal_half_m: tuple[float, float] = (0.03, 0.24)
    push_margin_m: float = 0.02
    """The pushing point is half a cube and this behind the cube's centre."""
    gate_m: float = 0.05
    """The placing reward counts only with the TCP this close to the pushing point."""
    push_height_m: float = 0.022
    """TCP height in the expert's push: the fingertips are 1.3 cm above the table."""

    @property
    def scene(self) -> SceneSpec:
        """Three cubes, a dark strip, and a camera in front that looks back at the robot over the cubes."""
        half = self.edge_m / 2
        cube = (Part(half_size_m=(half, half, half)),)
        cubes = (ObjectSpec(name=name, parts=cube, mass_kg=0.1, friction=0.5) for name in CUBES)
        strip = MarkerSpec(
            name="goal", centre_m=(self.goal_x_m, 0.0), half_size_m=self.goal_half_m, rgb=(0.16, 0.16, 0.20)
        )
        return SceneSpec(objects=(*cubes, *shifts.distractors()), markers=(strip,), camera=FRONT_CAMERA)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Push the named cube."""
        return (Stage(name="push", ends=Ends.EPISODE),)

    @property
    def event_rewards(self) -> tuple[EventReward, ...]:
        """Return 1 at success."""
        return (EventReward(event=SUCCESS, reward=1.0),)

    @property
    def shifts(self) -> tuple[str, ...]:
        """Everything but objects that no training set has: every colour is one of the training's."""
        return (
            shifts.UNSEEN_STATES,
            shifts.LIGHTING,
            shifts.CAMERA,
            shifts.CLUTTER,
            shifts.MOVED_OBJECT,
            shifts.PARAPHRASE,
        )

    def sample_initial_state(
        self, rng: np.random.Generator, *, objects: Sequence[str] | None = None, name: str | None = None
    ) -> InitialState:
        """Draw three cubes of the colours ``objects`` (all by default), their order and places, and a target."""
        chosen = rng.permutation(_known(objects))[: len(CUBES)]
        place = int(rng.integers(len(CUBES)))
        name = name or f"{self.name}/drawn/{rng.integers(1 << 62):016x}"
        return self._state(rng, name=name, colours=[str(c) for c in chosen], place=place)

    def fixed_states(
        self, count: int, *, seed: int, prefix: str, objects: Sequence[str] | None = None, shift: str | None = None
    ) -> list[InitialState]:
        """Return ``count`` starts in which every target place and every target colour is equally frequent."""
        shifts.require_shift(self, shift)
        colours = _known(objects)
        return [self._fixed_state(i, seed=seed, prefix=prefix, colours=colours, shift=shift) for i in range(count)]

    def paraphrases(self, state: InitialState) -> tuple[str, ...]:
        """Return three; each names the colour."""
        colour = state.labels["object"]
        return (f"move the {colour} cube to the line", f"push {colour}", f"push the {colour} block to the front")

    def check(self, state: InitialState) -> None:
        """Raise ``ValueError`` if ``state`` is not a start of this task."""
        complete = set(state.object_pose) == set(state.object_rgb) and set(CUBES) <= set(state.object_pose)
        if state.task != self.name or not complete or state.labels.get("target") not in CUBES:
            raise ValueError(f"'{state.name}' is not an initial state of '{self.name}'.")

    def succeeded(self, facts: Facts) -> Bool[ndarray, " E"]:
        """Return where the named cube's centre is beyond its goal's, and inside the band."""
        cube, goal = self._target(facts)[:, :2], self._goal(facts)
        return (cube[:, 0] >= goal[:, 0]) & (np.abs(cube[:, 1] - goal[:, 1]) <= self.band_m)

    def dense_reward(self, facts: Facts, success: Bool[ndarray, " E"], *, before: Facts) -> Float[ndarray, " E"]:
        """Return (r_reach + r_place) / 3, and 1 on success (eqs. 10-12, divided by their maximum).

        r_reach = 1 - tanh(5 |p_tcp - p_push|); r_place = 1 - tanh(5 |p_cube - p_goal|) in the plane, only near p_push.
        """
        del before
        to_push = np.linalg.norm(facts.tcp_pose[:, :3] - self.pushing_point(facts), axis=-1)
        to_goal = np.linalg.norm(self._target(facts)[:, :2] - self._goal(facts), axis=-1)
        reach = 1.0 - np.tanh(5.0 * to_push)
        place = np.where(to_push <= self.gate_m, 1.0 - np.tanh(5.0 * to_goal), 0.0)
        return np.where(success, 1.0, (reach + place) / 3.0)

    def events(self, facts: Facts, success: Bool[ndarray, " E"]) -> dict[str, Bool[ndarray, " E"]]:
        """Return success, the only event."""
        del facts
        return {SUCCESS: success}

    def progress(self, facts: Facts) -> Int[ndarray, " E"]:
        """Return: reached is behind the named cube; under way, it is ahead of its start and within its lane."""
        names = [state.labels["target"] for state in facts.initial]
        ahead_m = np.array([displacement_m(facts, e, name)[0] for e, name in enumerate(names)])
        in_lane = np.abs(self._target(facts)[:, 1] - self._goal(facts)[:, 1]) <= self.band_m
        touched = flags(facts.touching, names) | moved(facts, names)
        return furthest(
            reached=near(facts, self.pushing_point(facts)) | touched, under_way=(ahead_m >= MOVED_M) & in_lane
        )

    def reference_object(self, state: InitialState, stage: int) -> str:
        """Return the named cube."""
        del stage
        return state.labels["target"]

    def reference_pose(self, object_pose: Float[ndarray, " 7"], stage: int) -> Float[ndarray, " 7"]:
        """Return the cube's place with the robot's axes: the push goes along +x, however the cube is turned."""
        del stage
        return np.concatenate([object_pose[:3], IDENTITY_POSE[3:]])

    def expert(self, state: InitialState) -> tuple[Waypoint, ...]:
        """Return: above a point behind the cube, down, and through to 3 cm beyond the goal."""
        x, y, _ = state.object_pose[state.labels["target"]][:3]
        behind, low = x - self.edge_m / 2 - _BEHIND_M, self.push_height_m
        end = self.goal_x_m - self.edge_m / 2 + 0.02  # the fingers are 1 cm thick: the cube ends 3 cm beyond
        return (
            Waypoint(position_m=(behind, y, 0.10), gripper=CLOSE, tolerance_m=0.015),
            Waypoint(position_m=(behind, y, low), gripper=CLOSE),
            Waypoint(position_m=(end, y, low), gripper=CLOSE, beyond=True),
        )

    def guesses(self, motion: Motion, instruction: str) -> tuple[Guess, ...]:
        """Return: the named cube on the line of the first push; where along it does not show, so several places.

        The cube was in its row, and ahead of the fingers when they came down.
        """
        named = [word for word in words(instruction) if word in COLOURS]
        if not named:
            raise UnreadableMotionError("the instruction names no known object")
        xyz = motion.tcp_pose[:, :3]
        pushes = [
            (first, last)
            for first, last in motion.low_spells(below_m=self.edge_m)
            if xyz[first : last + 1, 0].max() - xyz[first, 0] >= _PUSHED_M
        ]
        if not pushes:
            raise UnreadableMotionError("never pushed: no way forward low over the table")
        first, last = pushes[0]
        behind, half = float(xyz[first, 0]), self.edge_m / 2
        near, far = self.row_x_m - self.jitter_m, self.row_x_m + self.jitter_m
        # as far behind the cube as the expert comes down, if that is in the row; and ahead of the fingers in any case
        usual = min(max(behind + half + _BEHIND_M, near), far)
        found = []
        for x in dict.fromkeys(max(behind + _FINGER_M + half, x) for x in (usual, self.row_x_m)):
            touched = xyz[first : last + 1]
            touched = touched[touched[:, 0] + _FINGER_M + half >= x]
            lines = {"where it is touched": touched[:1, 1], "the mean of the push": touched[:, 1]}
            for by, y in lines.items():
                if len(y):
                    state = self._guessed(named[0], x, float(y.mean()), xyz, instruction=instruction)
                    found.append(Guess(state=state, by=by))
        return tuple(found)

    def _guessed(
        self, colour: str, x: float, y: float, way: Float[ndarray, "T 3"], *, instruction: str
    ) -> InitialState:
        """Return the named cube at (x, y) and two others in the rest of the row, out of the way of the hand."""
        row = [self.spacing_m * (1 - i) for i in range(len(CUBES))]
        place = int(np.argmin([abs(y - at) for at in row]))
        others = [name for name in COLOURS if name != colour]
        colours = [*others[:place], colour, *others[place : len(CUBES) - 1]]
        low = way[way[:, 2] < self.edge_m + 0.02, :2]
        spots = [self._clear(at, low) if i != place else (x, y) for i, at in enumerate(row)]
        half = self.edge_m / 2
        return InitialState(
            name=f"{self.name}/guessed",
            task=self.name,
            instruction=instruction,
            object_pose={cube: (*spot, half, *yaw_to_quat(0.0)) for cube, spot in zip(CUBES, spots, strict=True)},
            object_rgb={cube: COLOURS[name] for cube, name in zip(CUBES, colours, strict=True)},
            labels={"target": CUBES[place], "object": colour, "place": PLACES[place]},
        )

    def _clear(self, y: float, low: Float[ndarray, "n 2"]) -> tuple[float, float]:
        """Return the place in the square of a cube that is farthest from where the hand was low, the middle if far."""
        offsets = (
            (0.0, 0.0),
            *((dx, dy) for dx in (-self.jitter_m, self.jitter_m) for dy in (-self.jitter_m, self.jitter_m)),
        )
        spots = [(self.row_x_m + dx, y + dy) for dx, dy in offsets]
        room = [float(np.linalg.norm(low - spot, axis=1).min(initial=1.0)) for spot in spots]
        return spots[0] if room[0] > 2 * self.edge_m else spots[int(np.argmax(room))]

    def pushing_point(self, facts: Facts) -> Float[ndarray, "E 3"]:
        """Return p_push: behind the named cube's centre by half a cube and the margin."""
        point = self._target(facts)[:, :3].copy()
        point[:, 0] -= self.edge_m / 2 + self.push_margin_m
        return point

    def _target(self, facts: Facts) -> Float[ndarray, "E 7"]:
        return rows(facts, [state.labels["target"] for state in facts.initial])

    def _goal(self, facts: Facts) -> Float[ndarray, "E 2"]:
        return np.array([[self.goal_x_m, state.object_pose[state.labels["target"]][1]] for state in facts.initial])

    def _fixed_state(
        self, index: int, *, seed: int, prefix: str, colours: list[str], shift: str | None
    ) -> InitialState:
        rng = numpy_generator(seed, self.name, prefix, index)
        place, target = index % len(CUBES), colours[index // len(CUBES) % len(colours)]
        row = [str(c) for c in rng.permutation([c for c in colours if c != target])[: len(CUBES) - 1]]
        row.insert(place, target)
        name = shifts.named(self.name, prefix, shift, index)
        return shifts.shifted(self, self._state(rng, name=name, colours=row, place=place), shift, rng)

    def _state(self, rng: np.random.Generator, *, name: str, colours: list[str], place: int) -> InitialState:
        jitter = rng.uniform(-self.jitter_m, self.jitter_m, size=(len(CUBES), 2))
        pose, rgb = {}, {}
        for i, cube in enumerate(CUBES):
            x, y = self.row_x_m + jitter[i, 0], self.spacing_m * (1 - i) + jitter[i, 1]
            turn = yaw_to_quat(float(rng.uniform(-self.yaw_jitter_rad, self.yaw_jitter_rad)))
            pose[cube] = (float(x), float(y), self.edge_m / 2, *turn)
            rgb[cube] = COLOURS[colours[i]]
        return InitialState(
            name=name,
            task=self.name,
            instruction=f"push the {colours[place]} cube",
            object_pose=pose,
            object_rgb=rgb,
            labels={"target": CUBES[place], "object": colours[place], "place": PLACES[place]},
        )


def _known(colours: Sequence[str] | None) -> list[str]:
    names = shifts.known("cube colour", colours, list(COLOURS))
    if len(set(names)) < len(CUBES):
        raise ValueError(f"Push-cube needs at least {len(CUBES)} different colours, got {len(set(names))}.")
    return names
