"""Action tokens: ids 31744 to 31999 of Llama's vocabulary."""

import numpy as np
import torch

from rlco.policies.openvla.config import openvla_7b
from rlco.policies.openvla.tokens import to_bins, to_values

FIRST = openvla_7b().first_action_id


def upstream_ids(value: np.ndarray) -> np.ndarray:
    """OpenVLA's rule: digitise at 256 edges, 32000 less the digit."""
    return 32000 - np.digitize(np.clip(value, -1, 1), np.linspace(-1, 1, 256))


def upstream_values(ids: np.ndarray) -> np.ndarray:
    """OpenVLA's rule: centres of the 255 bins, the index clipped."""
    edges = np.linspace(-1, 1, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    return centres[np.clip(32000 - ids - 1, 0, 254)]


def test_every_id_has_its_value_and_comes_back_but_for_the_first() -> None:
    ids = np.arange(31744, 32000)
    values = to_values(torch.from_numpy(ids - FIRST))
    np.testing.assert_allclose(values.numpy(), upstream_values(ids), rtol=0, atol=1e-7)
    back = to_bins(values) + FIRST
    assert FIRST == 31744
    # 31744 stands for exactly 1 and shares the centre 254.5/127.5 - 1 = 0.996 with 31745, which is what comes back
    assert back.tolist() == [31745, *range(31745, 32000)]
    assert values[0] == values[1]
    assert len(values.unique()) == 255


def test_values_become_ids_as_upstream() -> None:
    edges = np.linspace(-1, 1, 256)
    value = np.concatenate([np.linspace(-1.2, 1.2, 5003), edges, edges[:-1] + 1e-4]).astype(np.float32)
    assert (to_bins(torch.from_numpy(value)) + FIRST).tolist() == upstream_ids(value.astype(np.float64)).tolist()


def test_the_ends_and_what_lies_beyond_them() -> None:
    found = to_bins(torch.tensor([-1.0, -5.0, -float("inf"), 0.0, 1.0, 7.0, float("inf"), 0.9999])) + FIRST
    assert found.tolist() == [31999, 31999, 31999, 31872, 31744, 31744, 31744, 31745]


def test_a_token_is_at_most_half_a_bin_away() -> None:
    value = torch.linspace(-1, 1, 10_001)
    assert float((to_values(to_bins(value)) - value).abs().max()) <= 1 / 255 + 1e-6
