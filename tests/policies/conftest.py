"""One small OpenVLA in the folder layouts that conversions read and write."""

from pathlib import Path

import pytest

from rlco.policies.checkpoint import save_policy
from rlco.policies.openvla.policy import OpenVlaPolicy
from tests.policies.folders import foreign
from tests.policies.openvla_folders import published


@pytest.fixture
def made(tmp_path: Path) -> OpenVlaPolicy:
    return published(tmp_path)


@pytest.fixture
def own(made: OpenVlaPolicy, tmp_path: Path) -> Path:
    """A checkpoint of ours that the released layout has a place for."""
    save_policy(tmp_path / "own", made, provenance={})
    return tmp_path / "own"


@pytest.fixture
def there(own: Path, tmp_path: Path) -> Path:
    """The same as a fine-tune of another program leaves it: its tokenizer beside it, nothing of ours."""
    return foreign(own, tmp_path / "there", "openvla")
