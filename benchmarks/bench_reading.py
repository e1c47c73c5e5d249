"""How fast random training batches come from the frame cache, against the same tensors held in memory.

    python benchmarks/bench_reading.py [--frames 20000] [--image-size 128] [--save FILE] [--compare FILE]

Writes two datasets of half the frames each, decodes them into their caches, and gathers random batches from the cache
of one (``ratio``) and from a mixture of both, which draws them itself (``mixture_ratio``). The bound gathers the same
samples from arrays in memory that have their chunks of actions made: no end of an episode, no second dataset.
Both are warm, run on one thread and take turns. Seconds are of its processor time: other work on the machine does not
count, waiting for the disk would show in ``wall_ratio``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from comparison import add_options, conclude, setting
from torch import Tensor

from rlco.core.episode import Episode, StopReason
from rlco.data.chunks import ChunkDataset
from rlco.data.mixture import Mixture
from rlco.data.reader import Dataset
from rlco.data.writer import write_dataset

LEAST_RATIO = 0.9
FPS, EPISODE, HORIZON = 5, 100, 8
_TURN = 8
"""Batches that one of the two draws before the other does."""


def main() -> int:
    """Measure, print, save and compare; the exit code says whether the targets are met."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options)
    is_met = min(figures["ratio"], figures["mixture_ratio"]) >= LEAST_RATIO
    high = {**{name: figures[name] for name in ("ratio", "mixture_ratio")}, **figures["samples_per_s"]}
    return conclude(figures, options, same=("frames", "image_size", "batch_size"), is_met=is_met, high=high)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return samples per second from the caches and from memory, and their ratio."""
    began = time.perf_counter()
    for number in range(2):
        episodes = _episodes(options.frames // 2, options.image_size, seed=number)
        write_dataset(folder / str(number), episodes, fps=FPS, robot_type="bench")
    written = time.perf_counter() - began
    datasets = [Dataset.open(folder / str(number)) for number in range(2)]
    began = time.perf_counter()
    bytes_read = sum(int(d.frames.nbytes) for d in datasets)
    decoded = time.perf_counter() - began
    mixture = Mixture(datasets, [0.5, 0.5], horizon=HORIZON, batch_size=options.batch_size, seed=0)
    bounds = {"cache": Bound(datasets[:1]), "mixture": Bound(datasets)}
    works = {"cache": ChunkDataset.of(datasets[0], horizon=HORIZON).batch, "mixture": lambda _: mixture.next_batch()}
    rates: dict[str, list[float]] = {f"{way}{kind}": [] for way in works for kind in ("", "_bound")}
    for turn in range(options.rounds + 2):
        for way, once in works.items():
            index = np.random.default_rng(turn).integers(0, len(bounds[way]), (options.batches, options.batch_size))
            mine, most = _rates(
                once, bounds[way].batch if way == "cache" else bounds[way].drawn, index, time.thread_time
            )
            if turn >= 2:  # the first two warm up
                rates[way].append(mine)
                rates[f"{way}_bound"].append(most)
    index = np.random.default_rng(0).integers(0, len(bounds["cache"]), (10 * options.batches, options.batch_size))
    wall = _rates(works["cache"], bounds["cache"].batch, index, time.perf_counter)
    ratios = {w: [a / b for a, b in zip(rates[w], rates[f"{w}_bound"], strict=True)] for w in works}
    return {
        **setting(threads=torch.get_num_threads()),
        "frames": options.frames,
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "cache_MB": round(bytes_read / 2**20),
        "written_frames_per_s": round(options.frames / written),
        "decoded_frames_per_s": round(options.frames / decoded),
        "samples_per_s": {name: round(median(values)) for name, values in rates.items() if "bound" not in name},
        "bound_samples_per_s": {name: round(median(values)) for name, values in rates.items() if "bound" in name},
        "ratio": round(median(ratios["cache"]), 3),
        "wall_ratio": round(wall[0] / wall[1], 3),
        "mixture_ratio": round(median(ratios["mixture"]), 3),
        "ratio_rounds": {name: [round(ratio, 3) for ratio in values] for name, values in ratios.items()},
    }


class Bound:
    """Every array of every sample, in memory, gathered by the fastest way there is on one core."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        sources = [ChunkDataset.of(d, horizon=HORIZON) for d in datasets]
        self.image = np.empty((sum(map(len, sources)), *sources[0].frames.shape[1:]), np.uint8)
        first = 0
        for source in sources:
            self.image[first : first + len(source)] = source.frames
            first += len(source)
        chunks = [source.chunk(np.arange(len(source))) for source in sources]
        self.state = np.concatenate([source.state for source in sources])
        self.action = np.concatenate([action for action, _ in chunks])
        self.is_pad = np.concatenate([is_pad for _, is_pad in chunks])
        self.rng = np.random.default_rng(0)
        self.instruction = tuple(i for source in sources for i in source.instruction)

    def __len__(self) -> int:
        return len(self.state)

    def drawn(self, like: np.ndarray) -> tuple[list[Tensor], list[str]]:
        """Draw as many rows, and gather them."""
        return self.batch(self.rng.integers(0, len(self), like.shape))

    def batch(self, index: np.ndarray) -> tuple[list[Tensor], list[str]]:
        """Gather one."""
        arrays = (self.image, self.state, self.action, self.is_pad)
        return [torch.from_numpy(a[index]) for a in arrays], [self.instruction[i] for i in index.tolist()]


def _episodes(frames: int, size: int, *, seed: int) -> Iterator[Episode]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size]
    for number in range(frames // EPISODE):
        ground = np.stack([x, y, (x + y + 9 * number) % 256], axis=-1).astype(np.uint8)
        image = np.repeat(ground[None], EPISODE, axis=0)
        for t in range(EPISODE):
            image[t, t % size : t % size + 20, 30:50] = rng.integers(0, 256, 3)
        yield Episode(
            image=image,
            state=rng.uniform(0, 0.4, (EPISODE, 8)).astype(np.float32),
            action=rng.uniform(-0.02, 0.02, (EPISODE, 7)).astype(np.float32),
            instruction=f"push the pink cube {number % 3}",
            fps=FPS,
            stop_reason=StopReason.SUCCESS,
        )


def _rates(
    mine: Callable[[np.ndarray], object],
    bound: Callable[[np.ndarray], object],
    index: np.ndarray,
    clock: Callable[[], float],
) -> tuple[float, float]:
    """Return samples per second of both, which take turns every few batches."""
    seconds = [0.0, 0.0]
    for rows in np.array_split(index, len(index) // _TURN):
        began = clock()
        for row in rows:
            mine(row)
        between = clock()
        for row in rows:
            bound(row)
        seconds[0] += between - began
        seconds[1] += clock() - between
    return index.size / seconds[0], index.size / seconds[1]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--image-size", type=int, default=128, help="pixels")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=21, help="turns of caches and memory; medians are reported")
    parser.add_argument("--batches", type=int, default=400, help="in one turn")
    add_options(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
