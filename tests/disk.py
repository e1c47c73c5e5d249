"""A disk on which no file may become large: the kernel says so by an error, as for a full one."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

LIMIT = 100_000
"""Bytes."""


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let no file grow beyond ``LIMIT``."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
