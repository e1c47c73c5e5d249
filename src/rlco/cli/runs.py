"""Whole runs and their reports."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

RUNS = Path("runs")


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Arguments of ``rlco demo``."""

    task: str = "push-cube"
    """Which of the tasks; ``rlco tasks`` lists them."""
    policy: str = "pi05-nano"
    """Which of the pretrained bases; ``rlco tasks`` lists them."""
    folder: Path | None = None
    """Where everything is kept; runs/demo by default, with the task and the policy where they are others."""
    device: str | None = None
    """Where policies learn and are evaluated: cpu, cuda or cuda:N. By default the accelerator, if there is one."""

    def run(self) -> None:
        """See the overview."""
        from rlco.recipes import demo
        from rlco.recipes.run import run_recipe
        from rlco.tasks import task
        from rlco.train.compute import usual_device

        config = demo(task(self.task).name, self.policy)
        others = [name for name, usual in ((config.task, Demo.task), (config.base, Demo.policy)) if name != usual]
        folder = RUNS / "-".join(["demo", *others])
        print(f"Report: {run_recipe(config, self.folder or folder, device=self.device or usual_device())}")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Arguments of ``rlco run``."""

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of the recipe; ``rlco tasks`` lists them."""
    folder: Path | None = None
    """Where everything is kept; runs/RECIPE by default, with the reality and seed where they are given."""
    reality: int | None = None
    """Another hidden draw of the stand-in than the recipe's."""
    seed: int | None = None
    """Another seed than the recipe's."""
    device: str | None = None
    """Where policies learn and are evaluated: cpu, cuda or cuda:N. By default the accelerator, if there is one."""

    def run(self) -> None:
        """See the overview."""
        from rlco.recipes import recipe
        from rlco.recipes.run import run_recipe
        from rlco.train.compute import usual_device

        config, name = recipe(self.recipe), self.recipe
        if self.reality is not None:
            config, name = replace(config, reality=self.reality), f"{name}-reality{self.reality}"
        if self.seed is not None:
            config, name = config.with_seed(self.seed), f"{name}-seed{self.seed}"
        report = run_recipe(config, self.folder or RUNS / name, device=self.device or usual_device())
        print(f"Report: {report}")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Arguments of ``rlco report``."""

    run_folder: Annotated[Path, tyro.conf.Positional]
    """A run whose evaluations are finished."""
    compared: str = "RL-Co"
    """The method whose difference to every other one is shown."""

    def run(self) -> None:
        """See the overview."""
        from rlco.recipes.run import make_report

        print(f"Report: {make_report(self.run_folder, compared=self.compared)}")


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Arguments of ``rlco replay``."""

    dump: Annotated[Path, tyro.conf.Positional]
    """The folder nan-stepNNNNNN of a training stage."""

    def run(self) -> int:
        """See the overview."""
        from rlco.recipes.dump import replay

        found = replay(self.dump)
        print(found or "Every figure was finite this time: the run does not repeat bit for bit where it was trained.")
        return 0 if found else 1
