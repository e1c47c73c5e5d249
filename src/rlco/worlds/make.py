"""``make_world``: the one way to a world. ``gymnasium.make_vec`` comes here too."""

from __future__ import annotations

import os

from rlco.tasks import task as task_of
from rlco.tasks.contract import Task
from rlco.worlds.spec import WorldSpec
from rlco.worlds.world import World


def make_world(  # noqa: PLR0913  (every argument has a plain default)
    task: str | Task,
    *,
    domain: str = "twin",
    engine: str = "mujoco",
    num_envs: int = 1,
    seed: int = 0,
    reality: int = 0,
    num_workers: int | None = None,
    image_size: int = 96,
    autoreset: bool = False,
    render: str = "last",
    reward: str = "sparse",
    max_steps: int | None = None,
    end_on_success: bool = True,
    random_look: bool = False,
) -> World:
    """Return a vector environment of ``num_envs`` copies of a task.

    Args:
        task: A name in ``rlco.tasks.TASKS``, or a task.
        domain: ``twin`` (the digital twin), ``standin`` (the stand-in for the real world) or ``robot``.
        engine: What simulates it.
        num_envs: Environments. Results of one do not depend on how many others there are.
        seed: Names the generators from which environments draw their initial states, and the pixel noise.
        reality: Draws the stand-in's hidden parameters; without effect in the twin.
        num_workers: Processes; at most one for each environment, by default one for each CPU. Changes no result.
        image_size: Height and width of the picture.
        autoreset: Begin the next episode in the step in which one ends; otherwise ``reset`` does it.
        render: Which control steps of a chunk are rendered: ``last``, ``all`` or ``none``.
        reward: ``sparse`` (the task's events, each paid once) or ``dense`` (shaped, at most 1).
        max_steps: Control steps after which an episode is cut; the task's own number by default.
        end_on_success: An episode ends when it has succeeded; if not, it goes on to the clock and ``success`` says
            whether the goal is met at that moment.
        random_look: Domain randomisation: every start that the world draws has a lamp and a camera of its own.
    """
    chosen = task_of(task) if isinstance(task, str) else task
    spec = WorldSpec(
        task=chosen,
        domain=domain,
        engine=engine,
        num_envs=num_envs,
        reality=reality,
        image_size=image_size,
        render=render,
        reward=reward,
        max_steps=chosen.max_steps if max_steps is None else max_steps,
        end_on_success=end_on_success,
        random_look=random_look,
    )
    workers = len(os.sched_getaffinity(0)) if num_workers is None else num_workers
    if workers < 1:
        raise ValueError(f"num_workers must be 1 or more, got {workers}.")
    return World(spec, num_workers=min(workers, num_envs), seed=seed, autoreset=autoreset)
