"""Step and render many environments that live in this process: a model for each set of objects, one camera."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from rlco.core.poses import quat_rotate
from rlco.core.scene import STATE_DIM, Facts, InitialState, SceneSpec
from rlco.engines.mujoco import panda
from rlco.engines.mujoco.appearance import Appearance
from rlco.engines.mujoco.controller import Controller, Memory
from rlco.engines.mujoco.dynamics import Dynamics
from rlco.engines.mujoco.renderer import Renderer
from rlco.engines.mujoco.variants import Variant, Variants

PIECES = 5
"""Joint commands per control period; between two of them the command is constant."""
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedState:
    """Everything that decides how one environment goes on. Pickles."""

    physics: Float[ndarray, " N"]
    memory: Float[ndarray, " 32"]
    initial: InitialState
    noise_seed: int
    steps: int
    nudged: bool


@dataclass(slots=True)
class _Slot:
    """One environment."""

    variant: Variant
    data: mujoco.MjData
    memory: Memory
    rgb: Float[ndarray, "n 3"]
    """What is painted, row by row as in ``variant.painted``."""
    initial: InitialState | None = None
    noise_seed: int = 0
    steps: int = 0
    """Control steps since the reset; chooses the pixel noise of a frame."""
    nudged: bool = False
    """Whether the start's nudge has happened."""
    qpos: Float[ndarray, " nq"] = field(init=False)
    ctrl: Float[ndarray, " nu"] = field(init=False)

    def __post_init__(self) -> None:
        self.take(self.variant, self.data)

    def take(self, variant: Variant, data: mujoco.MjData) -> None:
        """Live in another model from now on; the views are of its state."""
        self.variant, self.data = variant, data
        self.qpos, self.ctrl = data.qpos, data.ctrl


