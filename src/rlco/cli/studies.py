"""The paper's studies."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


def tell(name: str, error: Exception) -> None:
    """Say why a job failed whose others go on: one line for what a user can mend, else where it happened."""
    from rlco.cli import FAILED, complain, is_for_user

    if not is_for_user(error):
        traceback.print_exception(error)
    complain(f"{name}: {error}", code=FAILED)


@dataclass(frozen=True, kw_only=True)
class Study:
    """Arguments of ``rlco study``."""

    name: Annotated[str, tyro.conf.Positional]
    """table1, table2, fig4, fig5, fig6, fig7 or beyond."""
    folder: Path | None = None
    """Where jobs and pages are kept; runs/studies by default, with the budget where it is not 1. Studies share jobs."""
    only: str | None = None
    """Run the jobs with this in their names, such as push-cube or openvla-nano-real20-reality0."""
    policy: str | None = None
    """The shipped base to run it with. None: both in table1, pi05-nano in the others."""
    budget: float = 1.0
    """Share of updates, iterations, generated demonstrations and initial states; below 1 it proves less."""
    parallel: int = 1
    """Jobs side by side, the cores shared among them; what they say is in their folders."""
    device: str | None = None
    """Where policies learn and are evaluated: cpu, cuda or cuda:N. By default the accelerator, if there is one."""
    list: bool = False
    """Show the jobs and whether they are finished, and run nothing."""
    page: bool = False
    """Write the page of what is finished, and run nothing."""

    def run(self) -> int:
        """See the overview."""
        from rlco.recipes.studies import study
        from rlco.recipes.studies.beside import run_beside
        from rlco.recipes.studies.run import chosen, is_finished, make_page, run_jobs
        from rlco.train.compute import require_device, usual_device

        if self.parallel < 1:
            raise ValueError(f"--parallel must be 1 or more, got {self.parallel}.")
        device = self.device or usual_device()
        require_device("--device", device)
        found = study(self.name, budget=self.budget, policy=self.policy)
        names = chosen(found, self.only)
        root = self.folder or Path("runs") / ("studies" if self.budget == 1 else f"studies-budget{self.budget:g}")
        if self.list:
            for name in names:
                print(f"{'finished' if is_finished(found, name, root) else 'to do':<9} {name}")
            return 0
        failed: list[str] = []
        if not self.page and self.parallel == 1:
            failed = run_jobs(found, root, names=names, told=tell, device=device)
        elif not self.page:
            commands = {name: self._command(name, root) for name in names}
            failed = run_beside(
                commands, root, parallel=self.parallel, is_done=lambda name: is_finished(found, name, root)
            )
        if failed:
            print(f"Failed: {', '.join(failed)}", file=sys.stderr)
        print(f"Page: {make_page(found, root)}")
        return 1 if failed else 0

    def _command(self, name: str, root: Path) -> list[str]:
        """Return the command that runs one job and nothing beside it."""
        arguments = ["study", self.name, "--folder", str(root), "--only", name, "--budget", str(self.budget)]
        arguments += [] if self.device is None else ["--device", self.device]
        arguments += [] if self.policy is None else ["--policy", self.policy]
        return [sys.executable, "-m", "rlco.cli", *arguments]
