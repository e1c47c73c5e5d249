"""The Franka Emika Panda: true kinematics, limits and masses, low-poly meshes, and a box for every contact.

The meshes are the collision meshes of the installed ``gymnasium-robotics`` package (Apache-2.0): 2,300 triangles.

**The TCP frame.** The site ``TCP`` lies between the fingertips. At the home pose the fingers point straight down and
the site's axes equal the base frame's (x forward, y left, z up), so the rotation vector in the robot's state is near
zero there. A tool frame that points down would sit at the rotation vector's singularity (an angle of pi).
"""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import mujoco
import numpy as np

from rlco.core.scene import RGB
from rlco.engines.mujoco.appearance import Vector
from rlco.engines.mujoco.dynamics import Dynamics

ARM_JOINTS = 7
TCP = "tcp"
FINGERS = ("left_finger", "right_finger")
"""Their bodies."""
HOME_QPOS = np.array([0.0, -0.04766, 0.0, -2.79198, 0.0, 2.74431, np.pi / 4])
"""Inverse kinematics of ``HOME_POSE``, to 1e-5 rad."""
HOME_POSE = np.array([0.38, 0.0, 0.12, 1.0, 0.0, 0.0, 0.0])
"""TCP at home, xyz [m] and quaternion: fingers straight down."""
FINGER_TRAVEL_M = 0.04
"""Opening of one finger; the gripper's width is twice that."""
TCP_FROM_HAND_M = 0.1034
FINGER_GAIN = 200.0
FINGER_DAMPING = 12.0
FINGER_FORCE_N = 20.0

ROBOT_CONTACT, TABLE_CONTACT, OBJECT_CONTACT = 4, 1, 2
"""Contact bits: objects meet everything, the robot meets objects and the table, never itself."""

WHITE: RGB = (0.93, 0.93, 0.93)
DARK: RGB = (0.26, 0.27, 0.29)
Quaternion = tuple[float, float, float, float]
Inertia = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Link:
    """One moving link: where it hangs on its parent, its inertia, and its joint."""

    position_m: Vector
    quat: Quaternion
    mass_kg: float
    centre_m: Vector
    inertia: Inertia
    """xx yy zz xy xz yz [kg m2]."""
    range_rad: tuple[float, float]
    gain: float
    """Position gain [N m / rad]."""
    force_nm: float


_TURN_BACK, _TURN = (1.0, -1.0, 0.0, 0.0), (1.0, 1.0, 0.0, 0.0)

# Kinematics: Franka's published Denavit-Hartenberg parameters. Inertias: identified values as used by the public
# Panda models (Gaz et al., 2019).
_LINKS = (
    _Link((0.0, 0.0, 0.333), (1.0, 0.0, 0.0, 0.0), 4.970684, (0.003875, 0.002081, -0.04762),
          (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169), (-2.8973, 2.8973), 4500.0, 87.0),
    _Link((0.0, 0.0, 0.0), _TURN_BACK, 0.646926, (-0.003141, -0.02872, 0.003495),
          (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704), (-1.7628, 1.7628), 4500.0, 87.0),
    _Link((0.0, -0.316, 0.0), _TURN, 3.228604, (0.027518, 0.039252, -0.066502),
          (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805), (-2.8973, 2.8973), 3500.0, 87.0),
    _Link((0.0825, 0.0, 0.0), _TURN, 3.587895, (-0.05317, 0.104419, 0.027454),
          (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641), (-3.0718, -0.0698), 3500.0, 87.0),
    _Link((-0.0825, 0.384, 0.0), _TURN_BACK, 1.225946, (-0.011953, 0.041065, -0.038437),
          (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229), (-2.8973, 2.8973), 2000.0, 12.0),
    _Link((0.0, 0.0, 0.0), _TURN, 1.666555, (0.060149, -0.014117, -0.010517),
          (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341), (-0.0175, 3.7525), 2000.0, 12.0),
    _Link((0.088, 0.0, 0.0), _TURN, 0.735522, (0.010517, -0.004252, 0.061597),
          (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741), (-2.8973, 2.8973), 2000.0, 12.0),
)  # fmt: skip
_VELOCITY_GAIN_S = 0.05
"""Velocity gain over position gain: the time constant with which a joint follows its command."""

JOINT_LOW = np.array([link.range_rad[0] for link in _LINKS])
JOINT_HIGH = np.array([link.range_rad[1] for link in _LINKS])


@cache
def mesh_folder() -> Path:
    """Return the folder of STL files, without importing the package that carries them."""
    spec = find_spec("gymnasium_robotics")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("The robot's meshes are missing. Run: pip install gymnasium-robotics")
    assets = Path(spec.submodule_search_locations[0]) / "envs" / "assets" / "kitchen_franka" / "franka_assets"
    return assets / "meshes" / "collision"


