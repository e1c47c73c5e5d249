"""From a foreign recording and what its numbers mean to our states and actions at our control rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_multiply, quat_rotate, quat_to_rotvec, rpy_to_quat
from rlco.core.scene import MAX_ROTATION_RAD, MAX_TRANSLATION_M
from rlco.data.forms import ROTATION_SIZE, opening, rotation_to_quat
from rlco.data.reading import Frame, Reading
from rlco.data.resample import Steps, resample


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadingReport:
    """What became of a recording."""

    episodes: int
    frames: int
    """Recorded."""
    steps: int
    """Control steps that came of them."""
    source_hz: float
    control_hz: int
    too_fast: int
    """Steps that moved farther than the controller does in one, before any were inserted."""
    inserted: int
    """Steps that were added so that none does, and so that no gripper change is lost."""
    worst_m: float
    """Largest motion of a step along an axis, before any were inserted."""
    worst_rad: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Canonical:
    """One episode in our form, J control steps."""

    state: Float[ndarray, "J 8"]
    steps: Steps


def canonical_episode(
    state: Float[ndarray, "T s"], action: Float[ndarray, "T a"], reading: Reading, *, source_hz: Fraction
) -> Canonical:
    """Return ``state`` and ``action`` of one recorded episode in our form.

    Raises ``ValueError`` that names the frame and what does not fit the reading.
    """
    if action.shape[1] != reading.action_size:
        raise ValueError(
            f"an action has {action.shape[1]} numbers, but position, rotation as {reading.rotation} and gripper are "
            f"{reading.action_size}. Choose another form of rotation, or join the right features with rename."
        )
    if state.shape[1] < reading.state.least_size:
        raise ValueError(
            f"a state has {state.shape[1]} numbers, but the reading needs {reading.state.least_size}: position at "
            f"{reading.state.position}, {reading.state.rotation_form} at {reading.state.rotation}, gripper "
            f"({reading.state.gripper_form}) at {reading.state.gripper_index}."
        )
    tcp = _measured(state, reading)
    gripper = _gripper(action[:, -1], reading, what="action")
    pose = _in_our_tool(_commanded(tcp[0], action, reading), reading)
    steps = resample(pose, gripper, ratio=source_hz / reading.control_hz, insert=reading.too_fast == "insert")
    return Canonical(state=_state(state, _in_our_tool(tcp, reading), steps, reading), steps=steps)


def require_slow_enough(steps: Mapping[int, Steps], reading: Reading, *, folder: object) -> None:
    """Raise ``ValueError`` if a step of an episode (by number) moves too far and none were inserted."""
    count = sum(s.too_fast for s in steps.values())
    if not count or reading.too_fast == "insert":
        return
    number, worst = max(
        steps.items(), key=lambda item: max(item[1].worst_m / MAX_TRANSLATION_M, item[1].worst_rad / MAX_ROTATION_RAD)
    )
    total = sum(len(s.action) for s in steps.values())
    raise ValueError(
        f"'{folder}': {count} of {total} steps at {reading.control_hz} Hz move farther than the controller does in "
        f"one ({MAX_TRANSLATION_M} m, {MAX_ROTATION_RAD} rad along an axis); the farthest, in episode {number}, moves "
        f"{worst.worst_m:.3g} m or turns {worst.worst_rad:.3g} rad. If the units and forms are right, insert steps "
        "with too_fast: insert (--too-fast insert), or take a higher control rate."
    )


def integrate(
    start: Float[ndarray, " 7"],
    translation: Float[ndarray, "T 3"],
    turn: Float[ndarray, "T 4"],
    *,
    translation_frame: Frame = "base",
    rotation_frame: Frame = "effector",
) -> Float[ndarray, "K 7"]:
    """Return the K = T + 1 poses that deltas command, the first being ``start``."""
    out = np.empty((len(turn) + 1, 7))
    out[0] = start
    for k in range(len(turn)):
        before = out[k, 3:]
        step = translation[k] if translation_frame == "base" else quat_rotate(before, translation[k])
        after = quat_multiply(before, turn[k]) if rotation_frame == "effector" else quat_multiply(turn[k], before)
        out[k + 1, :3] = out[k, :3] + step
        out[k + 1, 3:] = after / np.linalg.norm(after)
    return out


def _measured(state: Float[ndarray, "T s"], reading: Reading) -> Float[ndarray, "T 7"]:
    s = reading.state
    columns = state[:, s.rotation : s.rotation + ROTATION_SIZE[s.rotation_form]]
    try:
        quat = rotation_to_quat(columns, s.rotation_form, radians=reading.radians)
    except ValueError as error:
        raise ValueError(f"state, {error}") from None
    return np.concatenate([state[:, s.position : s.position + 3] * reading.metres, quat], axis=1)


def _commanded(start: Float[ndarray, " 7"], action: Float[ndarray, "T a"], reading: Reading) -> Float[ndarray, "K 7"]:
    """Return the commanded poses in their tool frame. What was commanded before the recording is where the arm is."""
    is_delta = reading.actions == "delta"
    length, angle = reading.action_scale
    try:
        quat = rotation_to_quat(action[:, 3:-1], reading.rotation, radians=reading.radians * angle)
    except ValueError as error:
        raise ValueError(f"action, {error}") from None
    position = action[:, :3] * (reading.metres * length)
    if not is_delta:
        return np.concatenate([start[None], np.concatenate([position, quat], axis=1)])
    return integrate(
        start, position, quat, translation_frame=reading.translation_frame, rotation_frame=reading.rotation_frame
    )


def _in_our_tool(pose: Float[ndarray, "K 7"], reading: Reading) -> Float[ndarray, "K 7"]:
    tool = rpy_to_quat(np.array(reading.tool_rotation, dtype=np.float64))
    return np.concatenate([pose[:, :3], quat_multiply(pose[:, 3:], np.broadcast_to(tool, (len(pose), 4)))], axis=1)


def _gripper(values: Float[ndarray, " T"], reading: Reading, *, what: str) -> Float[ndarray, " T"]:
    """Return the command in [-1, 1], open +1."""
    try:
        share = opening(values, reading.gripper, metres=reading.metres, widest_m=reading.gripper_max_m)
    except ValueError as error:
        raise ValueError(f"{what}, gripper, {error}") from None
    return 2 * share - 1


def _state(
    state: Float[ndarray, "T s"], tcp: Float[ndarray, "T 7"], steps: Steps, reading: Reading
) -> Float[ndarray, "J 8"]:
    """Return our state of the recorded frame that each step shows."""
    s, frame = reading.state, steps.frame
    if s.gripper_form == "none":
        width = None
    else:
        try:
            share = opening(
                state[:, s.gripper_index], s.gripper_form, metres=reading.metres, widest_m=reading.gripper_max_m
            )
        except ValueError as error:
            raise ValueError(f"state, gripper, {error}") from None
        width = share[frame] * reading.gripper_max_m
    if s.command is not None:
        command = _gripper(state[:, s.command], reading, what="state")[frame]
    else:
        is_open = steps.action[0, 6] > 0 if width is None else width[0] > reading.gripper_max_m / 2
        command = np.concatenate([[1.0 if is_open else -1.0], steps.action[:-1, 6]])
    if width is None:
        width = (command + 1) / 2 * reading.gripper_max_m
    return np.concatenate([tcp[frame, :3], quat_to_rotvec(tcp[frame, 3:]), width[:, None], command[:, None]], axis=1)
