"""Compile a tabletop scene, its look and its dynamics into a MuJoCo model."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

import mujoco
import numpy as np
from jaxtyping import Float
from numpy import ndarray

from rlco.core.poses import quat_multiply, rotvec_to_quat, rpy_to_quat
from rlco.core.scene import CameraSpec, FixtureSpec, MarkerSpec, ObjectSpec, Part, SceneSpec
from rlco.engines.mujoco import panda
from rlco.engines.mujoco.appearance import Appearance, Clutter
from rlco.engines.mujoco.dynamics import Dynamics
from rlco.engines.mujoco.textures import SIZE, table_texture

TABLE_CENTRE_M = (0.45, 0.0)
TABLE_HALF_M = (0.65, 0.65)
FLOOR_Z_M = -0.45
WALL_X_M = -0.9
_PAINT_M = 0.0006
"""Half thickness of painted markers: enough to win the depth test."""
_FIXTURE_FRICTION = 0.8
_GRASPING_IMPRATIO = 20.0
"""How much stiffer friction is than the contact itself."""
_SHAPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
}


def compile_scene(scene: SceneSpec, *, appearance: Appearance, dynamics: Dynamics, image_size: int) -> mujoco.MjModel:
    """Return the model. The camera has the scene's camera name; object ``x`` is body, joint and first geom ``x``.

    A fixture ``x`` is the body ``x`` with the joint ``x``, inside the body ``x/fixed``, whose pose is state.
    """
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    _set_options(spec, dynamics)
    if scene.is_grasped:
        spec.option.impratio = _GRASPING_IMPRATIO
        spec.option.iterations = spec.option.ls_iterations = 50  # a stiff grip that is not solved throws things away
    _set_visual(spec, appearance, image_size)
    _add_surroundings(spec, appearance)
    for marker in scene.markers:
        _add_marker(spec, marker)
    for i, item in enumerate(appearance.clutter):
        _add_clutter(spec, item, f"clutter{i}")
    panda.add_panda(spec, dynamics=dynamics, tint=appearance.robot_tint, meshes=True)
    for item in scene.objects:
        _add_object(spec, item, appearance, dynamics)
    for fixture in scene.fixtures:
        _add_fixture(spec, fixture, appearance, dynamics)
    _add_camera(spec, scene.camera, appearance)
    model = spec.compile()
    _set_damping(model, scene, dynamics)
    return model


def _set_damping(model: mujoco.MjModel, scene: SceneSpec, dynamics: Dynamics) -> None:
    """Set viscous friction in the model: how a specification takes it differs between versions of MuJoCo."""
    damping = {item.name: item.rolling_n_m_s for item in scene.objects if item.rolling_n_m_s}
    damping |= {item.name: item.damping_n_s_m * dynamics.drawer_damping_scale for item in scene.fixtures}
    for name, value in damping.items():
        model.dof_damping[model.dof_jntid == model.joint(name).id] = value


def _set_options(spec: mujoco.MjSpec, dynamics: Dynamics) -> None:
    option = spec.option
    option.timestep = dynamics.timestep_s
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    option.solver = mujoco.mjtSolver.mjSOL_NEWTON
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    # fewer than about 8 iterations leave contacts unsolved: pushed cubes tumble
    option.iterations, option.ls_iterations = 10, 10
    option.tolerance = 1e-6
    # a diverged simulation must raise, not start again by itself
    option.disableflags = mujoco.mjtDisableBit.mjDSBL_AUTORESET


def _set_visual(spec: mujoco.MjSpec, appearance: Appearance, image_size: int) -> None:
    visual = spec.visual
    visual.quality.offsamples = 0
    visual.quality.numslices, visual.quality.numstacks = 14, 8
    visual.quality.shadowsize = appearance.shadow_size if appearance.shadows else 1
    visual.global_.offwidth = visual.global_.offheight = image_size
    visual.map.znear, visual.map.zfar = 0.02, 10.0
    spec.stat.extent, spec.stat.center = 1.0, (0.5, 0.0, 0.1)
    visual.headlight.ambient = appearance.ambient
    visual.headlight.diffuse, visual.headlight.specular = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
    spec.worldbody.add_light(
        name="lamp",
        pos=appearance.light_position_m,
        dir=appearance.light_direction,
        diffuse=appearance.light_diffuse,
        ambient=(0, 0, 0),
        specular=(0, 0, 0),
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        castshadow=appearance.shadows,
    )


def _add_surroundings(spec: mujoco.MjSpec, appearance: Appearance) -> None:
    """The table top is a plane for contact and a box for the eye."""
    world = spec.worldbody
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(2, 2, 0.1),
        group=3,
        contype=panda.TABLE_CONTACT,
        conaffinity=0,
    )
    board = _add_visual(world, "board", (*TABLE_CENTRE_M, -0.02), (*TABLE_HALF_M, 0.02), (*appearance.table_rgb, 1.0))
    if appearance.table_texture != "plain":
        _paint(spec, board, appearance)
    _add_visual(world, "floor", (0.5, 0.0, FLOOR_Z_M - 0.01), (2.5, 2.5, 0.01), (*appearance.floor_rgb, 1.0))
    _add_visual(world, "wall", (WALL_X_M, 0.0, 0.5), (0.01, 2.5, 1.5), (*appearance.wall_rgb, 1.0))


def _paint(spec: mujoco.MjSpec, board: mujoco.MjsGeom, appearance: Appearance) -> None:
    texture = spec.add_texture(name="table", type=mujoco.mjtTexture.mjTEXTURE_2D, width=SIZE, height=SIZE, nchannel=3)
    texture.data = table_texture(appearance).tobytes()
    material = spec.add_material(name="table", texrepeat=(1.0, 1.0), specular=0.0)
    textures = material.textures
    textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "table"
    material.textures = textures
    board.material = "table"
    board.rgba = (1, 1, 1, 1)


def _add_visual(
    body: mujoco.MjsBody,
    name: str,
    centre: tuple[float, ...],
    half: tuple[float, ...],
    rgba: tuple[float, ...],
) -> mujoco.MjsGeom:
    return body.add_geom(
        name=name, type=mujoco.mjtGeom.mjGEOM_BOX, pos=centre, size=half, rgba=rgba, contype=0, conaffinity=0
    )


def _add_marker(spec: mujoco.MjSpec, marker: MarkerSpec) -> None:
    _add_visual(
        spec.worldbody, marker.name, (*marker.centre_m, 0.0), (*marker.half_size_m, _PAINT_M), (*marker.rgb, 1.0)
    )


def _add_clutter(spec: mujoco.MjSpec, item: Clutter, name: str) -> None:
    spec.worldbody.add_geom(
        name=name,
        type=_SHAPES[item.shape],
        pos=item.position_m,
        size=_geom_size(item.shape, item.half_size_m),
        quat=rotvec_to_quat(np.array([0.0, 0.0, item.yaw_rad])),
        rgba=(*item.rgb, 1.0),
        contype=0,
        conaffinity=0,
    )


def _geom_size(shape: str, half: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return MuJoCo's size triple: a capsule's half length excludes its caps."""
    radius, _, height = half
    if shape in ("cylinder", "capsule"):
        return radius, height - radius if shape == "capsule" else height, 0.0
    return half


