"""Films for the report: every method on the same initial state, in both worlds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rlco.core.files import write_atomic, write_text
from rlco.core.progress import progress
from rlco.core.scene import InitialState
from rlco.data.clip import encode_mp4
from rlco.evals.outcome import EvaluationResult
from rlco.evals.report_data import CLIPS
from rlco.evals.video import Film, film, side_by_side
from rlco.recipes.config import RunConfig
from rlco.recipes.methods import STANDIN, World, evaluation_folder
from rlco.recipes.references import POLICY, open_policy
from rlco.recipes.stages import RESULT, fixed_list
from rlco.tasks import task
from rlco.worlds.make import make_world

WORLDS = {"standin": "stand-in", "twin": "twin"}
"""Domain -> its name in a film."""


def film_methods(
    folder: Path, config: RunConfig, *, methods: Mapping[str, str], compared: str = "rl", series: str = ""
) -> None:
    """Write the films that are missing to ``folder/videos``, or to a series of their own in it.

    ``methods`` maps stage folders to names.
    """
    outcomes = {stage: EvaluationResult.load(folder / evaluation_folder(stage, World()) / RESULT) for stage in methods}
    chosen = choose(outcomes, compared=compared)
    states = {s.name: s for s in fixed_list(config.evaluation(STANDIN), config.num_states)}
    wanted = [states[name] for name in chosen]
    paths = [folder / CLIPS / series / f"{state.name.replace('/', '-')}.mp4" for state in wanted]
    if all(path.exists() for path in paths):
        return
    films = film_all(folder, config, methods=methods, states=wanted)
    for i, (state, path) in enumerate(zip(wanted, paths, strict=True)):
        grid = side_by_side({world: {m: shots[i] for m, shots in row.items()} for world, row in films.items()})
        caption = f"{config.base}: {state.instruction} ({state.name}): {chosen[state.name]}"
        write_text(path.with_suffix(".txt"), caption)
        mp4 = encode_mp4(grid, fps=2 * round(task(config.task).control_hz))
        write_atomic(path, lambda temporary, content=mp4: temporary.write_bytes(content))


def film_all(
    folder: Path, config: RunConfig, *, methods: Mapping[str, str], states: list[InitialState]
) -> dict[str, dict[str, list[Film]]]:
    """Return world -> method -> the films of ``states``."""
    films: dict[str, dict[str, list[Film]]] = {name: {} for name in WORLDS.values()}
    with progress("film", total=len(WORLDS) * len(methods), unit="policy") as bar:
        for stage, name in methods.items():
            policy = open_policy(folder / stage / POLICY)
            policy.eval()
            for domain, world in WORLDS.items():
                films[world][name] = film(
                    policy, settings=config.evaluation(domain), initial_states=states, make_world=make_world
                )
                bar.advance()
    return films


def choose(results: Mapping[str, EvaluationResult], *, compared: str) -> dict[str, str]:
    """Return up to four states worth seeing -> why: the first of each kind, failures of ours included."""
    solved = {
        stage: {o.state for o in result.outcomes if o.repeat == 0 and o.success} for stage, result in results.items()
    }
    names = [o.state for o in results[compared].outcomes if o.repeat == 0 and not o.lost]
    others = set.union(*(s for stage, s in solved.items() if stage != compared), set())
    every = set.intersection(*solved.values())
    kinds = {
        "only RL-Co succeeds": [n for n in names if n in solved[compared] and n not in others],
        "every method succeeds": [n for n in names if n in every],
        "RL-Co fails": [n for n in names if n not in solved[compared] and n in others],
        "no method succeeds": [n for n in names if n not in solved[compared] and n not in others],
    }
    return {found[0]: kind for kind, found in kinds.items() if found}
