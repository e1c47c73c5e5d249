"""One picture that explains a task: its two worlds, where things may start, ten starts, and how success is told."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle
from numpy import ndarray

from rlco.core.files import write_atomic
from rlco.core.poses import quat_rotate
from rlco.core.scene import CameraSpec, FixtureSpec, InitialState, SceneSpec
from rlco.evals.plots import FAINT, INK
from rlco.evals.task_card import TaskCard, card
from rlco.tasks import Task
from rlco.tasks import task as task_of
from rlco.worlds.make import make_world

STARTS = 10
SIDE_PX = 448
_OUTLINES = ("#e11d48", "#2563eb", "#059669", "#9333ea", "#d97706", "#0891b2")
_DRAWS = 400
"""Starts of which the regions are the bounds."""
_TABLE_RGB, _MARKER_RGB, _DARK = "#e7e5e4", "#292524", "#111827"
_MAP_X_M, _MAP_Y_M = (-0.10, 1.30), (-0.52, 0.52)


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """Where the frames of one kind of thing may be at the start, on the table."""

    name: str
    low_m: tuple[float, float]
    high_m: tuple[float, float]

    @property
    def corners_m(self) -> Float[ndarray, "4 2"]:
        """Return them in order around it."""
        (x0, y0), (x1, y1) = self.low_m, self.high_m
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])

    @property
    def label(self) -> str:
        """Return what a legend says."""
        size = [100 * (high - low) for low, high in zip(self.low_m, self.high_m, strict=True)]
        return f"{self.name}: {size[0]:.0f} x {size[1]:.0f} cm (depth x width)"


def draw_task(name: str, path: Path, *, reality: int = 0) -> None:
    """Draw the task into a PNG file at ``path``.

    Raises ``LookupError`` for an unknown task and ``ValueError`` for a negative reality, before any world starts.
    """
    if reality < 0:
        raise ValueError(f"reality must be 0 or more, got {reality}.")
    task = task_of(name)
    states = task.fixed_states(STARTS, seed=0, prefix="show")
    twin = pictures(name, states, domain="twin")
    standin = pictures(name, states[:1], domain="standin", reality=reality)
    figure = sheet(task, states, twin=twin, standin=standin[0], reality=reality)
    write_atomic(path, lambda temporary: figure.savefig(temporary, format="png", dpi=100))


def pictures(
    name: str, states: Sequence[InitialState], *, domain: str, reality: int = 0, side_px: int = SIDE_PX
) -> UInt8[ndarray, "E side side 3"]:
    """Return what the camera sees of each start."""
    with make_world(name, domain=domain, reality=reality, num_envs=len(states), image_size=side_px) as world:
        observation, _ = world.reset(initial_states=list(states))
        return np.array(observation["image"])


def regions(task: Task) -> list[Region]:
    """Return where things may start: the bounds of many drawn starts, one region for each kind of thing."""
    rng = np.random.default_rng(0)
    places: dict[str, list[tuple[float, ...]]] = {}
    states = [task.sample_initial_state(rng) for _ in range(_DRAWS)]
    always = set.intersection(*(set(state.object_pose) for state in states))
    for state in states:
        for thing, pose in state.object_pose.items():
            places.setdefault(thing if thing in always else "object", []).append(pose[:2])
    fixtures = {fixture.name for fixture in task.scene.fixtures}
    return [_region(_spoken(kind, fixtures), np.array(found)) for kind, found in places.items()]


def _region(name: str, places: Float[ndarray, "n 2"]) -> Region:
    low, high = places.min(0), places.max(0)
    return Region(name=name, low_m=(float(low[0]), float(low[1])), high_m=(float(high[0]), float(high[1])))


def _spoken(kind: str, fixtures: set[str]) -> str:
    if kind in fixtures:
        return f"front edge of the {kind}"
    return " ".join(["centre of the", *reversed(kind.split("_"))])


def seen_at(points_m: Float[ndarray, "n 3"], camera: CameraSpec, *, side_px: int) -> Float[ndarray, "n 2"]:
    """Return the pixel (column, row) at which the camera of the twin sees each point."""
    position, axes = _camera(camera)
    right, up, back = (axes @ (points_m - position).T).reshape(3, -1)
    focal = side_px / 2 / np.tan(np.deg2rad(camera.fovy_deg) / 2)
    return np.stack([side_px / 2 + focal * right / -back, side_px / 2 - focal * up / -back], axis=1)


def view_on_table(camera: CameraSpec) -> Float[ndarray, "4 2"]:
    """Return the corners of what the camera sees of the table's plane."""
    position, axes = _camera(camera)
    half = np.tan(np.deg2rad(camera.fovy_deg) / 2)
    rays = np.array([[-half, half, -1], [half, half, -1], [half, -half, -1], [-half, -half, -1]]) @ axes
    return (position - rays * (position[2] / rays[:, 2:]))[:, :2]


