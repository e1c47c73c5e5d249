"""What a policy's eyes know: places of things, read from its grounding features by a ridge regression.

A probe costs seconds and no training, so it says before an experiment whether a policy can see what a task needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from rlco.core.policy import Observation
from rlco.core.scene import InitialState
from rlco.policies.contract import AnyPolicy
from rlco.tasks import task
from rlco.tasks.contract import Task
from rlco.tasks.drawer import DRAWER, HANDLE_X_M, point
from rlco.worlds.make import make_world

_PENALTIES = 10.0 ** np.arange(-3, 5)
_TRAINED = 0.75
"""The share of starts from which the regression learns; the others are measured."""
_FEWEST = 40
_NUM_ENVS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """How well one thing's place on the table is read."""

    thing: str
    error_m: float
    """Median over starts that the regression did not see."""
    blind_m: float
    """The same of one that answers with the mean place."""


def probe(
    policy: AnyPolicy,
    name: str,
    *,
    learnt_in: str | None = None,
    domain: str = "twin",
    reality: int = 0,
    count: int = 400,
) -> list[Sight]:
    """Return how well ``policy`` sees each thing that the task ``name`` is about in ``domain``, over ``count`` starts.

    The regression learns in the same world, or in ``learnt_in``: what is read there and not here is the gap in looks.

    Raises ``ValueError`` for a policy without a grounding token or for fewer starts than a regression needs, and
    ``LookupError`` for an unknown task.
    """
    if not policy.config.grounding_heads:
        raise ValueError("The policy has no grounding token, whose features a probe reads.")
    if count < _FEWEST:
        raise ValueError(f"A probe needs {_FEWEST} starts at least, got {count}.")
    its_task = task(name)
    states = its_task.fixed_states(count, seed=0, prefix="probe")
    parts = [(domain, states)]
    if learnt_in not in (None, domain):
        trained = round(_TRAINED * count)
        parts = [(learnt_in, states[:trained]), (domain, states[trained:])]
    features = np.concatenate([_features(policy, name, part, domain=world, reality=reality) for world, part in parts])
    places = [_places(its_task, state) for state in states]
    return [_sight(thing, features, np.stack([place[thing] for place in places])) for thing in places[0]]


def ridge_errors_m(
    features: Float[ndarray, "N F"], places_m: Float[ndarray, "N 2"]
) -> tuple[Float[ndarray, " M"], Float[ndarray, " M"]]:
    """Return the distances by which the last quarter of places is missed: by a ridge regression, by the mean place.

    It learns from the other rows, with the penalty of the least leave-one-out error on them (PRESS).
    """
    trained = round(_TRAINED * len(features))
    mean, scale = features[:trained].mean(0), features[:trained].std(0) + 1e-9
    scaled, centre = (features - mean) / scale, places_m[:trained].mean(0)
    left, singular, right = np.linalg.svd(scaled[:trained], full_matrices=False)
    wanted = places_m[:trained] - centre
    along = left.T @ wanted

    def left_out(penalty: float) -> float:
        shrink = singular**2 / (singular**2 + penalty)
        residual = wanted - (left * shrink) @ along
        leverage = (left**2) @ shrink + 1 / trained
        return float(((residual / (1 - leverage)[:, None]) ** 2).sum())

    penalty = min(_PENALTIES.tolist(), key=left_out)
    weights = right.T @ ((singular / (singular**2 + penalty))[:, None] * along)
    missed = places_m[trained:] - centre
    return np.linalg.norm(scaled[trained:] @ weights - missed, axis=1), np.linalg.norm(missed, axis=1)


def _sight(thing: str, features: Float[ndarray, "N F"], places_m: Float[ndarray, "N 2"]) -> Sight:
    error, blind = ridge_errors_m(features, places_m)
    return Sight(thing=thing, error_m=float(np.median(error)), blind_m=float(np.median(blind)))


def _places(its_task: Task, state: InitialState) -> dict[str, Float[ndarray, " 2"]]:
    """Return where on the table the things are that the stages are about, and the handle of a drawer."""
    poses: dict[str, ndarray] = {}
    for stage in range(len(its_task.stages)):
        name = its_task.reference_object(state, stage)
        pose = np.array(state.object_pose[name])
        # the object that an instruction names differs from one start to the next
        poses["named" if name == state.labels["target"] else name] = pose
    if DRAWER in state.object_pose:
        poses["handle"] = point(np.array(state.object_pose[DRAWER]), (HANDLE_X_M, 0.0, 0.0))
    return {thing: pose[:2] for thing, pose in poses.items()}


def _features(
    policy: AnyPolicy, name: str, states: list[InitialState], *, domain: str, reality: int
) -> Float[ndarray, "N F"]:
    found = []
    with make_world(name, domain=domain, reality=reality, num_envs=_NUM_ENVS) as world:
        for begin in range(0, len(states), _NUM_ENVS):
            part = states[begin : begin + _NUM_ENVS]
            # the last part is filled up: a world starts all of its environments
            seen, _ = world.reset(initial_states=(part * _NUM_ENVS)[:_NUM_ENVS])
            observation = Observation(
                image=torch.from_numpy(np.array(seen["image"])),
                state=torch.from_numpy(np.array(seen["state"])),
                instruction=tuple(seen["instruction"]),
            )
            with torch.no_grad():
                features = policy.place_features(policy.encode(observation))
            found.append(features.double().cpu().numpy()[: len(part)])
    return np.concatenate(found)
