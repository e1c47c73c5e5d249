"""Render MuJoCo states into preallocated arrays, through the raw API: no wrapper, no copy but the last one."""

# pyright: reportAttributeAccessIssue=false
# MuJoCo's compiled modules carry no type stubs.

from __future__ import annotations

from typing import ClassVar

import mujoco
import numpy as np
from jaxtyping import UInt8
from mujoco import gl_context
from numpy import ndarray

from rlco.core.rng import numpy_generator
from rlco.engines.mujoco.appearance import Appearance

MAX_GEOMS = 200
NOISE_BANK = 1 << 20
"""Noise values drawn once; a frame reads a stretch of them that its own key chooses."""
_STRIDE = 7919
"""Prime, so that successive frames read unrelated stretches."""


class Renderer:
    """One camera, with a GL context of its own.

    ``model`` is any of the models that are drawn: they share robot, table and texture, and differ in their objects.
    """

    _current: ClassVar[Renderer | None] = None
    """Whose context is current: several may live in one process."""

    def __init__(self, model: mujoco.MjModel, *, camera: str, image_size: int, appearance: Appearance) -> None:
        self._gl = gl_context.GLContext(image_size, image_size)
        self._gl.make_current()
        Renderer._current = self
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=MAX_GEOMS)
        for flag in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SKYBOX, mujoco.mjtRndFlag.mjRND_HAZE):
            self._scene.flags[flag] = False
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = appearance.shadows
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        self._viewport = mujoco.MjrRect(0, 0, image_size, image_size)
        self._buffer = np.empty((image_size, image_size, 3), np.uint8)
        self._upright = self._buffer[::-1]  # OpenGL's first row is the lowest
        self._sensor = None if _is_ideal(appearance) else Sensor(appearance, image_size)

    def render(
        self, model: mujoco.MjModel, data: mujoco.MjData, out: UInt8[ndarray, "size size 3"], *, noise_key: int
    ) -> None:
        """Write the camera's picture of ``data`` into ``out``; ``noise_key`` chooses the pixel noise."""
        self._take_over()
        mujoco.mjv_updateScene(
            model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(self._buffer, None, self._viewport, self._context)
        if self._sensor is None:
            np.copyto(out, self._upright)
        else:
            self._sensor.expose(self._upright, out, noise_key=noise_key)

    def close(self) -> None:
        """Free the GL objects."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()
        Renderer._current = None

    def _take_over(self) -> None:
        """Make this context the current one; asking for it at every frame costs more than the copy of the picture."""
        if Renderer._current is not self:
            self._gl.make_current()
            Renderer._current = self


class Sensor:
    """Colour gain, bias and pixel noise of an imperfect camera, in 16-bit integers."""

    _unit_bits = 6
    """A gain of 1 is 2**6: 255 * 64 * 2 still fits in 16 bits."""

    def __init__(self, appearance: Appearance, image_size: int) -> None:
        self._shape = (image_size, 3 * image_size)
        gain = np.round(np.array(appearance.colour_gain) * 2**self._unit_bits)
        self._gain = np.tile(np.clip(gain, 0, 2 * 2**self._unit_bits), image_size).astype(np.int16)
        bias = np.round(255 * np.array(appearance.colour_bias))
        self._bias = np.tile(bias, image_size).astype(np.int16)
        noise = numpy_generator(appearance.texture_seed, "pixel-noise").normal(size=NOISE_BANK)
        self._noise = np.round(255 * appearance.pixel_noise * noise).astype(np.int16)
        self._frame = np.empty(self._shape, np.int16)

    def expose(
        self, image: UInt8[ndarray, "size size 3"], out: UInt8[ndarray, "size size 3"], *, noise_key: int
    ) -> None:
        """Write what the sensor makes of ``image`` into ``out``."""
        frame = self._frame
        np.multiply(image.reshape(self._shape), self._gain, out=frame)
        np.right_shift(frame, self._unit_bits, out=frame)
        frame += self._bias
        start = (noise_key * _STRIDE) % (NOISE_BANK - frame.size)
        frame += self._noise[start : start + frame.size].reshape(self._shape)
        np.clip(frame, 0, 255, out=frame)
        np.copyto(out, frame.reshape(out.shape), casting="unsafe")


def _is_ideal(appearance: Appearance) -> bool:
    return (
        appearance.pixel_noise == 0.0
        and appearance.colour_gain == (1.0, 1.0, 1.0)
        and appearance.colour_bias == (0.0, 0.0, 0.0)
    )
