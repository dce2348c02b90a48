"""The command line in process: what `sandbox` prints and ends with, no machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from git_sandbox.cli.main import main
from support.gitrepo import GitRepo


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def envelope(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert list(found) == ["schema", "command", "status", "data", "errors"]
        return dict(found)


Cli = Callable[..., Said]


@pytest.fixture
def cli(repo: GitRepo, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run one command line in `repo`."""
    monkeypatch.chdir(repo.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(repo.path.parent / "cache"))

    def call(*words: str) -> Said:
        capfd.readouterr()
        code = main(words)
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return call