class Simulation:
    """``num_envs`` independent copies of a scene. See the module's docstring."""

    def __init__(
        self,
        scene: SceneSpec,
        *,
        num_envs: int,
        image_size: int,
        appearance: Appearance | None = None,
        dynamics: Dynamics | None = None,
        control_hz: float = 5.0,
    ) -> None:
        self._appearance, dynamics = appearance or Appearance(), dynamics or Dynamics()
        self._variants = Variants(scene, appearance=self._appearance, dynamics=dynamics, image_size=image_size)
        bare = self._variants.bare()
        self._ticks = _ticks_per_piece(1 / control_hz, dynamics.timestep_s)
        self._controller = Controller(period_s=1 / control_hz, latency_s=dynamics.latency_s, pieces=PIECES)
        self._renderer = Renderer(
            bare.model, camera=scene.camera.name, image_size=image_size, appearance=self._appearance
        )
        self._quat, self._rotvec = np.zeros(4), np.zeros(3)
        data = mujoco.MjData(bare.model)  # until its first reset an environment is empty
        self._slots = [_Slot(bare, data, Memory(), np.ones((0, 3))) for _ in range(num_envs)]

    @property
    def ticks_per_step(self) -> int:
        """Physics ticks in one control step."""
        return PIECES * self._ticks

    def reset(self, e: int, initial: InitialState, *, noise_seed: int = 0) -> None:
        """Put environment ``e`` at the start of an episode, at rest."""
        slot = self._slots[e]
        self._enter(slot, initial)
        slot.noise_seed, slot.steps, slot.nudged = noise_seed, 0, False
        arm = self._controller.start(slot.memory, initial.tcp_offset_m, initial.tcp_yaw_rad)
        slot.qpos[: panda.ARM_JOINTS] = arm
        slot.ctrl[: panda.ARM_JOINTS] = arm
        self._place(slot, initial)
        mujoco.mj_forward(slot.variant.model, slot.data)

    def control_step(self, e: int, action: Float[ndarray, " 7"]) -> bool:
        """Run one control period; return whether inverse kinematics reached the commanded pose.

        Raises ``FloatingPointError`` if the physics diverged.
        """
        slot = self._slots[e]
        self._nudge(slot)
        reached = self._controller.accept(slot.memory, action)
        for command in self._controller.commands(slot.memory):
            slot.ctrl[:] = command
            mujoco.mj_step(slot.variant.model, slot.data, self._ticks)
        slot.steps += 1
        if not math.isfinite(slot.qpos.sum()):
            raise FloatingPointError(f"The simulation of environment {e} diverged; initial state {slot.initial}.")
        mujoco.mj_kinematics(slot.variant.model, slot.data)  # poses are one tick behind after mj_step
        return reached

    def render(self, e: int, out: UInt8[ndarray, "size size 3"]) -> None:
        """Write the camera's picture of environment ``e`` into ``out``."""
        slot = self._slots[e]
        variant = slot.variant
        variant.rgba[variant.painted[:, 0], :3] = slot.rgb
        self._renderer.render(variant.model, slot.data, out, noise_key=slot.noise_seed + slot.steps)

    def observe_state(self, e: int, out: Float[ndarray, " 8"] | None = None) -> Float[ndarray, " 8"]:
        """Return TCP xyz, TCP rotation vector, gripper width and gripper command."""
        out = np.empty(STATE_DIM, np.float32) if out is None else out
        slot = self._slots[e]
        mujoco.mju_mat2Quat(self._quat, slot.data.site_xmat[slot.variant.site])
        mujoco.mju_quat2Vel(self._rotvec, self._quat, 1.0)
        out[:3], out[3:6] = slot.data.site_xpos[slot.variant.site], self._rotvec
        out[6], out[7] = self._width(slot), slot.memory.gripper[1]
        return out

    def facts(self, envs: Sequence[int], *, touching: bool = True) -> Facts:
        """Return what a task needs to judge these environments; ``touching=False`` skips the contact search."""
        slots = [self._slots[e] for e in envs]
        return Facts(
            tcp_pose=np.stack([self._tcp_pose(slot) for slot in slots]),
            gripper_width_m=np.array([self._width(slot) for slot in slots]),
            initial=tuple(self._initial(slot) for slot in slots),
            **_things(slots),
            **(self._contacts(slots) if touching else {}),
        )

    def get_state(self, e: int) -> SavedState:
        """Return a copy of everything that decides how environment ``e`` goes on."""
        slot = self._slots[e]
        physics = np.empty(mujoco.mj_stateSize(slot.variant.model, _STATE))
        mujoco.mj_getState(slot.variant.model, slot.data, physics, _STATE)
        return SavedState(
            physics=physics,
            memory=slot.memory.array.copy(),
            initial=self._initial(slot),
            noise_seed=slot.noise_seed,
            steps=slot.steps,
            nudged=slot.nudged,
        )

    def set_state(self, e: int, saved: SavedState) -> None:
        """Put environment ``e`` exactly where ``saved`` was taken."""
        slot = self._slots[e]
        self._enter(slot, saved.initial)
        slot.noise_seed, slot.steps, slot.nudged = saved.noise_seed, saved.steps, saved.nudged
        model = slot.variant.model
        mujoco.mj_forward(model, slot.data)  # camera and light frames
        mujoco.mj_setState(model, slot.data, saved.physics, _STATE)
        slot.memory.array[:] = saved.memory
        mujoco.mj_kinematics(model, slot.data)

    def data(self, e: int) -> mujoco.MjData:
        """Return the bare MuJoCo state of environment ``e``, for benchmarks."""
        return self._slots[e].data

    def model(self, e: int) -> mujoco.MjModel:
        """Return the model in which environment ``e`` lives until its next reset."""
        return self._slots[e].variant.model

    def close(self) -> None:
        """Free the GL objects."""
        self._renderer.close()

    def _initial(self, slot: _Slot) -> InitialState:
        assert slot.initial is not None, "reset an environment before asking about it"
        return slot.initial

    def _enter(self, slot: _Slot, initial: InitialState) -> None:
        """Give ``slot`` a fresh state of the model that ``initial`` needs, and its colours."""
        variant = self._variants.of(initial)
        if variant is slot.variant and slot.initial is not None:
            mujoco.mj_resetData(variant.model, slot.data)
        else:
            slot.take(variant, mujoco.MjData(variant.model))
        slot.initial = initial
        seen = [self._appearance.seen_rgb(initial.object_rgb[name]) for name in variant.names]
        slot.rgb = np.array([seen[i] for i in variant.painted[:, 1]]).reshape(-1, 3)

    @staticmethod
    def _place(slot: _Slot, initial: InitialState) -> None:
        """Put everything where the start says."""
        variant = slot.variant
        for name in variant.objects:
            slot.qpos[variant.address[name] : variant.address[name] + 7] = initial.object_pose[name]
        for name in variant.fixtures:
            pose, opening = np.array(initial.object_pose[name]), initial.joint_value.get(name, 0.0)
            slot.qpos[variant.address[name]] = opening
            # the pose is the sliding part's: the fixed part is behind it by the opening
            slot.data.mocap_pos[variant.mocap[name]] = pose[:3] + quat_rotate(pose[3:], np.array([opening, 0.0, 0.0]))
            slot.data.mocap_quat[variant.mocap[name]] = pose[3:]

    def _nudge(self, slot: _Slot) -> None:
        """Move the object that the start says, once, when its time has come and the hand is off it."""
        nudge = self._initial(slot).nudge
        if nudge is None or slot.nudged or slot.steps < nudge.step:
            return
        if not self._contacts([slot])["touching"][nudge.object][0]:
            address = slot.variant.address[nudge.object]
            slot.qpos[address : address + 2] += nudge.offset_m
            slot.nudged = True

    def _tcp_pose(self, slot: _Slot) -> Float[ndarray, " 7"]:
        mujoco.mju_mat2Quat(self._quat, slot.data.site_xmat[slot.variant.site])
        return np.concatenate([slot.data.site_xpos[slot.variant.site], self._quat])

    def _width(self, slot: _Slot) -> float:
        return float(slot.qpos[panda.ARM_JOINTS] + slot.qpos[panda.ARM_JOINTS + 1])

    @staticmethod
    def _contacts(slots: list[_Slot]) -> dict[str, dict[str, Bool[ndarray, " E"]]]:
        """Return which things the robot touches, and which are between its fingers."""
        names = list(dict.fromkeys(name for slot in slots for name in slot.variant.names))
        touching = {name: np.zeros(len(slots), dtype=bool) for name in names}
        grasped = {name: np.zeros(len(slots), dtype=bool) for name in names}
        for row, slot in enumerate(slots):
            variant = slot.variant
            mujoco.mj_collision(variant.model, slot.data)
            pairs = slot.data.contact.geom
            pairs = np.concatenate([pairs, pairs[:, ::-1]])
            pairs = pairs[variant.is_robot[pairs[:, 0]]]
            owner, finger = variant.owner[pairs[:, 1]], variant.finger[pairs[:, 0]]
            for i in np.unique(owner[owner >= 0]):
                touching[variant.names[i]][row] = True
                by = finger[owner == i]
                grasped[variant.names[i]][row] = bool((by == 0).any() and (by == 1).any())
        return {"touching": touching, "grasped": grasped}


