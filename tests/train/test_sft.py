from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rlco.data.reader import Dataset
from rlco.train.checkpoints import NonFiniteLossError
from rlco.train.log import read_metrics
from rlco.train.sft import SFTConfig, SFTTrainer, learning_rate, run_sft
from tests.train.samples import mixture, tiny, write_pair

Pair = tuple[Dataset, Dataset]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return write_pair(tmp_path_factory.mktemp("data"))


def config(**changes: object) -> SFTConfig:
    return SFTConfig(**{"steps": 4, "batch_size": 8, "warmup_steps": 2, "save_every": 1, "log_every": 1, **changes})


def test_stop_after_two_steps_and_resume_equals_four_straight(pair: Pair, tmp_path: Path) -> None:
    straight = tiny()
    run_sft(straight, mixture(pair), config(), folder=tmp_path / "straight", inputs={})

    class StopError(Exception):
        pass

    def stop(step: int, _: int) -> None:
        if step == 2:
            raise StopError

    with pytest.raises(StopError):
        run_sft(tiny(), mixture(pair), config(), folder=tmp_path / "resumed", inputs={}, progress=stop)
    resumed = tiny()
    run_sft(resumed, mixture(pair), config(), folder=tmp_path / "resumed", inputs={})
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))
    assert read_metrics(tmp_path / "straight") == read_metrics(tmp_path / "resumed")


def test_the_loss_falls_on_a_batch_that_can_be_learnt(pair: Pair) -> None:
    policy = tiny()
    trainer = SFTTrainer(policy, mixture(pair, alpha=0.0), config(steps=120, lr=3e-3, jitter=None))
    batch = trainer.next_batch()
    losses = [float(trainer.update(batch)["sft/loss"]) for _ in range(120)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_the_realised_fraction_is_logged(pair: Pair, tmp_path: Path) -> None:
    run_sft(tiny(), mixture(pair, alpha=1.0), config(), folder=tmp_path, inputs={})
    last = read_metrics(tmp_path)[-1]
    assert (last["sft/fraction_0"], last["sft/fraction_1"]) == (1.0, 0.0)


def test_the_rate_warms_up_and_falls_to_a_tenth() -> None:
    cfg = config(steps=1000, warmup_steps=10, lr=1.0)
    assert learning_rate(0, cfg) == pytest.approx(0.1)
    assert learning_rate(10, cfg) == pytest.approx(1.0, abs=1e-3)
    assert learning_rate(999, cfg) == pytest.approx(0.1, abs=1e-3)


def test_a_nan_in_the_data_stops_the_run_and_names_the_dump(pair: Pair, tmp_path: Path) -> None:
    poisoned = mixture(pair, alpha=0.0)
    numbers = poisoned._numbers
    poisoned._numbers = replace(numbers, action=np.full_like(numbers.action, np.nan))
    with pytest.raises(
        NonFiniteLossError, match=r"After step 0: The loss is nan; not finite in its batch: action.*nan-step000000"
    ):
        run_sft(tiny(), poisoned, config(), folder=tmp_path, inputs={})
    assert (tmp_path / "nan-step000000.pt").exists()


def test_a_folder_of_another_run_is_refused(pair: Pair, tmp_path: Path) -> None:
    run_sft(tiny(), mixture(pair), config(), folder=tmp_path, inputs={"data": "a"})
    with pytest.raises(ValueError, match="differs in: inputs, lr"):
        run_sft(tiny(), mixture(pair), config(lr=1e-3), folder=tmp_path, inputs={"data": "b"})
