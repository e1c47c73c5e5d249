"""Resampling drops no motion and loses no gripper change; forms agree with the pose functions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy import ndarray

from rlco.core.poses import quat_conjugate, quat_multiply, quat_rotate, quat_to_rotvec, rotvec_to_quat, rpy_to_quat
from rlco.core.scene import MAX_ROTATION_RAD, MAX_TRANSLATION_M
from rlco.data.canonical import integrate
from rlco.data.forms import RotationForm, opening, rotation_to_quat
from rlco.data.resample import Steps, resample

IDENTITY = np.array([0.4, 0.1, 0.2, 1.0, 0.0, 0.0, 0.0])


def path(frames: int, *, seed: int = 0, metres: float = 0.004, radians: float = 0.02) -> ndarray:
    """T + 1 poses, T moves of about that size."""
    rng = np.random.default_rng(seed)
    turn = rotvec_to_quat(rng.normal(scale=radians, size=(frames, 3)))
    return integrate(IDENTITY, rng.normal(scale=metres, size=(frames, 3)), turn)


def followed(start: ndarray, steps: Steps) -> ndarray:
    """The poses that the controller is led through."""
    return integrate(start, steps.action[:, :3], rpy_to_quat(steps.action[:, 3:6]))


def angle(a: ndarray, b: ndarray) -> ndarray:
    return np.linalg.norm(quat_to_rotvec(quat_multiply(quat_conjugate(a), b)), axis=-1)


@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(2), Fraction(6)])
@pytest.mark.parametrize("frames", [12, 13])
def test_the_steps_lead_through_every_kept_pose(ratio: Fraction, frames: int) -> None:
    pose = path(frames)
    steps = resample(pose, np.ones(frames), ratio=ratio)
    kept = [*range(0, frames, int(ratio)), frames]
    found = followed(pose[0], steps)
    np.testing.assert_allclose(found[:, :3], pose[kept, :3], atol=1e-9)
    assert angle(found[:, 3:], pose[kept, 3:]).max() < 1e-9
    assert steps.frame.tolist() == kept[:-1]


@pytest.mark.parametrize("rates", [(12, 5), (30, 5), (29.97, 5), (3, 5), (5, 5), (50, 5), (1, 5)])
@pytest.mark.parametrize("frames", [1, 2, 31])
def test_the_total_motion_and_the_duration_survive_any_ratio(rates: tuple[float, int], frames: int) -> None:
    pose, ratio = path(frames, seed=1), Fraction(str(rates[0])) / rates[1]
    steps = resample(pose, np.ones(frames), ratio=ratio)
    end = followed(pose[0], steps)[-1]
    np.testing.assert_allclose(end[:3], pose[-1, :3], atol=1e-9)
    assert angle(end[3:], pose[-1, 3:]) < 1e-9
    assert len(steps.action) == int(np.ceil(round(frames / float(ratio), 9)))
    assert steps.inserted == 0


def test_a_step_shows_the_recorded_frame_nearest_to_its_beginning() -> None:
    # 12 Hz to 5 Hz: steps begin at frames 0, 2.4, 4.8, 7.2, 9.6
    assert resample(path(12), np.ones(12), ratio=Fraction(12, 5)).frame.tolist() == [0, 2, 5, 7, 10]
    # 3 Hz to 5 Hz: 0, 0.6, 1.2, 1.8, 2.4
    assert resample(path(3), np.ones(3), ratio=Fraction(3, 5)).frame.tolist() == [0, 1, 1, 2, 2]


def test_up_sampling_goes_straight_from_pose_to_pose() -> None:
    pose = path(4)
    found = followed(pose[0], resample(pose, np.ones(4), ratio=Fraction(1, 2)))
    np.testing.assert_allclose(found[1::2, :3], (pose[:-1, :3] + pose[1:, :3]) / 2, atol=1e-12)
    np.testing.assert_allclose(angle(found[1::2, 3:], pose[:-1, 3:]), angle(pose[1:, 3:], pose[:-1, 3:]) / 2)


def test_a_motion_beyond_the_limit_is_counted_and_not_clipped() -> None:
    pose = path(20, metres=0.03)
    steps = resample(pose, np.ones(20), ratio=Fraction(10))
    assert steps.too_fast == 2
    assert steps.inserted == 0
    np.testing.assert_allclose(steps.action[:, :3].sum(axis=0), pose[-1, :3] - pose[0, :3], atol=1e-12)


def test_inserted_steps_keep_the_limit_and_the_motion_and_show_frames_in_between() -> None:
    pose = path(20, metres=0.03, radians=0.1)
    plain = resample(pose, np.ones(20), ratio=Fraction(10))
    steps = resample(pose, np.ones(20), ratio=Fraction(10), insert=True)
    assert plain.too_fast == steps.too_fast == 2
    assert steps.inserted == len(steps.action) - 2 > 0
    assert np.abs(steps.action[:, :3]).max() <= MAX_TRANSLATION_M + 1e-6
    assert np.abs(steps.action[:, 3:6]).max() <= MAX_ROTATION_RAD + 1e-6
    end = followed(pose[0], steps)[-1]
    np.testing.assert_allclose(end[:3], pose[-1, :3], atol=1e-9)
    assert angle(end[3:], pose[-1, 3:]) < 1e-9
    assert np.diff(steps.frame).min() >= 0
    assert len(set(steps.frame.tolist())) > 2


def changes(gripper: ndarray) -> list[int]:
    return np.flatnonzero(np.diff(np.sign(gripper)) != 0).tolist()


def test_a_step_has_the_gripper_command_of_its_last_frame() -> None:
    gripper = np.array([0.2, 0.4, 0.6, 0.8, 1.0, -0.5])
    assert resample(path(6), gripper, ratio=Fraction(2)).action[:, 6].tolist() == [0.4, 0.8, -0.5]


@pytest.mark.parametrize("rate", [12, 30, 7, 3, 29.97])
def test_no_gripper_change_is_lost_or_moved_by_more_than_a_step(rate: float) -> None:
    rng, ratio = np.random.default_rng(2), Fraction(str(rate)) / 5
    # runs of at least one control step each, so that the changes are possible
    least = math.ceil(ratio)
    runs = rng.integers(least, 3 * least + 1, size=40)
    gripper = np.repeat(np.where(np.arange(40) % 2, 1.0, -1.0), runs)
    found = resample(path(len(gripper)), gripper, ratio=ratio).action[:, 6]
    wanted = np.cumsum(runs)[:-1] / float(ratio)
    assert len(changes(found)) == 39
    # change i happens at the beginning of a step
    assert np.abs(np.array(changes(found)) + 1 - wanted).max() <= 1 + 1e-9


def test_a_gripper_pulse_within_a_step_comes_out_as_a_step_of_its_own() -> None:
    gripper = -np.ones(18)
    gripper[7:9] = 1.0  # within the second of three steps
    assert resample(path(18), gripper, ratio=Fraction(6)).action[:, 6].tolist() == [-1.0, 1.0, -1.0]
    gripper = -np.ones(12)
    gripper[8:10] = 1.0  # within the last step: one more is needed to close again
    steps = resample(path(12), gripper, ratio=Fraction(6))
    assert steps.action[:, 6].tolist() == [-1.0, 1.0, -1.0]
    assert steps.inserted == 1
    np.testing.assert_allclose(steps.action[2, :6], 0, atol=1e-12)


def test_a_gripper_that_chatters_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 2: the gripper changes more often than once a control step"):
        resample(path(12), np.array([1.0, -1, 1, -1, 1, -1] * 2), ratio=Fraction(6))


def quats(count: int = 30) -> ndarray:
    q = np.random.default_rng(3).normal(size=(count, 4))
    # every branch of the way back from a matrix: turns of nearly pi about each axis, and none
    special = np.array([[1.0, 0, 0, 0], [1e-9, 1, 0, 0], [1e-9, 0, 1, 0], [1e-9, 0, 0, 1]])
    q = np.concatenate([q, special])
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def matrices(q: ndarray) -> ndarray:
    """Columns are the rotated axes."""
    return np.stack([quat_rotate(q, np.broadcast_to(axis, (len(q), 3))) for axis in np.eye(3)], axis=2)


def written(q: ndarray, form: RotationForm) -> ndarray:
    """The opposite of what is tested, by the formulas of the pose functions."""
    m = matrices(q)
    if form == "rpy":
        pitch = np.arcsin(np.clip(-m[:, 2, 0], -1, 1))
        return np.stack([np.arctan2(m[:, 2, 1], m[:, 2, 2]), pitch, np.arctan2(m[:, 1, 0], m[:, 0, 0])], axis=1)
    if form == "rotvec":
        return quat_to_rotvec(q)
    if form == "6d":
        return np.concatenate([m[:, :, 0], m[:, :, 1]], axis=1)
    return q if form == "quat-wxyz" else q[:, [1, 2, 3, 0]]


@pytest.mark.parametrize("form", ["rpy", "rotvec", "quat-wxyz", "quat-xyzw", "6d"])
def test_every_form_of_a_rotation_is_the_same_rotation(form: RotationForm) -> None:
    q = quats()
    found = rotation_to_quat(written(q, form), form, radians=1.0)
    # rpy from a matrix loses digits where the pitch is near a right angle
    np.testing.assert_allclose(matrices(found), matrices(q), atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-12)


def test_a_rotation_that_is_none_names_its_frame() -> None:
    q = quats()
    q[4] *= 0.5
    with pytest.raises(ValueError, match=r"frame 4: .* read as 'quat-xyzw' is not a unit quaternion"):
        rotation_to_quat(q, "quat-xyzw", radians=1.0)
    columns = written(quats(), "6d")
    columns[7, 3:] = columns[7, :3]
    with pytest.raises(ValueError, match=r"frame 7: .* '6d' is not two columns"):
        rotation_to_quat(columns, "6d", radians=1.0)


@pytest.mark.parametrize(
    ("form", "values", "share"),
    [
        ("signed-open", [-1, 0.5, 1], [0, 0.75, 1]),
        ("signed-close", [-1, 0.5, 1], [1, 0.25, 0]),
        ("unit-open", [0, 0.25, 1], [0, 0.25, 1]),
        ("unit-close", [0, 0.25, 1], [1, 0.75, 0]),
        ("width", [0, 20, 80], [0, 0.25, 1]),
        ("finger", [0, -10, 40], [0, 0.25, 1]),
    ],
)
def test_every_form_of_a_gripper_is_the_same_opening(form: str, values: list[float], share: list[float]) -> None:
    # lengths in millimetres
    found = opening(np.array(values, dtype=np.float64), form, metres=1e-3, widest_m=0.08)  # pyright: ignore[reportArgumentType]
    np.testing.assert_allclose(found, share)


def test_a_gripper_out_of_its_range_names_the_frame() -> None:
    with pytest.raises(ValueError, match=r"frame 1: \[-1\] read as 'unit-open'"):
        opening(np.array([0.0, -1.0]), "unit-open", metres=1.0, widest_m=0.08)
