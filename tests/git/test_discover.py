"""Where no sandbox can start, it is said why and what to do."""

from __future__ import annotations

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git import command
from git_sandbox.git.repo import discover
from support.gitrepo import GitRepo


def test_a_repository_of_somebody_else(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command._ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (repo.path / "a b").mkdir()
    with pytest.raises(RepositoryError, match="belongs to somebody else") as caught:
        discover(repo.path / "a b")
    assert caught.value.hint.endswith(f"safe.directory {repo.path}`")
    assert "dubious ownership" in caught.value.cause
    repo.git("config", "--global", "--add", "safe.directory", str(repo.path))
    assert discover(repo.path / "a b").worktree == repo.path


def test_no_repository_and_a_bare_one(repo: GitRepo) -> None:
    with pytest.raises(RepositoryError, match="not in a git repository"):
        discover(repo.path.parent)
    with pytest.raises(RepositoryError, match="bare repository or inside"):
        discover(repo.path / ".git")
