"""Step and render many environments that live in this process: one model, one state each, one camera."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from rlco.core.scene import RGB, STATE_DIM, Facts, InitialState, SceneSpec
from rlco.engines.mujoco import panda
from rlco.engines.mujoco.appearance import Appearance
from rlco.engines.mujoco.controller import Controller, Memory
from rlco.engines.mujoco.dynamics import Dynamics
from rlco.engines.mujoco.renderer import Renderer
from rlco.engines.mujoco.scene import compile_scene

PIECES = 5
"""Joint commands per control period; between two of them the command is constant."""
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION.value
_GREY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedState:
    """Everything that decides how one environment goes on. Pickles."""

    physics: Float[ndarray, " N"]
    memory: Float[ndarray, " 30"]
    initial: InitialState
    noise_seed: int
    steps: int


@dataclass(slots=True)
class _Slot:
    """One environment, with views of its state that stay valid."""

    data: mujoco.MjData
    memory: Memory
    rgb: Float[ndarray, "n 3"]
    initial: InitialState | None = None
    noise_seed: int = 0
    steps: int = 0
    """Control steps since the reset; chooses the pixel noise of a frame."""
    qpos: Float[ndarray, " nq"] = field(init=False)
    ctrl: Float[ndarray, " nu"] = field(init=False)

    def __post_init__(self) -> None:
        self.qpos, self.ctrl = self.data.qpos, self.data.ctrl


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
        self.model = compile_scene(scene, appearance=self._appearance, dynamics=dynamics, image_size=image_size)
        self._ticks = _ticks_per_piece(1 / control_hz, dynamics.timestep_s)
        self._controller = Controller(period_s=1 / control_hz, latency_s=dynamics.latency_s, pieces=PIECES)
        self._renderer = Renderer(
            self.model, camera=scene.camera.name, image_size=image_size, appearance=self._appearance
        )
        self._names = [item.name for item in scene.objects]
        self._colours = self.model.geom_rgba
        self._geoms = np.array([self._id(mujoco.mjtObj.mjOBJ_GEOM, name) for name in self._names], dtype=int)
        self._addresses = [int(self.model.joint(name).qposadr[0]) for name in self._names]
        self._site = self._id(mujoco.mjtObj.mjOBJ_SITE, panda.TCP)
        self._is_robot = self.model.geom_contype == panda.ROBOT_CONTACT
        self._quat, self._rotvec = np.zeros(4), np.zeros(3)
        self._slots = [
            _Slot(mujoco.MjData(self.model), Memory(), np.ones((len(self._names), 3))) for _ in range(num_envs)
        ]

    @property
    def ticks_per_step(self) -> int:
        """Physics ticks in one control step."""
        return PIECES * self._ticks

    def reset(self, e: int, initial: InitialState, *, noise_seed: int = 0) -> None:
        """Put environment ``e`` at the start of an episode, at rest."""
        slot = self._slots[e]
        mujoco.mj_resetData(self.model, slot.data)
        slot.initial, slot.noise_seed, slot.steps = initial, noise_seed, 0
        arm = self._controller.start(slot.memory, initial.tcp_offset_m)
        slot.qpos[: panda.ARM_JOINTS] = arm
        slot.ctrl[: panda.ARM_JOINTS] = arm
        for name, address in zip(self._names, self._addresses, strict=True):
            slot.qpos[address : address + 7] = initial.object_pose[name]
        self._paint(slot)
        mujoco.mj_forward(self.model, slot.data)

    def control_step(self, e: int, action: Float[ndarray, " 7"]) -> bool:
        """Run one control period; return whether inverse kinematics reached the commanded pose.

        Raises ``FloatingPointError`` if the physics diverged.
        """
        slot = self._slots[e]
        reached = self._controller.accept(slot.memory, action)
        for command in self._controller.commands(slot.memory):
            slot.ctrl[:] = command
            mujoco.mj_step(self.model, slot.data, self._ticks)
        slot.steps += 1
        if not np.isfinite(slot.qpos.sum()):
            raise FloatingPointError(f"The simulation of environment {e} diverged; initial state {slot.initial}.")
        mujoco.mj_kinematics(self.model, slot.data)  # poses are one tick behind after mj_step
        return reached

    def render(self, e: int, out: UInt8[ndarray, "size size 3"]) -> None:
        """Write the camera's picture of environment ``e`` into ``out``."""
        slot = self._slots[e]
        self._colours[self._geoms, :3] = slot.rgb
        self._renderer.render(slot.data, out, noise_key=slot.noise_seed + slot.steps)

    def observe_state(self, e: int, out: Float[ndarray, " 8"] | None = None) -> Float[ndarray, " 8"]:
        """Return TCP xyz, TCP rotation vector, gripper width and gripper command."""
        out = np.empty(STATE_DIM, np.float32) if out is None else out
        slot = self._slots[e]
        mujoco.mju_mat2Quat(self._quat, slot.data.site_xmat[self._site])
        mujoco.mju_quat2Vel(self._rotvec, self._quat, 1.0)
        out[:3], out[3:6] = slot.data.site_xpos[self._site], self._rotvec
        out[6], out[7] = self._width(slot), slot.memory.gripper[1]
        return out

    def facts(self, envs: Sequence[int], *, touching: bool = True) -> Facts:
        """Return what a task needs to judge these environments; ``touching=False`` skips the contact search."""
        slots = [self._slots[e] for e in envs]
        return Facts(
            tcp_pose=np.stack([self._tcp_pose(slot) for slot in slots]),
            gripper_width_m=np.array([self._width(slot) for slot in slots]),
            object_pose={
                name: np.stack([slot.qpos[address : address + 7] for slot in slots])
                for name, address in zip(self._names, self._addresses, strict=True)
            },
            initial=tuple(self._initial(slot) for slot in slots),
            touching=self._touching(slots) if touching else {},
        )

    def get_state(self, e: int) -> SavedState:
        """Return a copy of everything that decides how environment ``e`` goes on."""
        slot = self._slots[e]
        physics = np.empty(mujoco.mj_stateSize(self.model, _STATE))
        mujoco.mj_getState(self.model, slot.data, physics, _STATE)
        return SavedState(
            physics=physics,
            memory=slot.memory.array.copy(),
            initial=self._initial(slot),
            noise_seed=slot.noise_seed,
            steps=slot.steps,
        )

    def set_state(self, e: int, saved: SavedState) -> None:
        """Put environment ``e`` exactly where ``saved`` was taken."""
        slot = self._slots[e]
        slot.initial, slot.noise_seed, slot.steps = saved.initial, saved.noise_seed, saved.steps
        self._paint(slot)
        mujoco.mj_resetData(self.model, slot.data)
        mujoco.mj_forward(self.model, slot.data)  # camera and light frames
        mujoco.mj_setState(self.model, slot.data, saved.physics, _STATE)
        slot.memory.array[:] = saved.memory
        mujoco.mj_kinematics(self.model, slot.data)

    def data(self, e: int) -> mujoco.MjData:
        """Return the bare MuJoCo state of environment ``e``, for benchmarks."""
        return self._slots[e].data

    def close(self) -> None:
        """Free the GL objects."""
        self._renderer.close()

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        return mujoco.mj_name2id(self.model, kind, name)

    def _initial(self, slot: _Slot) -> InitialState:
        assert slot.initial is not None, "reset an environment before asking about it"
        return slot.initial

    def _paint(self, slot: _Slot) -> None:
        colours = self._initial(slot).object_rgb
        for row, name in zip(slot.rgb, self._names, strict=True):
            row[:] = seen_rgb(colours[name], self._appearance)

    def _tcp_pose(self, slot: _Slot) -> Float[ndarray, " 7"]:
        mujoco.mju_mat2Quat(self._quat, slot.data.site_xmat[self._site])
        return np.concatenate([slot.data.site_xpos[self._site], self._quat])

    def _width(self, slot: _Slot) -> float:
        return float(slot.qpos[panda.ARM_JOINTS] + slot.qpos[panda.ARM_JOINTS + 1])

    def _touching(self, slots: list[_Slot]) -> dict[str, Bool[ndarray, " E"]]:
        touching = {name: np.zeros(len(slots), dtype=bool) for name in self._names}
        for row, slot in enumerate(slots):
            mujoco.mj_collision(self.model, slot.data)
            pairs = slot.data.contact.geom
            robot = self._is_robot[pairs]
            others = pairs[robot.any(axis=1)]
            for name, geom in zip(self._names, self._geoms, strict=True):
                touching[name][row] = bool((others == geom).any())
        return touching


def seen_rgb(rgb: RGB, appearance: Appearance) -> Float[ndarray, " 3"]:
    """Return an object's colour as this world paints it."""
    colour = np.array(rgb)
    grey = _GREY @ colour
    return np.clip(appearance.object_brightness * (grey + appearance.object_saturation * (colour - grey)), 0, 1)


def _ticks_per_piece(period_s: float, timestep_s: float) -> int:
    ticks = period_s / PIECES / timestep_s
    if abs(ticks - round(ticks)) > 1e-6 or round(ticks) < 1:
        raise ValueError(f"{PIECES} times a whole number of {timestep_s} s ticks must give {period_s} s.")
    return round(ticks)
