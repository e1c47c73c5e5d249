"""What can be asked of exploration."""

from dataclasses import replace

import pytest

from rlco.policies.pi.exploration import FlowExploration

NOISE, REINFLOW = FlowExploration(), FlowExploration(method="reinflow")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "flow-cps"}, "method must be one of flow-noise, flow-sde, reinflow, got 'flow-cps'"),
        ({"stochastic_steps": "some"}, "stochastic_steps must be one of one, all, got 'some'"),
        ({"log_prob": "product"}, "log_prob must be one of sum, mean-steps, mean, got 'product'"),
        ({"noise_std": (0.2, 0.1)}, "noise_std must be two rising numbers above 0, got 0.2 and 0.1"),
        ({"noise_std_start": 0.5}, "noise_std_start must be between 0.03 and 0.2, got 0.5"),
        ({"noise_std": (0.3, 0.5)}, "noise_std_start must be between 0.3 and 0.5, got 0.12"),
        ({"noise_level": 0.0}, "noise_level must be above 0, got 0.0"),
        ({"mean_bound": -1.0}, "mean_bound must be 0 or more, got -1.0"),
    ],
)
def test_a_bad_exploration_is_refused_when_it_is_made(changes: dict, message: str) -> None:
    # the annotations are checked under pytest too, so a wrong word is put in behind their back
    exploration = object.__new__(FlowExploration)
    for name, value in ({f: getattr(NOISE, f) for f in FlowExploration.__dataclass_fields__} | changes).items():
        object.__setattr__(exploration, name, value)
    with pytest.raises(ValueError, match=f"FlowExploration.{message}"):
        exploration.__post_init__()


def test_every_method_has_values_of_its_own_and_they_can_be_replaced() -> None:
    assert NOISE.resolved() == FlowExploration(
        method="flow-noise", noise_std=(0.03, 0.2), noise_std_start=0.12, mean_bound=0.0, log_prob="sum"
    )
    assert (REINFLOW.std_bounds, REINFLOW.reduction, REINFLOW.trust_region.clip) == ((0.08, 0.14), "mean", 0.01)
    assert replace(REINFLOW, log_prob="sum").trust_region.clip == 0.2
    with pytest.raises(ValueError, match="unknown fields noise_params"):
        FlowExploration.from_json({"noise_params": [0.16, 0.12, 200]})
