"""Two processes do not train in one folder: each would overwrite the other's checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlco.core.files import exclusive
from rlco.data.writer import write_dataset
from rlco.recipes import recipe, stages
from rlco.recipes.stages import Demonstrations
from tests.data.samples import healthy


@pytest.mark.parametrize("kind", ["sft", "rl"])
def test_a_stage_whose_folder_another_process_trains_in_is_refused(tmp_path: Path, kind: str) -> None:
    write_dataset(tmp_path / "real", [healthy(0, size=32)], fps=5, robot_type="panda")
    job = recipe("push-cube-pi05-nano-debug")

    def train() -> object:
        if kind == "rl":
            real = tmp_path / "real"
            return stages.rl(tmp_path / "rl", start=job.base, real=real, task_name="push-cube", config=job.rl)
        given = Demonstrations(real=tmp_path / "real")
        return stages.sft(tmp_path / "sft", start=job.base, demonstrations=given, config=job.cotraining)

    with exclusive(tmp_path / kind), pytest.raises(ValueError, match="Another process is at work in"):
        train()
    assert not (tmp_path / kind / "checkpoints").exists()
    if kind == "sft":
        train()
        assert (tmp_path / "sft" / "policy").exists()
