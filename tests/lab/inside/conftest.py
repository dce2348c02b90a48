"""Tests for a machine with working KVM that may be done with as one likes: they run in the lab, never on the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.cache import guest_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.image import spec


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.lab)


@pytest.fixture
def image() -> Image:
    found = guest_images.find(spec.load().key)
    assert found, f"the lab has no guest image below {os.environ['XDG_CACHE_HOME']}"
    return found
