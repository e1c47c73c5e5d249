"""Checks of what the arm does: numbers, units, limits, pauses, and whether the gripper does what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_multiply, quat_to_rotvec, rotvec_to_quat
from rlco.core.scene import ACTION_DIM, MAX_ROTATION_RAD, MAX_TRANSLATION_M, STATE_DIM
from rlco.data import layout
from rlco.data.validation.findings import Finding
from rlco.data.validation.survey import Survey, SurveyedEpisode
from rlco.data.validation.tables import runs

_ROUNDING = 1.001
"""Commands at the limit are at it after rounding, too."""
_JUMP_MARGIN = 1.5
"""An arm that lags may catch up: this times the limit of a command is no jump."""
_REACH_M = 3.0
"""No table-top arm gets this far from its base."""
_STEP_M = 10 * MAX_TRANSLATION_M
_WIDTH_M = 0.5
_TURN_RAD = 2 * np.pi + 0.1
_STEP_RAD = np.pi
_STILL_M, _STILL_RAD, _STILL_WIDTH_M = 1e-3, 5e-3, 5e-4
"""Less than this between two frames is noise."""
_GRIPPER_PATH_M = 0.005
"""A gripper that moves less in an episode says nothing about the sign."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """One episode in our form."""

    number: int
    state: Float[ndarray, "T 8"]
    action: Float[ndarray, "T 7"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """Some columns of a feature that share a unit, and more than which no arm has [SI]."""

    name: str
    feature: str
    columns: slice
    limit: float
    wrong: str
    """The likely unit of larger numbers."""
    noise: float
    """Less than this says nothing of the unit [SI]."""


QUANTITIES = (
    Quantity(
        name="position", feature=layout.STATE_KEY, columns=slice(0, 3), limit=_REACH_M, wrong="mm", noise=_STILL_M
    ),
    Quantity(
        name="orientation",
        feature=layout.STATE_KEY,
        columns=slice(3, 6),
        limit=_TURN_RAD,
        wrong="deg",
        noise=_STILL_RAD,
    ),
    Quantity(
        name="gripper width",
        feature=layout.STATE_KEY,
        columns=slice(6, 7),
        limit=_WIDTH_M,
        wrong="mm",
        noise=_STILL_WIDTH_M,
    ),
    Quantity(
        name="translation", feature=layout.ACTION_KEY, columns=slice(0, 3), limit=_STEP_M, wrong="mm", noise=_STILL_M
    ),
    Quantity(
        name="rotation", feature=layout.ACTION_KEY, columns=slice(3, 6), limit=_STEP_RAD, wrong="deg", noise=_STILL_RAD
    ),
)


def check_motion(survey: Survey, *, idle_s: float) -> Iterator[Finding]:
    """Yield what is wrong. Checks that need our form are skipped with a note when the dataset has another."""
    for episode in survey.episodes:
        yield from _not_finite(survey, episode)
    other = other_form(survey)
    if other is not None:
        message = f"{other}: limits, units, pauses, gripper and frozen cameras were not checked"
        yield Finding(code="skipped", message=message)
        return
    steps = max(2, round(idle_s * (survey.fps or 1)))
    checks: tuple[Callable[[Motion], Iterator[Finding]], ...] = (_units, _limits, _jumps, _gripper)
    for motion in motions(survey):
        for check in checks:
            yield from check(motion)
        for first, stop in pauses(motion, steps=steps):
            seconds = (stop - first) / (survey.fps or 1)
            message = f"nothing moves for {seconds:.1f} s"
            yield Finding(code="idle", message=message, episode=motion.number, frame=first, stop=stop)


def other_form(survey: Survey) -> str | None:
    """Return in what way the states and actions are not ours, or None if they are."""
    ours = ((layout.STATE_KEY, STATE_DIM, layout.STATE_NAMES), (layout.ACTION_KEY, ACTION_DIM, layout.ACTION_NAMES))
    for name, size, names in ours:
        feature = survey.features.get(name)
        if feature is None:
            return f"it has no {name}"
        if feature.get("shape") != [size]:
            return f"{name} has shape {feature.get('shape')}, ours has [{size}]"
        said = feature.get("names")
        if said is not None and said != list(names):
            return f"the numbers of {name} are {said}, ours are {list(names)}"
    return None


def motions(survey: Survey) -> Iterator[Motion]:
    """Yield the episodes whose states and actions can be read and are finite, in our form."""
    for episode in survey.episodes:
        motion = motion_of(episode)
        if motion is not None:
            yield motion


def motion_of(episode: SurveyedEpisode) -> Motion | None:
    """Return one episode's states and actions, or None if they cannot be used."""
    state, action = episode.column(layout.STATE_KEY), episode.column(layout.ACTION_KEY)
    if state is None or action is None or (state.shape[1], action.shape[1]) != (STATE_DIM, ACTION_DIM):
        return None
    if not (np.isfinite(state).all() and np.isfinite(action).all()):
        return None
    return Motion(number=episode.number, state=state.astype(np.float64), action=action.astype(np.float64))


def out_of_range(motion: Motion, quantity: Quantity) -> Bool[ndarray, " T"]:
    """Return the frames at which no arm has this value."""
    values = motion.state if quantity.feature == layout.STATE_KEY else motion.action
    return np.abs(values[:, quantity.columns]).max(axis=1) > quantity.limit


def is_moved(motion: Motion, quantity: Quantity) -> bool:
    """Return whether the quantity ever has a value that is more than noise."""
    values = motion.state if quantity.feature == layout.STATE_KEY else motion.action
    return bool(np.abs(values[:, quantity.columns]).max() > quantity.noise)


