"""A run's device reaches every stage of it, and what was made says which one it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rlco.cli import main
from rlco.core.files import write_manifest
from rlco.recipes import recipe, stages
from rlco.recipes.methods import METHODS, RLCO, Run, World, evaluate
from rlco.recipes.provenance import machine
from rlco.train.compute import usual_device


class AskedError(Exception):
    """An evaluation was asked for."""


def test_every_method_is_trained_and_evaluated_on_the_runs_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked: list[Any] = []

    def note(*_: object, **given: object) -> None:
        asked.append(given)
        if "num_states" in given:
            raise AskedError  # an evaluation: there is no result to return

    for stage in ("sft", "rl", "evaluation"):
        monkeypatch.setattr(stages, stage, note)
    run = Run(folder=tmp_path, config=recipe("push-cube-pi05-nano-debug"), device="cuda:1")
    write_manifest(tmp_path / RLCO.stage, inputs={}, outputs={"gradient_samples": 8})
    for method in METHODS:
        method.train(run)
    assert [given["config"].compute.device for given in asked] == ["cuda:1"] * len(METHODS)
    with pytest.raises(AskedError):
        evaluate(run, RLCO, World())
    assert asked[-1]["device"] == "cuda:1"


def test_the_accelerator_is_used_where_there_is_one_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"card {device}")
    assert usual_device() == "cuda"
    assert machine("cuda:1") == f"{machine('cpu')}, card cuda:1"
    assert machine("cpu").endswith(" CPUs")
    assert machine("cpu:0") == machine("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usual_device() == "cpu"


@pytest.mark.parametrize("command", ["demo", "run push-cube-pi05-nano-debug", "study fig7"])
def test_a_device_that_is_not_there_is_one_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    folder = tmp_path / "run"
    assert main([*command.split(), "--folder", str(folder), "--device", "cuda:3"]) == 1
    assert capsys.readouterr().err == "rlco: --device is 'cuda:3', but 1 CUDA devices are here.\n"
    assert main([*command.split(), "--folder", str(folder), "--device", "gpu"]) == 1
    assert capsys.readouterr().err == "rlco: --device must be cpu, cuda or cuda:N, got 'gpu'.\n"
    assert not folder.exists()
