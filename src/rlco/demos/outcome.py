"""Why an episode did not succeed, in a few words."""

from __future__ import annotations

import numpy as np

from rlco.demos.replay import Replayed
from rlco.demos.segments import spells
from rlco.tasks import Task
from rlco.tasks.contract import Ends


def why_failed(task: Task, replayed: Replayed) -> str:
    """Return the reason for which a replayed demonstration failed; empty if it succeeded.

    One of: ``lost``, ``never grasped the <thing>``, ``dropped the <thing>``, ``did not release the <thing>``,
    ``never touched the <thing>``, ``left the <thing> <n> cm from ...``, ``moved the <thing> by <n> cm only``, with
    ``(time limit)`` or ``(inverse kinematics)`` added where that is part of it.
    """
    if replayed.succeeded:
        return ""
    if replayed.lost:
        return "lost"
    also = " (time limit)" if replayed.timed_out else " (inverse kinematics)" if replayed.trace.ik_failed.any() else ""
    grasps = [i for i, stage in enumerate(task.stages) if stage.ends == Ends.GRASP]
    reason = _carrying(task, replayed, grasps[0]) if grasps else _pushing(task, replayed)
    return reason + also


def _carrying(task: Task, replayed: Replayed, stage: int) -> str:
    trace, thing = replayed.trace, task.reference_object(replayed.initial, stage)
    held = spells(trace.grasped[thing])
    if not held:
        return f"never grasped the {thing}"
    last = held[-1][1]
    if last >= len(trace):
        return f"did not release the {thing}"
    # the command that opened the hand comes before the moment at which the object is free
    if not (trace.action[max(last - 1, 0) : last + 2, 6] > 0).any():
        return f"dropped the {thing}"
    goal = task.reference_object(replayed.initial, stage + 1) if stage + 1 < len(task.stages) else thing
    off = trace.object_pose[thing][-1, :2] - trace.object_pose[goal][-1, :2]
    return f"left the {thing} {_cm(float(np.linalg.norm(off)))} from the {goal}"


def _pushing(task: Task, replayed: Replayed) -> str:
    trace, thing = replayed.trace, task.reference_object(replayed.initial, 0)
    if not trace.touching[thing].any():
        return f"never touched the {thing}"
    place = trace.object_pose[thing][:, :3]
    return f"moved the {thing} by {_cm(float(np.linalg.norm(place[-1] - place[0])))} only"


def _cm(metres: float) -> str:
    return f"{100 * metres:.0f} cm"
