from __future__ import annotations

from pathlib import Path

import pytest

from support.egress import World, certificate


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def world(pem: Path, tmp_path: Path) -> World:
    return World(pem, tmp_path)
