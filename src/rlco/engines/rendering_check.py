"""Can MuJoCo render here? ``python -m rlco.engines.rendering_check`` exits 0 if it can.

Run it in a process of its own: a broken graphics driver may end the process rather than raise.
"""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

import os
import sys

SCENE = "<mujoco><worldbody><light pos='0 0 2'/><geom size='.1' rgba='1 0 0 1'/></worldbody></mujoco>"
BACKEND = "MUJOCO_GL"


def mean_brightness(size: int = 16) -> float:
    """Render a tiny lit sphere and return the image's mean; 0 would be a blank image."""
    os.environ.setdefault(BACKEND, "egl")
    import mujoco  # reads MUJOCO_GL when it is imported

    model = mujoco.MjModel.from_xml_string(SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, size, size) as renderer:
        renderer.update_scene(data)
        return float(renderer.render().mean())


def main() -> int:
    """Print what happened; return the exit code."""
    brightness = mean_brightness()
    print(f"{BACKEND}={os.environ[BACKEND]}: mean brightness {brightness:.1f}")
    return 0 if brightness > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
