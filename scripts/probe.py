"""Say how well policies see the things of a task: median error of a ridge regression on their grounding features.

Run: .venv/bin/python scripts/probe.py pi05-nano runs/base --tasks pick-place push-cube
"""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from rlco.evals.probe import probe
from rlco.recipes.references import open_policy
from rlco.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What is probed."""

    policies: tyro.conf.Positional[tuple[str, ...]]
    """Shipped bases or policy folders."""
    tasks: tuple[str, ...] = tuple(TASKS)
    domain: str = "twin"
    learnt_in: str | None = None
    """The world that the regression learns in, by default the same: with twin and ``--domain standin``, the gap."""
    reality: int = 0
    count: int = 400
    """Starts: three quarters to learn from, the others to measure."""


def main() -> None:
    """Print a line for each policy, task and thing."""
    chosen = tyro.cli(Arguments)
    for reference in chosen.policies:
        policy = open_policy(reference).eval()
        for name in chosen.tasks:
            for sight in probe(
                policy,
                name,
                learnt_in=chosen.learnt_in,
                domain=chosen.domain,
                reality=chosen.reality,
                count=chosen.count,
            ):
                error, blind = 100 * sight.error_m, 100 * sight.blind_m
                print(f"{reference}  {name}  {sight.thing}: {error:.2f} cm, blind {blind:.2f} cm", flush=True)


if __name__ == "__main__":
    main()