def add_panda(spec: mujoco.MjSpec, *, dynamics: Dynamics, tint: RGB, meshes: bool) -> None:
    """Add the robot, its actuators and the TCP site to ``spec``, base at the origin.

    ``meshes=False`` gives the kinematics only, for inverse kinematics.
    """
    skin = _Skin(spec, tint) if meshes else None
    parent = spec.worldbody
    if skin:
        skin.add(parent, "link0", WHITE)
    for i, link in enumerate(_LINKS, start=1):
        parent = parent.add_body(name=f"link{i}", pos=link.position_m, quat=link.quat, gravcomp=1.0)
        parent.mass, parent.ipos, parent.fullinertia = link.mass_kg, link.centre_m, link.inertia
        parent.explicitinertial = True
        parent.add_joint(name=f"joint{i}", axis=(0, 0, 1), range=link.range_rad, limited=True, armature=0.1)
        if skin:
            skin.add(parent, f"link{i}", WHITE)
        _add_actuator(
            spec,
            joint=f"joint{i}",
            gain=link.gain * dynamics.stiffness_scale,
            damping=link.gain * _VELOCITY_GAIN_S * dynamics.damping_scale,
            force=link.force_nm,
        )
    _add_hand(spec, parent, skin, dynamics)


class _Skin:
    """Adds visual meshes, tinted."""

    def __init__(self, spec: mujoco.MjSpec, tint: RGB) -> None:
        self._tint = np.array(tint)
        for name in [*(f"link{i}" for i in range(ARM_JOINTS + 1)), "hand", "finger"]:
            spec.add_mesh(name=name, file=str(mesh_folder() / f"{name}.stl"))

    def add(self, body: mujoco.MjsBody, mesh: str, rgb: RGB) -> None:
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=mesh,
            rgba=(*np.clip(self._tint * rgb, 0, 1), 1.0),
            contype=0,
            conaffinity=0,
            mass=0.0,
        )


def _add_hand(spec: mujoco.MjSpec, flange: mujoco.MjsBody, skin: _Skin | None, dynamics: Dynamics) -> None:
    hand = flange.add_body(name="hand", pos=(0, 0, 0.107), quat=(0.9238795, 0, 0, -0.3826834), gravcomp=1.0)
    hand.mass, hand.ipos, hand.inertia = 0.73, (-0.01, 0, 0.03), (0.001, 0.0025, 0.0017)
    hand.explicitinertial = True
    _add_contact_box(hand, centre=(0.0, 0.0, 0.02), half=(0.0316, 0.102, 0.046))
    # half a turn about x: the hand's z points out of the fingers, the TCP's z out of the table
    hand.add_site(name=TCP, pos=(0, 0, TCP_FROM_HAND_M), quat=(0, 1, 0, 0))
    if skin:
        skin.add(hand, "hand", WHITE)
    for name, quat in zip(FINGERS, ((1, 0, 0, 0), (0, 0, 0, 1)), strict=True):
        finger = hand.add_body(name=name, pos=(0, 0, 0.0584), quat=quat, gravcomp=1.0)
        finger.mass, finger.ipos, finger.inertia = 0.015, (0, 0.01, 0.03), (2.4e-6, 2.4e-6, 7.5e-7)
        finger.explicitinertial = True
        finger.add_joint(
            name=f"{name}_joint",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=(0, 1, 0),
            range=(0.0, FINGER_TRAVEL_M),
            limited=True,
            armature=0.1,
        )
        _add_contact_box(finger, centre=(0.0, 0.00715, 0.0269), half=(0.0095, 0.00715, 0.0269))
        if skin:
            skin.add(finger, "finger", DARK)
        _add_actuator(
            spec,
            joint=f"{name}_joint",
            gain=FINGER_GAIN * dynamics.gripper_speed_scale,
            damping=FINGER_DAMPING,
            force=FINGER_FORCE_N,
        )


def _add_contact_box(body: mujoco.MjsBody, *, centre: Vector, half: Vector) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=centre,
        size=half,
        group=3,  # not drawn
        contype=ROBOT_CONTACT,
        conaffinity=TABLE_CONTACT,
        friction=(0.8, 0.005, 0.0001),
        mass=0.0,
    )


def _add_actuator(spec: mujoco.MjSpec, *, joint: str, gain: float, damping: float, force: float) -> None:
    """Add a position actuator: force = gain (command - q) - damping qdot, clipped."""
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.gaintype, actuator.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    actuator.gainprm[0] = gain
    actuator.biasprm[1], actuator.biasprm[2] = -gain, -damping
    actuator.forcelimited, actuator.forcerange = True, (-force, force)


@cache
def kinematic_model() -> mujoco.MjModel:
    """Return the robot alone, for inverse kinematics."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    add_panda(spec, dynamics=Dynamics(), tint=WHITE, meshes=False)
    return spec.compile()
