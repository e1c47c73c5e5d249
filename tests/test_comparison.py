"""What the benchmarks compare with a baseline."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from comparison import compare, conclude  # pyright: ignore[reportMissingImports]

BASELINE = {"machine": "m", "size": 3, "compared": {"high": {"rate": 100.0}, "low": {"latency": 10.0, "memory": 5.0}}}


def figures(**changes: float) -> dict[str, object]:
    found = {"rate": 100.0, "latency": 10.0, "memory": 5.0, **changes}
    low = {name: found[name] for name in ("latency", "memory")}
    return {**BASELINE, "compared": {"high": {"rate": found["rate"]}, "low": low}}


def test_each_figure_is_compared_in_its_own_direction() -> None:
    # a tenth: 90 of 100, and 10 of 9
    better = figures(rate=500.0, latency=1.0, memory=0.1)
    for fine in (figures(), better, figures(rate=90.5), figures(latency=11.1)):
        assert compare(fine, BASELINE, same=("size",)) == []
    for worse, line in (
        (figures(rate=89.0), "rate: 89.0, the baseline has 100.0: more than a tenth worse"),
        (figures(latency=11.2), "latency: 11.2, the baseline has 10.0: more than a tenth worse"),
        (figures(memory=5.6), "memory: 5.6, the baseline has 5.0: more than a tenth worse"),
    ):
        assert compare(worse, BASELINE, same=("size",)) == [line]


def test_a_baseline_of_another_setting_or_of_other_figures_compares_nothing() -> None:
    assert compare({**figures(), "size": 4}, BASELINE, same=("size",)) == [
        "The baseline was measured with another size: nothing to compare."
    ]
    older = {"machine": "m", "size": 3, "ratio": 1.0}
    assert compare(figures(), older, same=("size",)) == [
        "The baseline has none of these figures: rate, latency, memory. Save it again."
    ]
    lacking = {**BASELINE, "compared": {"high": {"rate": 100.0}, "low": {}}}
    assert compare(figures(), lacking, same=("size",)) == [
        "The baseline has none of these figures: latency, memory. Save it again."
    ]


def test_what_is_saved_is_what_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"machine": "m", "size": 3}
    options = argparse.Namespace(save=tmp_path / "base.json", compare=None)
    assert conclude(told, options, same=("size",), is_met=True, high={"rate": 100.0}, low={"latency": 1.0}) == 0
    assert json.loads(options.save.read_text())["compared"] == {"high": {"rate": 100.0}, "low": {"latency": 1.0}}
    options = argparse.Namespace(save=None, compare=tmp_path / "base.json")
    assert conclude(told, options, same=("size",), is_met=True, high={"rate": 100.0}, low={"latency": 2.0}) == 1
    assert "latency: 2.0" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["policy", "full_size", "world", "stage_two", "reading", "generate"])
def test_every_benchmark_starts(name: str) -> None:
    command = [sys.executable, f"benchmarks/bench_{name}.py", "--help"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
