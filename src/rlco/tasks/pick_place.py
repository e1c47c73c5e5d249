"""Pick an object from the table and put it in the bowl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from rlco.core.poses import IDENTITY_POSE, quat_rotate, quat_to_yaw, yaw_to_quat
from rlco.core.rng import numpy_generator
from rlco.core.scene import Facts, InitialState, SceneSpec, Triple, rows
from rlco.tasks import shifts
from rlco.tasks.contract import CLOSE, OPEN, SUCCESS, Ends, EventReward, Stage, Waypoint
from rlco.tasks.motion import Grip, Guess, Motion, UnreadableMotionError, words
from rlco.tasks.objects import (
    BOWL,
    BOWL_FLOOR_M,
    BOWL_HEIGHT_M,
    BOWL_RGB,
    IRREGULAR_NAMES,
    ITEMS,
    REST_M,
    TRAINING_NAMES,
    Item,
    bowl,
)
from rlco.tasks.progress import flags, furthest, moved, near
from rlco.tasks.push_cube import FRONT_CAMERA

LIFTED_M = 0.02
"""An object this far above where it rests is off the table: more than tipping it raises its middle."""
GRASP, PLACE = 0, 1
"""Indices of the stages."""
_GRID_M = 0.05
REAL_OBJECTS = ("apple", "lemon", "banana", "carrot", "corn", "pear", "can", "block")
"""What exists where real demonstrations are recorded; the other training objects are in the twin only."""
_SNAP_M = 0.025
"""A guess nearer than this to a point of the grid may be on it."""
_HOLDS_M = 0.004
"""Fingers that stop farther apart than this hold something."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PickPlace:
    """The task's numbers. Lengths in metres."""

    name: str = "pick-place"
    control_hz: float = 5.0
    max_steps: int = 100
    hold_steps: int = 3
    """The object must lie in the bowl for so long: one that bounces out is no success."""
    needs_touching: bool = True
    needs_release: bool = True
    """Success needs the hand off the object, at rest; False: being in the bowl is enough."""
    object_x_m: tuple[float, float] = (0.42, 0.62)
    object_y_m: tuple[float, float] = (0.0, 0.25)
    """20 x 25 cm, on a 5 cm grid."""
    bowl_x_m: tuple[float, float] = (0.47, 0.57)
    bowl_y_m: tuple[float, float] = (-0.25, -0.05)
    """10 x 20 cm, on a 5 cm grid."""
    apart_m: float = 0.14
    """Between the centres of object and bowl."""
    yaw_rad: float = 0.5
    """The object is turned by up to this much."""
    inside_m: float = 0.05
    """An object farther than this from the bowl's middle is not inside."""
    rest_m_s: float = 0.05
    """Faster than this is not at rest."""
    carry_m: float = 0.18
    """TCP height on the way."""

    @property
    def scene(self) -> SceneSpec:
        """Every object that can be on the table, and the bowl."""
        return _scene()

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Grasp the object, release it over the bowl."""
        return Stage(name="grasp", ends=Ends.GRASP), Stage(name="place", ends=Ends.RELEASE)

    @property
    def event_rewards(self) -> tuple[EventReward, ...]:
        """+0.2 at the first grasp, +1 at success, -0.4 if the object leaves the bowl after a success."""
        return (
            EventReward(event="grasped", reward=0.2),
            EventReward(event=SUCCESS, reward=1.0),
            EventReward(event="left", reward=-0.4, after=SUCCESS),
        )

    @property
    def shifts(self) -> tuple[str, ...]:
        """All."""
        return (
            shifts.UNSEEN_OBJECTS,
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
        """Draw one of ``objects`` (the training ones by default), its place and the bowl's."""
        chosen = _known(objects)
        places = self._places()
        item = chosen[int(rng.integers(len(chosen)))]
        name = name or f"{self.name}/drawn/{rng.integers(1 << 62):016x}"
        return self._state(rng, name=name, item=item, place=places[int(rng.integers(len(places)))])

    def fixed_states(
        self, count: int, *, seed: int, prefix: str, objects: Sequence[str] | None = None, shift: str | None = None
    ) -> list[InitialState]:
        """Return ``count`` starts in which every object is equally frequent, and the places on the grids nearly so."""
        shifts.require_shift(self, shift)
        if objects is None and shift == shifts.UNSEEN_OBJECTS:
            objects = IRREGULAR_NAMES
        chosen, places = _known(objects), self._places()
        order = numpy_generator(seed, self.name, prefix, "places").permutation(len(places))
        states = []
        for i in range(count):
            rng = numpy_generator(seed, self.name, prefix, i)
            place = places[int(order[i % len(places)])]
            name = shifts.named(self.name, prefix, shift, i)
            state = self._state(rng, name=name, item=chosen[i % len(chosen)], place=place)
            states.append(shifts.shifted(self, state, shift, rng))
        return states

    def paraphrases(self, state: InitialState) -> tuple[str, ...]:
        """Return three; each names the object."""
        name = state.labels["object"]
        return f"place the {name} in the bowl", f"move the {name} into the bowl", f"put {name} in bowl"

    def check(self, state: InitialState) -> None:
        """Raise ``ValueError`` if ``state`` is not a start of this task."""
        complete = {state.labels.get("object"), BOWL} <= set(state.object_pose) == set(state.object_rgb)
        if state.task != self.name or not complete or state.labels["object"] not in ITEMS:
            raise ValueError(f"'{state.name}' is not an initial state of '{self.name}'.")

    def inside(self, facts: Facts) -> Bool[ndarray, " E"]:
        """Return where the object is in the bowl, held or not."""
        offset = self._object(facts)[:, :3] - facts.object_pose[BOWL][:, :3]
        rest = np.array([REST_M[state.labels["object"]] for state in facts.initial])
        low = offset[:, 2] <= BOWL_HEIGHT_M + 0.5 * rest
        return (np.linalg.norm(offset[:, :2], axis=-1) <= self.inside_m) & low & (offset[:, 2] > 0)

    def succeeded(self, facts: Facts) -> Bool[ndarray, " E"]:
        """Return where the object is in the bowl; released and at rest, unless ``needs_release`` is off."""
        inside = self.inside(facts)
        if not self.needs_release:
            return inside
        free = ~self._of_object(facts.touching, facts) & (self._of_object(facts.object_speed, facts) <= self.rest_m_s)
        return inside & free

    def dense_reward(self, facts: Facts, success: Bool[ndarray, " E"], *, before: Facts) -> Float[ndarray, " E"]:
        """Return (R_d(d1) + grasped + grasped R_d(d2)) / 5, and 1 on success (eq. 9 as the released code has it).

        R_d(x) = 1 - tanh(10 x); d1 = gripper to object, d2 = object to bowl.
        """
        del before
        item = self._object(facts)[:, :3]
        reach = 1.0 - np.tanh(10.0 * np.linalg.norm(facts.tcp_pose[:, :3] - item, axis=-1))
        carry = 1.0 - np.tanh(10.0 * np.linalg.norm(item - facts.object_pose[BOWL][:, :3], axis=-1))
        grasped = self._of_object(facts.grasped, facts)
        return np.where(success, 1.0, (reach + grasped + grasped * carry) / 5.0)

    def events(self, facts: Facts, success: Bool[ndarray, " E"]) -> dict[str, Bool[ndarray, " E"]]:
        """Return where the object is grasped, in the bowl for good, out of it."""
        grasped = self._of_object(facts.grasped, facts)
        return {"grasped": grasped, SUCCESS: success, "left": ~self.inside(facts)}

    def progress(self, facts: Facts) -> Int[ndarray, " E"]:
        """Return: reached is at the object; under way, it is off the table and touched by the hand, or in the bowl."""
        names, item = [state.labels["object"] for state in facts.initial], self._object(facts)[:, :3]
        touched = flags(facts.touching, names)
        lifted = item[:, 2] >= np.array([REST_M[name] for name in names]) + LIFTED_M
        return furthest(
            reached=near(facts, item) | touched | moved(facts, names),
            grasped=flags(facts.grasped, names),
            under_way=(lifted & touched) | self.inside(facts),
        )

    def reference_object(self, state: InitialState, stage: int) -> str:
        """Return the object, then the bowl."""
        return BOWL if stage == PLACE else state.labels["object"]

    def reference_pose(self, object_pose: Float[ndarray, " 7"], stage: int) -> Float[ndarray, " 7"]:
        """Return the object's place and heading; of the round bowl, only its place."""
        if stage == PLACE:
            return np.concatenate([object_pose[:3], IDENTITY_POSE[3:]])
        return np.concatenate([object_pose[:3], yaw_to_quat(float(quat_to_yaw(object_pose[3:])))])

    def expert(self, state: InitialState) -> tuple[Waypoint, ...]:
        """Return: above the object, down, close, up, over the bowl, down, open, up."""
        item = ITEMS[state.labels["object"]]
        pose = np.array(state.object_pose[item.name])
        yaw = None if item.is_round else _half_turn(float(quat_to_yaw(pose[3:])))
        held = pose[:3] + quat_rotate(pose[3:], np.array([*item.grasp_m, item.grasp_height_m - item.rest_m]))
        x, y = float(held[0]), float(held[1])
        hold: Triple = (x, y, float(held[2]))
        bowl_x, bowl_y, bowl_z = state.object_pose[BOWL][:3]
        low = item.grasp_height_m
        drop = bowl_z + BOWL_FLOOR_M + low + 0.012
        over, down = (bowl_x, bowl_y, self.carry_m), (bowl_x, bowl_y, drop)
        return (
            Waypoint(position_m=(x, y, low + 0.08), yaw_rad=yaw, gripper=OPEN, tolerance_m=0.018),
            Waypoint(position_m=(x, y, low), yaw_rad=yaw, gripper=OPEN, tolerance_m=0.008, speed=0.8),
            Waypoint(position_m=(x, y, low), yaw_rad=None, gripper=CLOSE, tolerance_m=0.02, wait_steps=3),
            Waypoint(position_m=(x, y, self.carry_m), yaw_rad=None, gripper=CLOSE, tolerance_m=0.05, held_m=hold),
            Waypoint(position_m=over, yaw_rad=None, gripper=CLOSE, tolerance_m=0.025, held_m=hold),
            Waypoint(position_m=down, yaw_rad=None, gripper=CLOSE, tolerance_m=0.015, held_m=hold),
            Waypoint(position_m=down, yaw_rad=None, gripper=OPEN, tolerance_m=0.03, wait_steps=2),
            Waypoint(position_m=over, yaw_rad=None, gripper=OPEN),
        )

    def guesses(self, motion: Motion, instruction: str) -> tuple[Guess, ...]:
        """Return: the object where the fingers stopped, the bowl where they opened; on the grids, then as measured."""
        held = [grip for grip in motion.grips() if grip.width_m > _HOLDS_M]
        if not held:
            raise UnreadableMotionError("never grasped: the gripper never stopped on anything")
        named = [word for word in words(instruction) if word in ITEMS]
        item = ITEMS[named[0]] if named else _nearest_item(held[-1].width_m)
        how = "" if named else f", the {item.name} by its width"
        found = []
        # the first grasp is where the object was at the start, the last one the grasp that carried it
        for grip in dict.fromkeys((held[0], held[-1])):
            at, bowl = self._held_at(motion, grip, item), _released_at(motion, held[-1])
            on_grid = _snapped(at[:2], _grid(self.object_x_m, self.object_y_m))
            bowl_on_grid = _snapped(bowl, _grid(self.bowl_x_m, self.bowl_y_m))
            for place, its_bowl, by in (
                (on_grid, bowl_on_grid, "the grid"),
                (at[:2], bowl_on_grid, "the grasp, the bowl on the grid"),
                (on_grid, bowl, "the grid, the bowl under the release"),
                (at[:2], bowl, "the grasp and the release"),
            ):
                if place is not None and its_bowl is not None:
                    state = self._guessed(item, place, at[2], its_bowl, instruction=instruction)
                    found.append(Guess(state=state, by=by + how))
        return tuple(found)

    def _held_at(self, motion: Motion, grip: Grip, item: Item) -> tuple[float, float, float]:
        """Return place and heading of an object that is held in the middle of the fingers."""
        x, y, _ = motion.tcp_pose[grip.stopped, :3]
        yaw = float(motion.yaw_rad[grip.stopped])
        off = quat_rotate(np.array(yaw_to_quat(yaw)), np.array([*item.grasp_m, 0.0]))
        return float(x - off[0]), float(y - off[1]), yaw

    def _guessed(
        self, item: Item, place: Sequence[float], yaw_rad: float, bowl_m: Sequence[float], *, instruction: str
    ) -> InitialState:
        pose = {
            item.name: (place[0], place[1], item.rest_m, *yaw_to_quat(yaw_rad)),
            BOWL: (bowl_m[0], bowl_m[1], 0.0, *yaw_to_quat(0.0)),
        }
        return InitialState(
            name=f"{self.name}/guessed",
            task=self.name,
            instruction=instruction,
            object_pose=pose,
            object_rgb={item.name: item.rgb, BOWL: BOWL_RGB},
            labels={"target": item.name, "object": item.name, "place": self._place_label(place[0], place[1])},
        )

    def _place_label(self, x: float, y: float) -> str:
        side = "left" if y > np.mean(self.object_y_m) else "middle"
        depth = "far" if x > np.mean(self.object_x_m) else "near"
        return f"{depth} {side}"

    def _places(self) -> list[tuple[Triple, Triple]]:
        """Return the pairs of grid points (object, bowl) that are far enough apart."""
        return _pairs(self)

    def _object(self, facts: Facts) -> Float[ndarray, "E 7"]:
        return rows(facts, [state.labels["object"] for state in facts.initial])

    @staticmethod
    def _of_object(values: Mapping[str, ndarray], facts: Facts) -> ndarray:
        return np.array([values[state.labels["object"]][e] for e, state in enumerate(facts.initial)])

    def _state(self, rng: np.random.Generator, *, name: str, item: str, place: tuple[Triple, Triple]) -> InitialState:
        (x, y, _), (bowl_x, bowl_y, _) = place
        turn = yaw_to_quat(float(rng.uniform(-self.yaw_rad, self.yaw_rad)))
        chosen: Item = ITEMS[item]
        return InitialState(
            name=name,
            task=self.name,
            instruction=f"put the {item} in the bowl",
            object_pose={item: (x, y, chosen.rest_m, *turn), BOWL: (bowl_x, bowl_y, 0.0, 1.0, 0.0, 0.0, 0.0)},
            object_rgb={item: chosen.rgb, BOWL: BOWL_RGB},
            labels={"target": item, "object": item, "place": self._place_label(x, y)},
        )


