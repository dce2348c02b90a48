"""A repository that the guest's git would refuse is refused before anything is copied."""

from __future__ import annotations

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git.repo import discover
from git_sandbox.workspace import extensions
from support.gitrepo import GitRepo


@pytest.mark.parametrize(
    ("names", "suite", "found"),
    [
        (["extensions.objectFormat", "extensions.WorktreeConfig", "core.bare"], "bookworm", ()),
        (["extensions.refStorage"], "trixie", ()),
        (["extensions.refStorage", "extensions.fromTheFuture"], "bookworm", ("fromthefuture", "refstorage")),
        (["extensions.relativeWorktrees"], "trixie", ()),
        (["extensions.fromTheFuture"], "somewhere-else", ()),
    ],
)
def test_what_a_guests_git_does_not_know(names: list[str], suite: str, found: tuple[str, ...]) -> None:
    assert extensions.unknown(names, suite) == found


def test_only_the_newer_format_of_repositories_is_strict(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.git("config", "extensions.worktreeConfig", "true")
    found = discover(repo.path)
    monkeypatch.setitem(extensions._KNOWN, "trixie", frozenset())
    extensions.require_understood(found, "trixie")
    repo.git("config", "core.repositoryFormatVersion", "1")
    with pytest.raises(RepositoryError, match="trixie") as caught:
        extensions.require_understood(found, "trixie")
    assert "extensions.worktreeconfig" in caught.value.cause
