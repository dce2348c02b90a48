"""Where no sandbox can start, it is said why and what to do."""

from __future__ import annotations

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git import command
from git_sandbox.git.names import RefName
from git_sandbox.git.repo import discover
from support.gitrepo import GitRepo


def test_a_repository_of_somebody_else(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(command._ENVIRONMENT, "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    (repo.path / "a b").mkdir()
    with pytest.raises(RepositoryError, match="belongs to another user") as caught:
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


def test_one_list_of_refs_says_where_head_is(repo: GitRepo) -> None:
    strange = "refs/heads/a\u2028b\x85c"
    repo.git("update-ref", strange, "HEAD")
    found, tip = discover(repo.path), repo.git("rev-parse", "HEAD")
    assert found.refs_and_head() == (found.refs(), tip)
    assert found.refs()[RefName(strange)] == tip
    repo.git("checkout", "-q", "--detach")
    assert found.refs_and_head() == (found.refs(), tip)
    repo.git("symbolic-ref", "HEAD", "refs/heads/unborn")
    assert found.refs_and_head() == (found.refs(), None)
