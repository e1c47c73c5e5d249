"""Small episodes that look like rendered ones, and a program that writes a dataset slowly enough to be killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from numpy import ndarray

from rlco.core.episode import Episode, StopReason
from rlco.core.scene import InitialState
from rlco.data.writer import DatasetWriter

FPS = 5
INPUTS = {"seed": 3, "task": "push-cube"}


def pictures(seed: int, *, length: int, size: int = 48) -> ndarray:
    """A gradient with hard-edged coloured boxes that move, each on a line of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size]
    shade = 255 / size * rng.uniform(0.3, 1.0, 2)
    ground = np.stack([x * shade[0], y * shade[1], np.full_like(x, rng.integers(60, 200))], axis=-1).astype(np.uint8)
    out = np.repeat(ground[None], length, axis=0)
    for _ in range(3):
        side, colour = size // 5, rng.integers(0, 255, 3)
        place, speed = rng.uniform(0, size - side, 2), rng.uniform(1.0, 2.0, 2) * rng.choice([-1, 1], 2)
        for t in range(length):
            # back and forth between the edges
            range_ = size - side
            top, left = (range_ - np.abs((place + speed * t) % (2 * range_) - range_)).astype(int)
            out[t, top : top + side, left : left + side] = colour
    return out


def healthy(seed: int, *, length: int = 12, size: int = 48, instruction: str = "push the pink cube") -> Episode:
    """An arm that circles within its limits, closes its gripper half way and opens it at the end."""
    t = np.arange(length)
    phase = 0.25 * t + seed
    state = np.zeros((length, 8), dtype=np.float32)
    state[:, 0], state[:, 1], state[:, 2] = 0.5 + 0.1 * np.cos(phase), 0.1 * np.sin(phase), 0.1
    state[:, 5] = 0.1 * np.sin(phase)
    action = np.zeros((length, 7), dtype=np.float32)
    action[:-1, :3] = np.diff(state[:, :3], axis=0)
    action[-1, :3] = action[-2, :3]
    action[:, 6] = np.where((t >= length // 3) & (t < 2 * length // 3), -1, 1)
    # the hand follows its command by 1 cm a step
    width = np.full(length, 0.08)
    for n in range(1, length):
        width[n] = np.clip(width[n - 1] + 0.01 * action[n - 1, 6], 0, 0.08)
    state[:, 6], state[1:, 7], state[0, 7] = width, action[:-1, 6], 1
    return Episode(
        image=pictures(seed, length=length, size=size),
        state=state,
        action=action,
        instruction=instruction,
        fps=FPS,
        stop_reason=StopReason.SUCCESS,
        initial_state=InitialState(
            name=f"s{seed}",
            task="push-cube",
            instruction=instruction,
            object_pose={"cube": (0.5, 0.1, 0.025, 1.0, 0.0, 0.0, 0.0)},
            object_rgb={"cube": (1.0, 0.0, 0.0)},
        ),
    )


def varied(number: int) -> Episode:
    """Episode ``number`` of the dataset that ``write_slowly`` writes."""
    return healthy(number, length=8 + number % 5, instruction=f"push cube {number % 3}")


def write_slowly(folder: Path, *, count: int, pause_s: float, hang_after: int | None = None) -> None:
    """Write ``count`` episodes, going on from what is there; attempt 2 n + 1 gives episode n.

    With ``hang_after``, wait to be killed once that many more are written.
    """
    with DatasetWriter(folder, fps=FPS, robot_type="twin", inputs=INPUTS, sidecar=True) as writer:
        for number in range(len(writer.finished), count):
            attempt = 2 * number + 1
            writer.add(varied(number), provenance={"source": number % 2}, extra={"attempt": attempt})
            if number % 3 == 2:
                writer.flush()
            print(number, flush=True)
            time.sleep(pause_s if number + 1 - len(writer.finished) != hang_after else 60)
        writer.finish(lambda root: (root / "manifest.json").write_text('{"made": true}'))


if __name__ == "__main__":
    folder_, count_, pause_, hang_ = sys.argv[1:]
    write_slowly(Path(folder_), count=int(count_), pause_s=float(pause_), hang_after=int(hang_))