def _released_at(motion: Motion, grip: Grip) -> tuple[float, float]:
    x, y, _ = motion.tcp_pose[len(motion) - 1 if grip.opened is None else grip.opened, :3]
    return float(x), float(y)


def _snapped(place: tuple[float, float], grid: Sequence[Triple]) -> tuple[float, float] | None:
    """Return the point of the grid on which something near it may stand."""
    x, y, _ = min(grid, key=lambda point: np.hypot(point[0] - place[0], point[1] - place[1]))
    return (x, y) if np.hypot(x - place[0], y - place[1]) <= _SNAP_M else None


def _nearest_item(width_m: float) -> Item:
    """Return the training object whose first part is nearest to this wide between the fingers."""
    return min((ITEMS[name] for name in TRAINING_NAMES), key=lambda i: abs(2 * i.parts[0].half_size_m[1] - width_m))


@cache
def _pairs(task: PickPlace) -> list[tuple[Triple, Triple]]:
    """Return them once for each set of numbers: every draw of a start asks."""
    places, bowls = _grid(task.object_x_m, task.object_y_m), _grid(task.bowl_x_m, task.bowl_y_m)
    return [(o, b) for o in places for b in bowls if np.hypot(o[0] - b[0], o[1] - b[1]) >= task.apart_m]


def _half_turn(yaw_rad: float) -> float:
    """Return the turn of the gripper, the same after half a turn, that is nearest to none."""
    return (yaw_rad + np.pi / 2) % np.pi - np.pi / 2


@cache
def _scene() -> SceneSpec:
    items = tuple(item.spec for item in ITEMS.values())
    return SceneSpec(objects=(*items, bowl(), *shifts.distractors()), camera=FRONT_CAMERA, is_grasped=True)


def _grid(x_m: tuple[float, float], y_m: tuple[float, float]) -> list[Triple]:
    def line(limits: tuple[float, float]) -> list[float]:
        count = round((limits[1] - limits[0]) / _GRID_M) + 1
        return [round(limits[0] + i * _GRID_M, 4) for i in range(count)]

    return [(x, y, 0.0) for x in line(x_m) for y in line(y_m)]


def _known(objects: Sequence[str] | None) -> list[str]:
    if objects is None:
        return list(TRAINING_NAMES)
    return shifts.known("object of pick-place", objects, list(ITEMS))
