"""The paper's studies as code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rlco.core.errors import unknown_name
from rlco.recipes.budgets import reduced
from rlco.recipes.studies.definitions import beyond, fig4, fig5, fig6, fig7, table1, table2
from rlco.recipes.studies.measure import Study

STUDIES: dict[str, Callable[..., Study]] = {
    "table1": table1,
    "table2": table2,
    "fig4": fig4,
    "fig5": fig5,
    "fig6": fig6,
    "fig7": fig7,
    "beyond": beyond,
}


def study(name: str, *, budget: float = 1.0, policy: str | None = None) -> Study:
    """Return a study; ``budget`` below 1 does less of everything and proves less.

    ``policy`` is the shipped base it is made with, in the place of its own: its page is then another one.

    Raises ``LookupError`` naming the nearest study or base, ``ValueError`` for a budget that is not in (0, 1].
    """
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    found, command = STUDIES[name](), f"rlco study {name}"
    if policy is not None:
        found, command = replace(STUDIES[name](policy), name=f"{name}-{policy}"), f"{command} --policy {policy}"
    if budget == 1.0:
        return replace(found, command=command)
    return replace(
        found,
        name=f"{found.name}-budget{budget:g}",
        command=f"{command} --budget {budget:g}",
        question=f"{found.question} At a budget of {budget:g}: that share of updates, iterations, generated "
        "demonstrations and initial states.",
        figures=tuple(replace(figure, job=reduced(figure.job, budget)) for figure in found.figures),
        curves=tuple(replace(curve, job=reduced(curve.job, budget)) for curve in found.curves),
    )