def path_length(motion: Motion) -> Float[ndarray, " t"]:
    """Return how far the TCP moves from each frame to the next [m]; the gripper's way counts as much."""
    moved = np.linalg.norm(np.diff(motion.state[:, :3], axis=0), axis=1)
    return moved + np.abs(np.diff(motion.state[:, 6]))


def pauses(motion: Motion, *, steps: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of at least ``steps`` frames in which nothing is commanded and nothing moves."""
    if len(motion.action) < steps:
        return
    command = motion.action
    still = np.abs(command[:, :3]).max(axis=1) < _STILL_M
    still &= np.abs(command[:, 3:6]).max(axis=1) < _STILL_RAD
    still[1:] &= np.linalg.norm(np.diff(motion.state[:, :3], axis=0), axis=1) < _STILL_M
    still[1:] &= _turned(motion) < _STILL_RAD
    still[1:] &= np.abs(np.diff(motion.state[:, 6])) < _STILL_WIDTH_M
    still[1:] &= np.sign(command[1:, 6]) == np.sign(command[:-1, 6])
    yield from ((first, stop) for first, stop in runs(still) if stop - first >= steps)


def gripper_agreement(motion: Motion) -> float | None:
    """Return how far the gripper goes the way its command says, from -1 to 1; None if it hardly moves."""
    change = np.diff(motion.state[:, 6])
    change = np.where(np.abs(change) > _STILL_WIDTH_M, change, 0.0)
    path = np.abs(change).sum()
    return float((change * np.sign(motion.action[:-1, 6])).sum() / path) if path > _GRIPPER_PATH_M else None


def state_agreement(motion: Motion) -> float | None:
    """Return the same for the command that the state repeats one frame later."""
    shifted = np.concatenate([motion.state[1:, 7], motion.state[-1:, 7]])
    action = motion.action.copy()
    action[:, 6] = shifted
    return gripper_agreement(Motion(number=motion.number, state=motion.state, action=action))


def _not_finite(survey: Survey, episode: SurveyedEpisode) -> Iterator[Finding]:
    for name in survey.columns:
        values = episode.column(name)
        if values is None or not np.issubdtype(values.dtype, np.floating):
            continue
        for first, stop in runs(np.any(~np.isfinite(values), axis=1)):
            message = f"{name} is {values[first].tolist()}"
            yield Finding(code="not-finite", message=message, episode=episode.number, frame=first, stop=stop)


def _units(motion: Motion) -> Iterator[Finding]:
    for quantity in QUANTITIES:
        wrong = out_of_range(motion, quantity)
        if wrong.any():
            frame = int(wrong.argmax())
            values = motion.state if quantity.feature == layout.STATE_KEY else motion.action
            found = values[frame, quantity.columns].round(4).tolist()
            message = f"{quantity.name} of {quantity.feature} is {found}: {quantity.wrong}?"
            yield Finding(code="units", message=message, episode=motion.number, frame=frame)


def _limits(motion: Motion) -> Iterator[Finding]:
    limits = ((QUANTITIES[3], MAX_TRANSLATION_M, "m"), (QUANTITIES[4], MAX_ROTATION_RAD, "rad"))
    for quantity, limit, unit in limits:
        if out_of_range(motion, quantity).any():
            continue
        size = np.abs(motion.action[:, quantity.columns]).max(axis=1)
        for first, stop in runs(size > limit * _ROUNDING):
            message = f"commands {size[first:stop].max():.3f} {unit} of {quantity.name}, the controller does {limit}"
            yield Finding(code="action-limit", message=message, episode=motion.number, frame=first, stop=stop)


def _jumps(motion: Motion) -> Iterator[Finding]:
    if len(motion.state) < 2:
        return
    moved = np.abs(np.diff(motion.state[:, :3], axis=0)).max(axis=1)
    cases = (
        (QUANTITIES[0], moved, MAX_TRANSLATION_M, "m"),
        (QUANTITIES[1], _turned(motion), np.sqrt(3) * MAX_ROTATION_RAD, "rad"),
    )
    for quantity, step, limit, unit in cases:
        if out_of_range(motion, quantity).any():
            continue
        for first, stop in runs(step > _JUMP_MARGIN * limit):
            message = f"the {quantity.name} jumps by {step[first:stop].max():.3f} {unit} from one frame to the next"
            # the jump is seen at the frame after it
            yield Finding(code="state-jump", message=message, episode=motion.number, frame=first + 1, stop=stop + 1)


def _turned(motion: Motion) -> Float[ndarray, " t"]:
    """Return by how much the TCP turns from each frame to the next [rad]."""
    q = rotvec_to_quat(motion.state[:, 3:6])
    return np.linalg.norm(quat_to_rotvec(quat_multiply(quat_conjugate(q[:-1]), q[1:])), axis=-1)


def _gripper(motion: Motion) -> Iterator[Finding]:
    for what, agreement in (("action", gripper_agreement(motion)), ("state", state_agreement(motion))):
        if agreement is not None and agreement < -0.5:
            change = np.diff(motion.state[:, 6])
            frame = int(np.argmax(np.abs(change) > _STILL_WIDTH_M))
            word = "opens" if change[frame] > 0 else "closes"
            message = f"it {word} against the command of its {what} (open is +1), as on {-agreement:.0%} of its way"
            yield Finding(code="gripper-sign", message=message, episode=motion.number, frame=frame)
