"""What tests of the way in and the way home share."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import site as sites
from support.gitrepo import GitRepo
from support.guest import Host
from support.site import Site


@pytest.fixture
def site(repo: GitRepo, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Site:
    return sites.made(repo, tmp_path, capfd, monkeypatch)


@pytest.fixture
def host(repo: GitRepo, tmp_path: Path) -> Host:
    """The repository that a sandbox began from, and where what comes home is examined."""
    return Host(repo, tmp_path / "quarantine")


@pytest.fixture
def guest(repo: GitRepo, tmp_path: Path) -> GitRepo:
    """A copy of the repository, as a machine holds it when it begins."""
    return repo.clone_files(tmp_path / "guest")
