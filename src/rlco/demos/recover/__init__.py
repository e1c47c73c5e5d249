"""Pose recovery: where things were at the start of a real demonstration that carries no object poses.

Guessed from the key events of the recorded motion, verified by open-loop replay in the twin, refined by search.
"""

from rlco.demos.recover.recover import recover_dataset, recover_initial_states, write_recovered
from rlco.demos.recover.report import Recovered, RecoveryReport
from rlco.demos.recover.search import SearchConfig
from rlco.demos.recover.truth import PoseError, pose_errors

__all__ = [
    "PoseError",
    "Recovered",
    "RecoveryReport",
    "SearchConfig",
    "pose_errors",
    "recover_dataset",
    "recover_initial_states",
    "write_recovered",
]
