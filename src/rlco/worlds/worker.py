"""The process in which environments live: ``python -m rlco.worlds.worker CONNECTION MEMORY`` (file descriptors).

Started by ``rlco.worlds.pool`` only, which keeps Ctrl-C and SIGTERM from it. This is the one place where the
stand-in's parameters exist.
"""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection
from typing import Any

from rlco.engines.mujoco.simulation import Simulation
from rlco.worlds import shared
from rlco.worlds.episodes import Episodes
from rlco.worlds.spec import Assignment, WorldSpec


def build(assignment: Assignment, memory: int) -> Episodes:
    """Return the environments of this process, in the world that the specification names."""
    spec = assignment.spec
    arrays = shared.attach(memory, spec.layout(assignment.num_workers))
    heartbeat = arrays.pop("heartbeat")[assignment.worker : assignment.worker + 1]
    simulation = _simulation(spec, num_envs=assignment.last - assignment.first)
    rows = {name: array[assignment.first : assignment.last] for name, array in arrays.items()}
    return Episodes(spec, simulation, rows, heartbeat)


def serve(connection: Connection, memory: int) -> None:
    """Answer commands until the other end closes."""
    try:
        episodes = build(connection.recv(), memory)
        connection.send(("ok", None))
        while True:
            command, arguments = connection.recv()
            if command == "close":
                return
            connection.send(("ok", getattr(episodes, command)(*arguments)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the training process is gone
    except Exception as error:
        connection.send(("error", f"{type(error).__name__}: {error}"))
        raise


def _simulation(spec: WorldSpec, *, num_envs: int) -> Simulation:
    hidden: dict[str, Any] = {}
    if spec.domain == "standin":
        # here and nowhere else: a training process never loads it
        from rlco.worlds import standin

        drawn = standin.draw(spec.reality)
        hidden = {"appearance": drawn.appearance, "dynamics": drawn.dynamics}
    return Simulation(
        spec.task.scene,
        num_envs=num_envs,
        image_size=spec.image_size,
        control_hz=spec.task.control_hz,
        **hidden,
    )


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
