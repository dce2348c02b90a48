"""A repository that was cloned from anywhere is only looked at: no module of its own is imported on the host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from git_sandbox import settings
from git_sandbox.errors import SandboxError
from git_sandbox.git import repo as repos
from git_sandbox.sandbox import supervisor
from git_sandbox.sandbox.options import Options
from support.gitrepo import GitRepo


def test_the_supervisor_imports_nothing_from_the_repository(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran on the host"
    for name in ("msgspec.py", "git_sandbox/__init__.py", "typing.py"):
        repo.write(name, f"open({os.fspath(mark)!r}, 'w').close()\nraise SystemExit(1)\n")
    monkeypatch.chdir(repo.path)
    monkeypatch.setenv("PATH", os.fspath(Path(sys.executable).parent))  # without git it fails at once, starting nothing
    wanted, _ = settings.resolve()
    with pytest.raises(SandboxError, match="git"):
        supervisor.start(_found(repo), Options(wanted, None, None, "", detached=True), lambda _text: None)
    assert not mark.exists()


def _found(repo: GitRepo) -> repos.Repository:
    git_dir = repo.path / ".git"
    return repos.Repository(repo.path, git_dir, git_dir, "sha1")
