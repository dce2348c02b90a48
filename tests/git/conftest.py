from __future__ import annotations

from pathlib import Path

import pytest

from support import site as sites
from support.gitrepo import GitRepo
from support.site import Site


@pytest.fixture
def site(repo: GitRepo, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Site:
    return sites.made(repo, tmp_path, capfd, monkeypatch)