def _camera(camera: CameraSpec) -> tuple[Float[ndarray, " 3"], Float[ndarray, "3 3"]]:
    """Return its place, and its axes as rows: right, up, back."""
    position = np.array(camera.position_m)
    back = position - np.array(camera.target_m)
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    return position, np.stack([right, np.cross(back, right), back])


def sheet(
    task: Task,
    states: Sequence[InitialState],
    *,
    twin: UInt8[ndarray, "E side side 3"],
    standin: UInt8[ndarray, "side side 3"],
    reality: int,
) -> Figure:
    """Return the whole picture. ``twin`` shows ``states``, ``standin`` the first of them."""
    figure, found = Figure(figsize=(15.0, 13.2), facecolor="white"), regions(task)
    colours = dict(zip((region.name for region in found), _OUTLINES, strict=False))
    _head(figure, card(task))
    _photo(figure, (0.02, 0.475, 0.3, 0.341), twin[0], title="Digital twin")
    _outline(figure.axes[-1], found, colours, task.scene.camera, side_px=twin.shape[1])
    _photo(figure, (0.335, 0.475, 0.3, 0.341), standin, title=f"Stand-in for the real world, reality {reality}")
    _map(figure.add_axes((0.69, 0.475, 0.29, 0.341)), task.scene, states, found, colours)
    _legend(figure, found, colours, task.scene)
    figure.text(0.02, 0.387, f"{len(states)} starts, seen in the twin", color=_DARK, fontsize=12, weight="bold")
    for i, (state, image) in enumerate(zip(states, twin, strict=True)):
        left, bottom = 0.02 + 0.202 * (i % 5), 0.197 - 0.187 * (i // 5)
        _photo(figure, (left, bottom, 0.1467, 0.1667), image, title=state.instruction, is_small=True)
    return figure


def _head(figure: Figure, said: TaskCard) -> None:
    hold = "" if said.hold_steps == 1 else f", for {said.hold_steps} control steps in a row"
    figure.text(0.02, 0.966, said.name, color=_DARK, fontsize=22, weight="bold")
    lines = {
        "asked": f"\u201c{said.instruction}\u201d",
        "success": f"{said.success}{hold}",
        "sparse": said.sparse,
        "dense": f"{said.dense}; 1 at success",
        "clock": f"{said.control_hz:g} control steps a second, at most {said.max_steps} ({said.seconds:g} s)",
        "shifts": ", ".join(said.shifts),
    }
    for i, (name, text) in enumerate(lines.items()):
        height = 0.943 - 0.0187 * i
        figure.text(0.02, height, name, color=INK, fontsize=10.5, weight="bold")
        figure.text(0.085, height, textwrap.shorten(text, 170, placeholder=" ..."), color=INK, fontsize=10.5)


def _photo(
    figure: Figure, box: tuple[float, float, float, float], image: ndarray, *, title: str, is_small: bool = False
) -> None:
    axis = figure.add_axes(box)
    axis.imshow(image)
    axis.set_axis_off()
    axis.set_title(title, fontsize=9 if is_small else 12, color=_DARK, weight="normal" if is_small else "bold", pad=4)


def _outline(
    axis: Axes, found: Sequence[Region], colours: Mapping[str, str], camera: CameraSpec, *, side_px: int
) -> None:
    """Draw the regions on the table of the twin's picture."""
    for region in found:
        corners = np.concatenate([region.corners_m, np.zeros((4, 1))], axis=1)
        axis.add_patch(
            Polygon(seen_at(corners, camera, side_px=side_px), closed=True, fill=False, lw=2.2, ec=colours[region.name])
        )
    axis.set_xlim(-0.5, side_px - 0.5)
    axis.set_ylim(side_px - 0.5, -0.5)


def _map(
    axis: Axes, scene: SceneSpec, states: Sequence[InitialState], found: Sequence[Region], colours: Mapping[str, str]
) -> None:
    """Draw the table from above: left is left for the robot, ahead is up."""
    axis.set_facecolor(_TABLE_RGB)
    axis.add_patch(Polygon(view_on_table(scene.camera)[:, ::-1], fc="white", ec="#a8a29e", lw=1.0, ls=":"))
    for marker in scene.markers:
        low = np.array(marker.centre_m) - marker.half_size_m
        size = 2 * np.array(marker.half_size_m)
        axis.add_patch(Rectangle((float(low[1]), float(low[0])), size[1], size[0], fc=_MARKER_RGB))
    for state in states:
        for fixture in scene.fixtures:
            axis.add_patch(Polygon(_footprint(fixture, state)[:, ::-1], fill=False, ec="#78716c", lw=0.8))
    for region in found:
        axis.add_patch(Polygon(region.corners_m[:, ::-1], fill=False, lw=2.2, ec=colours[region.name]))
    places = np.array([pose[:2] for state in states for pose in state.object_pose.values()])
    axis.plot(places[:, 1], places[:, 0], ".", color=_DARK, ms=5)
    axis.plot(0.0, 0.0, "s", color=INK, ms=14)
    axis.annotate("robot's base", (0.0, 0.0), (-0.08, -0.005), fontsize=9, color=INK, va="center")
    x, y, _ = scene.camera.position_m
    axis.plot(y, x, "v", color=INK, ms=11)
    axis.annotate("camera", (y, x), (y - 0.06, x), fontsize=9, color=INK, va="center")
    axis.set_xlim(_MAP_Y_M[1], _MAP_Y_M[0])
    axis.set_ylim(*_MAP_X_M)
    axis.set_aspect("equal", adjustable="box")
    axis.set_title("From above", fontsize=12, color=_DARK, weight="bold", pad=4)
    axis.set_xlabel("y [m], to the robot's left", fontsize=9, color=INK)
    axis.set_ylabel("x [m], ahead of the robot", fontsize=9, color=INK)
    axis.tick_params(colors=INK, labelsize=8, length=0)
    axis.grid(color=FAINT, linewidth=0.6)
    axis.spines[:].set_visible(False)


def _footprint(fixture: FixtureSpec, state: InitialState) -> Float[ndarray, "4 2"]:
    """Return the corners of the box around its fixed parts, on the table."""
    parts = [(np.array(part.position_m), np.array(part.half_size_m)) for part in fixture.fixed]
    low, high = (np.array([at + sign * half for at, half in parts]) for sign in (-1, 1))
    (x0, y0, _), (x1, y1, _) = low.min(0), high.max(0)
    pose = np.array(state.object_pose[fixture.name])
    behind = state.joint_value.get(fixture.name, 0.0)  # the pose is the sliding part's
    x0, x1 = x0 + behind, x1 + behind
    corners = np.array([[x0, y0, 0.0], [x1, y0, 0.0], [x1, y1, 0.0], [x0, y1, 0.0]])
    return (pose[:3] + quat_rotate(np.tile(pose[3:], (4, 1)), corners))[:, :2]


def _legend(figure: Figure, found: Sequence[Region], colours: Mapping[str, str], scene: SceneSpec) -> None:
    """Say below the three big pictures what their lines are."""
    lines = [Line2D([], [], color=colours[region.name], lw=2.2, label=region.label) for region in found]
    lines.append(Line2D([], [], color=_DARK, marker=".", ls="", ms=7, label="the ten starts"))
    lines += [
        Line2D([], [], color=_MARKER_RGB, marker="s", ls="", ms=9, label=f"{marker.name} strip")
        for marker in scene.markers
    ]
    if scene.fixtures:
        lines.append(Line2D([], [], color="#78716c", lw=0.8, label="its cabinet in the ten starts"))
    lines.append(Line2D([], [], color="#a8a29e", lw=1.0, ls=":", label="what the camera sees"))
    figure.legend(
        handles=lines,
        loc="upper left",
        bbox_to_anchor=(0.012, 0.468),
        ncols=2,
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
    )
    note = "The camera looks back at the robot:\nthe robot's left is on the right in the pictures."
    figure.text(0.48, 0.46, note, color=INK, fontsize=9.5, va="top")
