"""Made-up results with known rates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rlco.core.episode import StopReason
from rlco.evals.outcome import Ending, EpisodeOutcome, EvaluationResult
from rlco.evals.report_data import Clip, MethodResult, ReportData
from rlco.evals.video import Film, side_by_side
from tests.evals.fakes import state

COLOURS = ("purple", "yellow", "pink", "orange", "green")
RATES = {"real-only SFT": 0.3, "SFT co-training": 0.52, "compute-matched SFT": 0.55, "RL-Co": 0.74}
FAILURES = (
    Ending.TIMED_OUT,
    Ending.DROPPED,
    Ending.GRASPED,
    Ending.REACHED,
    Ending.WRONG_OBJECT,
    Ending.NEVER_REACHED,
)


def result(name: str, rate: float, *, domain: str = "standin", states: int = 150, lost: int = 0) -> EvaluationResult:
    """Return two episodes on each state; the first ``lost`` are lost."""
    rng = np.random.default_rng(7)
    outcomes = []
    for i in range(states):
        hard = rng.random(2) * 0.5 + 0.5 * rng.random()
        for repeat in range(2):
            is_lost, success = len(outcomes) < lost, bool(hard[repeat] < rate)
            reason = StopReason.LOST if is_lost else StopReason.SUCCESS if success else StopReason.TIME_LIMIT
            ending = Ending.LOST if is_lost else Ending.SUCCESS if success else FAILURES[int(rng.integers(6))]
            outcomes.append(
                EpisodeOutcome(
                    state=f"state/{i:03d}",
                    repeat=repeat,
                    stop_reason=reason,
                    steps=25 if success else 60,
                    ending=ending,
                    start_m=(0.50 + 0.02 * math.sin(i), 0.15 * (1 - i % 3) + 0.02 * math.cos(3.0 * i)),
                    shift_m=None if is_lost else (0.1, 0.0),
                    labels={"object": COLOURS[i % 5], "target": "named"},
                )
            )
    return EvaluationResult(
        policy=name, settings={"domain": domain, "task": "push-cube"}, outcomes=tuple(outcomes), seconds=12.0
    )


def rl_records(count: int = 60) -> list[dict[str, float]]:
    """Return plausible curves of Stage II."""
    rng = np.random.default_rng(0)
    return [
        {
            "step": i,
            "rl/success": 1 - 0.6 * math.exp(-i / 20) + 0.03 * rng.normal(),
            "rl/kl": abs(0.01 + 0.003 * rng.normal()),
            "rl/clip_fraction": abs(0.1 + 0.02 * rng.normal()),
            "rl/explained_variance": 0.8 - 0.8 * math.exp(-i / 8),
            "rl/loss_rl": 0.02 * rng.normal(),
            "rl/loss_sft": 0.3 + 0.02 * rng.normal(),
            "rl/grad_norm_rl": 0.5 + 0.1 * rng.random(),
            "rl/grad_norm_sft": 0.1 + 0.05 * rng.random(),
        }
        for i in range(1, count + 1)
    ]


def sft_records(seed: int, count: int = 40) -> list[dict[str, float]]:
    """Return a plausible learning curve."""
    rng = np.random.default_rng(seed)
    return [
        {
            "step": 10 * i,
            "sft/loss": 0.2 + math.exp(-i / 5) + 0.02 * rng.random(),
            "sft/grad_norm": 0.5 + math.exp(-i / 8) + 0.1 * rng.random(),
            "sft/fraction_0": 0.5 + 0.1 * rng.normal() / i,
            "sft/fraction_1": 0.5,
        }
        for i in range(1, count + 1)
    ]


def clip(films: Sequence[str] = tuple(RATES)) -> Clip:
    """Return a film of moving gradients."""
    from rlco.data.clip import encode_mp4

    ramp = np.linspace(60, 220, 48)
    shots = {}
    for row in ("stand-in", "twin"):
        shots[row] = {}
        for i, name in enumerate(films):
            frames = np.stack([np.roll(np.broadcast_to(ramp[:, None], (48, 48)), t + 9 * i, 0) for t in range(12 + i)])
            rgb = np.repeat(frames[..., None], 3, axis=-1).astype(np.uint8)
            shots[row][name] = Film(state=state("s"), frames=rgb, success=i > 1)
    return Clip(caption="push the purple cube (eval/0007)", mp4=encode_mp4(side_by_side(shots), fps=10))


def report_data(*, with_clip: bool = False) -> ReportData:
    """Return a whole report's worth."""
    return ReportData(
        title="push-cube-pi05-nano",
        methods=tuple(
            MethodResult(name=name, standin=result(name, rate), twin=result(name, min(1.0, rate + 0.2), domain="twin"))
            for name, rate in RATES.items()
        ),
        compared="RL-Co",
        unseen=("orange", "green"),
        rl={"rl": rl_records()},
        sft={"sft-real": sft_records(0), "sft-cotrain": sft_records(1), "control": sft_records(2)},
        clips=(clip(),) if with_clip else (),
        configuration={"task": "push-cube", "alpha": 0.5, "rl": {"beta": 1.0, "iterations": 60}},
        seconds={"record": 20.0, "generate": 65.0, "sft-real": 120.0, "sft-cotrain": 130.0, "rl": 420.0},
    )
