"""What a study is made of: figures to be measured, each of one method of one job in one world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlco.evals.study import Contrast, Place
from rlco.recipes.config import RunConfig
from rlco.recipes.methods import Method, Reinforced, World, in_order


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """A figure: a method of a job, evaluated in a world; and where it stands."""

    place: Place
    job: RunConfig
    method: Method
    world: World = field(default_factory=World)


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """A curve: success in simulation while a Stage II of a job learns."""

    line: str
    job: RunConfig
    method: Reinforced


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Figures that answer a question of the paper."""

    name: str
    title: str
    question: str
    figures: tuple[Measured, ...]
    command: str = ""
    """As it is typed."""
    curves: tuple[Learned, ...] = ()
    compared: str = "RL-Co"
    """The row whose difference to every other one is shown."""
    contrasts: tuple[Contrast, ...] = ()
    """Cells of different columns that answer the question."""
    paper: Mapping[Place, float] = field(default_factory=dict)
    """The paper's own figures, on a robot [%]."""
    average: bool = False
    """Whether tables have a column over all others."""
    x_label: str | None = None
    """What a column's number is, where figures are lines over it."""

    def jobs(self) -> dict[str, RunConfig]:
        """Return job name -> job, in order. Jobs of one name are one job."""
        found: dict[str, RunConfig] = {}
        for part in (*self.figures, *self.curves):
            name = job_name(part.job)
            if found.setdefault(name, part.job) != part.job:
                raise ValueError(f"The study '{self.name}' has two different jobs of the name '{name}'.")
        return found

    def methods(self, name: str) -> tuple[Method, ...]:
        """Return what is trained in a job: its methods and what they need, each after what it needs."""
        return in_order(tuple(part.method for part in (*self.figures_of(name), *self.curves_of(name))))

    def figures_of(self, name: str) -> tuple[Measured, ...]:
        """Return the figures of a job."""
        return tuple(figure for figure in self.figures if job_name(figure.job) == name)

    def curves_of(self, name: str) -> tuple[Learned, ...]:
        """Return the curves of a job."""
        return tuple(curve for curve in self.curves if job_name(curve.job) == name)


def job_name(job: RunConfig) -> str:
    """Return a job's folder: task, base, reality, seed, and the number of real demonstrations."""
    base = job.base.replace(":", "-")
    return f"{job.task}-{base}-real{job.real_demonstrations}-reality{job.reality}-seed{job.seed}"
