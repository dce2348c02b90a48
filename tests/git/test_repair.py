"""After a crash the next session finds a repository that git can work with; what is replaced stays beside."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from git_sandbox.guest.repair import repair, repair_all
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


@pytest.fixture
def outer(repo: GitRepo, tmp_path: Path) -> GitRepo:
    """A clone inside, an ignored one, and an absorbed submodule with one of its own in it."""

    def made(name: str) -> GitRepo:
        found = GitRepo.create(tmp_path / name)
        found.commit("inside", {"a": "1\n"})
        found.git("branch", "other")
        return found

    add = ("-c", "protocol.file.allow=always", "submodule", "add", "-q")
    middle = made("middle")
    middle.git(*add, str(made("deep").path), "deep")
    middle.commit("more", {})
    repo.git(*add, str(middle.path), "sub")
    repo.git("-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init", "--recursive")
    repo.commit("all", {".gitignore": "ignored/\n"})
    for name in ("clone", "ignored/clone"):
        repo.git("clone", "-q", str(made(name.replace("/", "-") + "-origin").path), name)
    return repo


INNER = {
    "clone": "clone/.git",
    "ignored/clone": "ignored/clone/.git",
    "sub": ".git/modules/sub",
    "sub/deep": ".git/modules/sub/modules/deep",
}


@pytest.mark.parametrize("harm", [zeros, emptied], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["index", "HEAD", "config", "refs/heads/main"])
def test_git_works_again_in_every_repository_inside(outer: GitRepo, name: str, harm: Callable[[Path], None]) -> None:
    tips = {where: GitRepo(outer.path / where).git("rev-parse", "HEAD") for where in INNER}
    for git_dir in INNER.values():
        (outer.path / git_dir / "index.lock").write_bytes(b"")
        if (path := outer.path / git_dir / name).exists():
            harm(path)
    notes = repair_all(str(outer.path))
    for where in INNER:
        inner = GitRepo(outer.path / where)
        assert inner.git("rev-parse", "HEAD") == tips[where]
        inner.write("a", "2\n")
        inner.git("-c", "user.name=T", "-c", "user.email=t@example.com", "commit", "-qam", "on")
        assert any(note.startswith(f"{where}: ") for note in notes) or where.startswith("sub"), notes
    assert repair_all(str(outer.path)) == []


def test_the_pointer_of_a_submodule_that_became_zeros(outer: GitRepo) -> None:
    for where in ("sub", "sub/deep"):
        zeros(outer.path / where / ".git")
    assert len(repair_all(str(outer.path))) == 2
    for where in ("sub", "sub/deep"):
        assert GitRepo(outer.path / where).git("status", "--porcelain") == ""


def test_one_that_cannot_be_mended_holds_up_no_other(outer: GitRepo) -> None:
    shutil.rmtree(outer.path / "clone/.git/objects")
    (outer.path / "clone/.git/objects").mkdir()
    zeros(outer.path / "clone/.git/index")
    zeros(outer.path / "ignored/clone/.git/index")
    repair_all(str(outer.path))
    assert GitRepo(outer.path / "ignored/clone").git("status", "--porcelain") == ""


def test_sound_repositories_inside_are_left_alone(outer: GitRepo) -> None:
    before = {path: path.lstat().st_mtime_ns for path in outer.path.rglob("*")}
    assert repair_all(str(outer.path)) == []
    assert {path: path.lstat().st_mtime_ns for path in outer.path.rglob("*")} == before
