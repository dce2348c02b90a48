"""Kinds of repositories, files and checkouts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from git_sandbox.errors import IntegrateError
from git_sandbox.git.names import oid
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.merge import merge
from git_sandbox.integrate.modes import Request
from git_sandbox.integrate.plan import plan
from git_sandbox.integrate.undo import undo
from support.gitrepo import GitRepo
from support.sandboxed import ID, Trip, capture, everything


def test_rename_mode_symlink_and_directory_swaps(repo: GitRepo) -> None:
    repo.commit(
        "more", {"old": "a\nb\n", "script": "x\n", "file": "1\n", "dir/a": "1\n", "dir/b": "2\n", "odd\t\n": "1"}
    )
    (repo.path / "link").symlink_to("dir")
    repo.git("add", "link")
    repo.commit("link")
    repo.write("dir/a", "dirty\n")
    trip = Trip.spawn(repo)
    guest = trip.guest
    guest.git("mv", "old", "new")
    (guest.path / "script").chmod(0o755)
    guest.git("rm", "-q", "-f", "file", "link")
    shutil.rmtree(guest.path / "dir")
    for name in ("file/inner", "link/inner", "dir", "odd\t\n"):
        guest.write(name, "agent\n")
    guest.git("add", "-A")
    tip = guest.commit("swap everything")
    trip.merge()
    assert repo.git("rev-parse", "HEAD") == tip
    assert repo.status() == ""
    assert (repo.path / "script").stat().st_mode & 0o111
    assert not (repo.path / "link").is_symlink()


def test_a_submodule_moves_on_and_its_checkout_stays(repo: GitRepo, tmp_path: Path) -> None:
    library = GitRepo.create(tmp_path / "library")
    first = library.commit("one", {"x": "1"})
    second = library.commit("two", {"x": "2"})
    repo.git("submodule", "add", "-q", str(library.path), "sub")
    GitRepo(repo.path / "sub").git("checkout", "-q", first)
    repo.git("add", "sub")
    repo.commit("sub")
    trip = Trip.spawn(repo)
    GitRepo(trip.guest.path / "sub").git("checkout", "-q", second)
    trip.guest.git("add", "sub")
    trip.guest.commit("bump")
    assert [risk.path for risk in plan(trip.repo, trip.base, trip.request()).risky] == ["sub"]
    trip.merge()
    assert repo.git("ls-files", "-s", "sub").split()[1] == second
    assert GitRepo(repo.path / "sub").git("rev-parse", "HEAD") == first


@pytest.mark.parametrize("name", ["sub", "sub/x"])
def test_a_populated_submodule_is_not_replaced(repo: GitRepo, tmp_path: Path, name: str) -> None:
    library = GitRepo.create(tmp_path / "library")
    library.commit("one", {"x": "1"})
    repo.git("submodule", "add", "-q", str(library.path), "sub")
    repo.commit("sub")
    trip = Trip.spawn(repo)
    trip.guest.git("rm", "-q", "-f", "sub")
    trip.guest.commit("vendored", {name: "1"})
    trip.home()
    before = everything(repo)
    with pytest.raises(IntegrateError) as caught:
        trip.merge()
    assert "repository" in caught.value.cause
    assert everything(repo) == before


@pytest.mark.parametrize("text", [b"one\r\ntwo\r\n", b"one\ntwo\n"])
def test_autocrlf(repo: GitRepo, text: bytes) -> None:
    repo.git("config", "core.autocrlf", "true")
    repo.write("dos", text)
    repo.git("add", "dos")
    repo.commit("dos")
    repo.write("dos", text + b"dirty\r\n")
    repo.write("fresh", text)
    trip = Trip.spawn(repo)
    trip.guest.git("add", "-A")
    trip.guest.write("dos", text + b"agent\r\n")
    trip.guest.git("add", "dos")
    trip.guest.commit("agent")
    trip.merge()
    assert repo.status() == ""
    assert repo.read("dos") == b"one\r\ntwo\r\nagent\r\n"


def test_a_clean_and_smudge_filter(repo: GitRepo) -> None:
    repo.git("config", "filter.case.clean", "tr a-z A-Z")
    repo.git("config", "filter.case.smudge", "tr A-Z a-z")
    repo.git("config", "filter.case.required", "true")
    repo.commit("filter", {".gitattributes": "*.low filter=case\n", "a.low": "text\n"})
    repo.write("a.low", "text\ndirty\n")
    trip = Trip.spawn(repo)
    trip.guest.write("a.low", "text\ndirty\nagent\n")
    trip.guest.git("add", "-A")
    trip.guest.commit("agent")
    trip.merge()
    assert repo.status() == ""
    assert repo.read("a.low") == b"text\ndirty\nagent\n"
    assert repo.git("cat-file", "blob", "HEAD:a.low") == "TEXT\nDIRTY\nAGENT"


def test_a_filter_that_fails_half_way_changes_nothing(repo: GitRepo) -> None:
    repo.git("config", "filter.bad.smudge", "false")
    repo.git("config", "filter.bad.clean", "cat")
    repo.git("config", "filter.bad.required", "true")
    repo.commit("filter", {".gitattributes": "*.bad filter=bad\n", "gone": "1\n", "a": "1\n"})
    repo.write("a", "dirty\n")
    trip = Trip.spawn(repo)
    trip.guest.git("rm", "-q", "gone")
    trip.guest.git("config", "filter.bad.smudge", "cat")
    trip.guest.commit("agent", {"a": "agent\n", "b/new": "1\n", "z.bad": "1\n"})
    trip.home()
    before = everything(repo)
    with pytest.raises(IntegrateError, match="cannot put the new files in place"):
        trip.merge()
    repo.git("update-ref", "-d", "refs/sandbox-backup/vm-1/1")
    assert everything(repo) == before
    assert not (repo.path / "b").exists()


HOOKS = (
    "pre-commit", "commit-msg", "post-commit", "post-merge", "pre-merge-commit", "post-checkout", "post-index-change",
    "reference-transaction", "post-rewrite",
)  # fmt: skip


@pytest.mark.parametrize("place", [".git/hooks", ".husky"])
def test_no_hook_runs(repo: GitRepo, tmp_path: Path, place: str) -> None:
    if place == ".husky":
        repo.git("config", "core.hooksPath", ".husky")
    repo.commit("more", {"a": "1\n"})
    trip = Trip.spawn(repo)
    for owner in (repo, trip.guest) if place == ".git/hooks" else (trip.guest,):
        for name in HOOKS:
            owner.write(f"{place}/{name}", f"#!/bin/sh\necho {name} >> {tmp_path}/ran\n", mode=0o755)
    trip.guest.git("-c", "core.hooksPath=/dev/null", "add", "-A")
    trip.guest.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "--allow-empty", "-m", "hooks")
    repo.git("-c", "core.hooksPath=/dev/null", "fetch", "-q", str(trip.guest.path), "HEAD:refs/sandbox/vm-1")
    target = oid(repo.git("rev-parse", "refs/sandbox/vm-1"))
    found = plan(trip.repo, trip.base, Request(ID, target))
    assert {risk.reason for risk in found.risky} == (
        {"holds git hooks (core.hooksPath)"} if "h" in place[1:3] else set()
    )
    merge(trip.repo, trip.base, Request(ID, target))
    assert not (tmp_path / "ran").exists()
    assert repo.git("rev-parse", "HEAD") == target


@pytest.mark.parametrize("index", ["true", "false"])
def test_sparse_checkout_on_the_host(repo: GitRepo, index: str) -> None:
    repo.commit("more", {"in/a": "1\n", "out/b": "1\n", "far/c": "1\n"})
    repo.git("sparse-checkout", "set", "--cone", "in", "--sparse-index" if index == "true" else "--no-sparse-index")
    repo.write("in/a", "dirty\n")
    trip = Trip.spawn(repo)
    trip.guest.git("sparse-checkout", "disable")
    trip.guest.write("new-dir/d")
    trip.guest.git("add", "-A")
    tip = trip.guest.commit("agent", {"out/b": "agent\n"})
    trip.merge()
    assert repo.git("rev-parse", "HEAD") == tip
    assert repo.status() == ""
    assert repo.read("in/a") == b"dirty\n"
    assert not (repo.path / "out").exists()


def test_a_linked_worktree_as_host(repo: GitRepo, tmp_path: Path) -> None:
    linked = GitRepo(tmp_path / "linked")
    repo.git("worktree", "add", "-q", "-b", "topic", str(linked.path))
    linked.write("dirty", "1\n")
    state = capture(linked)
    base = BaseRecord(oid(linked.git("rev-parse", "HEAD")), oid(state.tree), state.index_tree)
    guest = repo.clone_files(tmp_path / "guest")
    shutil.rmtree(guest.path / ".git/worktrees")
    guest.git("checkout", "-q", "topic")
    guest.commit("agent", {"dirty": "1\n", "README": "agent\n"})
    trip = Trip(linked, guest, base)
    trip.merge()
    assert linked.status() == ""
    assert linked.git("rev-parse", "topic") == guest.git("rev-parse", "HEAD")
    assert repo.status() == ""


def test_sha256(tmp_path: Path) -> None:
    host = GitRepo.create(tmp_path / "host", object_format="sha256")
    host.commit("first", {"a": "1\n2\n3\n4\n5\n6\n7\n8\n"})
    trip = Trip.spawn(host)
    trip.guest.commit("agent", {"a": "one\n2\n3\n4\n5\n6\n7\n8\n", "b": "1"})
    host.write("a", "1\n2\n3\n4\n5\n6\n7\nlate\n")
    assert trip.merge().late == ("a",)
    assert host.read("a") == b"one\n2\n3\n4\n5\n6\n7\nlate\n"


def test_unborn_on_both_sides(tmp_path: Path) -> None:
    host = GitRepo.create(tmp_path / "host")
    host.write("a", "1\n")
    host.write("b", "1\n")
    host.git("add", "b")
    trip = Trip.spawn(host)
    tip = trip.guest.commit("first", {"a": "agent\n"})
    assert trip.merge().before is None
    assert host.git("rev-parse", "main") == tip
    assert host.status() == ""


def test_a_detached_head(repo: GitRepo) -> None:
    repo.git("checkout", "-q", "--detach")
    before = repo.git("rev-parse", "main")
    trip = Trip.spawn(repo)
    tip = trip.guest.commit("agent", {"a": "1"})
    trip.merge()
    assert repo.git("rev-parse", "HEAD") == tip
    assert repo.git("rev-parse", "main") == before
    assert repo.run("symbolic-ref", "-q", "HEAD").returncode == 1


def test_split_index_and_untracked_cache(repo: GitRepo) -> None:
    repo.git("update-index", "--split-index", "--untracked-cache")
    repo.write("dirty", "1\n")
    trip = Trip.spawn(repo)
    trip.guest.git("add", "-A")
    trip.guest.commit("agent", {"README": "agent\n"})
    trip.merge()
    assert repo.status() == ""
    assert repo.git("fsck", "--no-dangling") == ""


def test_core_file_mode_off(repo: GitRepo) -> None:
    repo.git("config", "core.fileMode", "false")
    repo.commit("ignore", {".gitignore": "tool\n"})
    trip = Trip.spawn(repo)
    trip.guest.write("tool", "x\n")
    trip.guest.git("add", "-f", "--chmod=+x", "tool")
    trip.guest.commit("tool")
    repo.write("tool", "x\n", mode=0o644)
    trip.merge()
    assert repo.status() == ""


def test_names_that_are_no_utf8(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    name = os.fsdecode(b"caf\xe9 \x1b[31m")
    for each in (name, "-n", ":(top)x*"):
        trip.guest.write(each)
    trip.guest.git("add", "-A")
    trip.guest.commit("odd")
    merged = trip.merge()
    assert name in merged.changed
    assert repo.status() == ""


def test_on_a_branch_that_is_no_utf8(repo: GitRepo) -> None:
    repo.git("checkout", "-q", "-b", os.fsdecode(b"caf\xe9"))
    trip = Trip.spawn(repo)
    tip = trip.guest.commit("agent", {"a": "1"})
    trip.merge()
    assert repo.git("rev-parse", "HEAD") == tip
    undo(trip.repo, ID)
    assert not (repo.path / "a").exists()
