"""Tests for a machine with working KVM that may be done with as one likes: they run in the lab, never on the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.image import cache, spec
from git_sandbox.image.cache import Image


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.fixture
def image() -> Image:
    found = cache.find(spec.load().key)
    assert found, f"the lab has no guest image below {os.environ['XDG_CACHE_HOME']}"
    return found