def _add_object(spec: mujoco.MjSpec, item: ObjectSpec, appearance: Appearance, dynamics: Dynamics) -> None:
    body = spec.worldbody.add_body(name=item.name, pos=(0.5, 0, 0.1))
    body.add_freejoint(name=item.name)
    volume = np.array([np.prod(part.half_size_m) for part in item.parts])
    masses = item.mass_kg * dynamics.mass_scale * (volume / volume.sum())
    friction = item.friction * dynamics.friction_scale
    for i, (part, mass) in enumerate(zip(item.parts, masses, strict=True)):
        _add_part(body, _part_name(item.name, i), part, friction, appearance).mass = mass


def _add_fixture(spec: mujoco.MjSpec, item: FixtureSpec, appearance: Appearance, dynamics: Dynamics) -> None:
    """A body that moves with no force (mocap) carries the sliding part."""
    fixed = spec.worldbody.add_body(name=f"{item.name}/fixed", mocap=True)
    sliding = fixed.add_body(name=item.name)
    sliding.add_joint(
        name=item.name,
        type=mujoco.mjtJoint.mjJNT_SLIDE,
        axis=(-1, 0, 0),
        range=(0.0, item.travel_m),
        limited=True,
        frictionloss=item.friction_n * dynamics.drawer_friction_scale,
    )
    sliding.mass, sliding.inertia = item.mass_kg * dynamics.mass_scale, (0.01, 0.01, 0.01)
    sliding.explicitinertial = True
    friction = _FIXTURE_FRICTION * dynamics.friction_scale
    for i, part in enumerate(item.sliding):
        _add_part(sliding, _part_name(item.name, i), part, friction, appearance).mass = 0.0
    for i, part in enumerate(item.fixed):
        _add_part(fixed, f"{item.name}/fixed/{i}", part, friction, appearance).mass = 0.0
    spec.add_exclude(bodyname1=f"{item.name}/fixed", bodyname2=item.name)


def _part_name(owner: str, index: int) -> str:
    return owner if index == 0 else f"{owner}/{index}"


def _add_part(body: mujoco.MjsBody, name: str, part: Part, friction: float, appearance: Appearance) -> mujoco.MjsGeom:
    geom = body.add_geom(
        name=name,
        type=_SHAPES[part.shape],
        size=_geom_size(part.shape, part.half_size_m),
        pos=part.position_m,
        quat=rpy_to_quat(np.array(part.rpy_rad)),
        friction=(friction, 0.005, 0.0001),
        priority=1,  # the object's friction counts, whatever it touches
        contype=panda.OBJECT_CONTACT,
        conaffinity=panda.TABLE_CONTACT | panda.OBJECT_CONTACT | panda.ROBOT_CONTACT,
        condim=3,
    )
    if part.rgb is not None:
        geom.rgba = (*appearance.seen_rgb(part.rgb), 1.0)
    return geom


def _add_camera(spec: mujoco.MjSpec, camera: CameraSpec, appearance: Appearance) -> None:
    quat = _look_at(np.array(camera.position_m), np.array(camera.target_m))
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quat)
    position = np.array(camera.position_m) + matrix.reshape(3, 3) @ np.array(appearance.camera_offset_m)
    spec.worldbody.add_camera(
        name=camera.name,
        pos=position,
        quat=quat_multiply(quat, rotvec_to_quat(np.array(appearance.camera_offset_rad))),
        fovy=camera.fovy_deg,
    )


def _look_at(position: Float[ndarray, " 3"], target: Float[ndarray, " 3"]) -> Float[ndarray, " 4"]:
    """Return the camera's orientation: it looks along its -z, its y is up."""
    back = (position - target) / np.linalg.norm(position - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(back, right), back], axis=1).flatten())
    return quat
