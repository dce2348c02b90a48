"""After a crash the next session finds a repository that git can work with; what is replaced stays beside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from git_sandbox.guest.repair import repair
from support.gitrepo import GitRepo


@pytest.fixture
def guest(repo: GitRepo) -> GitRepo:
    repo.commit("inside", {"a": "1\n"})
    repo.git("branch", "other")
    repo.write("a", "2\n")
    repo.write("new", "n\n")
    return repo


def zeros(path: Path) -> None:
    path.write_bytes(bytes(max(1, len(path.read_bytes()))))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [zeros, truncated, emptied], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["index", "HEAD", "config", "refs/heads/main", "packed-refs"])
def test_git_works_again(guest: GitRepo, name: str, harm: Callable[[Path], None]) -> None:
    if name == "packed-refs":
        guest.git("pack-refs", "--all", "--prune")
    tip = guest.git("rev-parse", "HEAD")
    harm(guest.path / ".git" / name)
    notes = repair(str(guest.path), guest.path / ".git")
    assert guest.git("rev-parse", "refs/heads/main") == guest.git("rev-parse", "HEAD") == tip
    assert guest.git("status", "--porcelain").split() == ["M", "a", "??", "new"]
    guest.git("-c", "user.name=T", "-c", "user.email=t@example.com", "commit", "-qam", "on")
    if (name, harm) != ("config", truncated):  # half a configuration is one, too
        assert any(name in note or "refs/heads/main" in note for note in notes)
    assert repair(str(guest.path), guest.path / ".git") == []


def test_what_was_damaged_stays_beside(guest: GitRepo) -> None:
    zeros(guest.path / ".git/index")
    zeros(guest.path / ".git/refs/heads/other")
    repair(str(guest.path), guest.path / ".git")
    assert list((guest.path / ".git").glob("index.damaged-*"))
    assert [each.read_bytes() for each in (guest.path / ".git").glob("refs-damaged-*/heads/other")] == [bytes(41)]
    assert guest.git("rev-parse", "other") == guest.git("rev-parse", "main")


def test_locks_that_nobody_holds_go(guest: GitRepo) -> None:
    for name in ("index", "HEAD", "refs/heads/main", "config"):
        guest.write(f".git/{name}.lock", "")
    notes = repair(str(guest.path), guest.path / ".git")
    assert len(notes) == 4
    guest.git("add", "new")
    guest.git("config", "a.b", "c")


def test_a_sound_repository_is_left_alone(guest: GitRepo) -> None:
    before = {path: path.stat().st_mtime_ns for path in (guest.path / ".git").rglob("*")}
    assert repair(str(guest.path), guest.path / ".git") == []
    assert {path: path.stat().st_mtime_ns for path in (guest.path / ".git").rglob("*")} == before