def _things(slots: list[_Slot]) -> dict[str, dict[str, ndarray]]:
    """Return pose, speed and opening of everything on the tables; NaN where it is not."""
    objects = dict.fromkeys(name for slot in slots for name in slot.variant.names)
    fixtures = dict.fromkeys(name for slot in slots for name in slot.variant.fixtures)
    pose = {name: np.full((len(slots), 7), np.nan) for name in objects}
    speed = {name: np.full(len(slots), np.nan) for name in objects}
    opening = {name: np.full(len(slots), np.nan) for name in fixtures}
    for row, slot in enumerate(slots):
        variant, data = slot.variant, slot.data
        for name in variant.objects:
            address, dof = variant.address[name], variant.dof[name]
            pose[name][row] = slot.qpos[address : address + 7]
            x, y, z = data.qvel[dof : dof + 3]
            speed[name][row] = (x * x + y * y + z * z) ** 0.5
        for name in variant.fixtures:
            body = variant.body[name]
            pose[name][row, :3], pose[name][row, 3:] = data.xpos[body], data.xquat[body]
            opening[name][row] = slot.qpos[variant.address[name]]
            speed[name][row] = abs(data.qvel[variant.dof[name]])
    return {"object_pose": pose, "object_speed": speed, "joint_value": opening}


def _ticks_per_piece(period_s: float, timestep_s: float) -> int:
    ticks = period_s / PIECES / timestep_s
    if abs(ticks - round(ticks)) > 1e-6 or round(ticks) < 1:
        raise ValueError(f"{PIECES} times a whole number of {timestep_s} s ticks must give {period_s} s.")
    return round(ticks)
