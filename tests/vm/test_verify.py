"""`sandbox doctor --verify` on repositories with a bit of everything: the guest sees what the host has."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from support.gitrepo import GitRepo
from support.vm import Sandboxes

NOBODY = 0xFFFFFFFF


def odd(repo: GitRepo) -> None:
    """Names, files and flags that are seldom met."""
    for name in (b"new\nline", b"inv\xffalid", b"-n", b"tab\t", "\u202ebidi".encode()):
        repo.write("odd/" + os.fsdecode(name))
    repo.git("add", "odd")
    repo.commit("odd", {".gitignore": "*.o\n", "flagged": "1\n", "hidden": "1\n", "in/a": "1\n", "both": "base\n"})
    repo.write("ignored.o")
    repo.write("script", mode=0o750)
    os.link(repo.path / "script", repo.path / "twin")
    (repo.path / "dangling").symlink_to("/no/where")
    os.mkfifo(repo.path / "pipe")
    (repo.path / "empty").mkdir(mode=0o700)
    with (repo.path / "holes.o").open("wb") as file:
        file.truncate(64 << 20)
    rows = ((1, 6, NOBODY), (2, 4, 1), (4, 4, NOBODY), (16, 4, NOBODY), (32, 4, NOBODY))  # tag, permissions, user
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in rows)
    os.setxattr(repo.path / "flagged", "system.posix_acl_access", acl)
    os.setxattr(repo.path / "README", "user.colour", b"blue")


def states(repo: GitRepo) -> None:
    """Stashes, refs of every kind, submodules, nested repositories, a merge in progress, and all kinds of entries."""
    for number in range(2):
        repo.write("README", f"{number}\n")
        repo.git("stash", "push", "-q", "-m", f"number {number}")
    repo.git("tag", "-a", "-m", "annotated", "v1")
    repo.git("notes", "add", "-m", "note")
    repo.git("branch", os.fsdecode(b"caf\xe9"))
    repo.git("update-ref", "refs/mine/x", "HEAD")
    inner = GitRepo.create(repo.path / os.fsdecode(b"nested\xff"))
    inner.commit("one", {"a": "1\n"})
    inner.write("a", "dirty\n")
    library = GitRepo.create(repo.path.parent / "library")
    library.commit("one", {"x": "1"})
    repo.git("submodule", "add", "-q", str(library.path), "sub")
    repo.commit("sub")
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("side", {"both": "side\n"})
    repo.git("checkout", "-q", "main")
    repo.commit("main", {"both": "main\n"})
    repo.git("update-index", "--split-index")
    assert repo.run("merge", "side").returncode == 1
    repo.write("later")
    repo.git("add", "-N", "later")
    repo.git("update-index", "--assume-unchanged", "flagged")
    repo.git("update-index", "--skip-worktree", "hidden")


def verified(boxes: Sandboxes) -> None:
    data = boxes.ok("doctor", "--verify", "--json").envelope["data"]
    assert data["differences"] == []
    assert (boxes.refs(), boxes.directories()) == ({}, [])


def test_a_bit_of_everything(boxes: Sandboxes) -> None:
    odd(boxes.repo)
    states(boxes.repo)
    verified(boxes)


@pytest.fixture
def repo(tmp_path: Path, request: pytest.FixtureRequest) -> GitRepo:
    """A SHA-256 repository's linked worktree for one of the tests, a plain repository for the other."""
    plain = GitRepo.create(tmp_path / "repo", object_format="sha256" if "linked" in request.node.name else "sha1")
    plain.commit("first", {"README": "hello\n", "in/a": "1\n", "out/b": "1\n"})
    if "linked" not in request.node.name:
        return plain
    plain.git("worktree", "add", "-q", "-b", "topic", str(tmp_path / "linked"))
    return GitRepo(tmp_path / "linked")


def test_a_sparse_linked_worktree_of_a_sha256_repository_in_a_rebase(boxes: Sandboxes) -> None:
    repo = boxes.repo
    repo.git("checkout", "-q", "-b", "onto", "HEAD")
    repo.commit("theirs", {"README": "theirs\n"})
    repo.git("checkout", "-q", "topic")
    repo.commit("ours", {"README": "ours\n"})
    repo.git("sparse-checkout", "set", "in")
    assert repo.run("rebase", "onto").returncode != 0
    verified(boxes)
