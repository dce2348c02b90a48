"""Awkward names and settings on either side of the way home."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from git_sandbox.git.repo import discover
from support.gitrepo import GitRepo
from support.guest import Host


@pytest.mark.parametrize(
    "name",
    ["bi\u202edi", "c1\u009b31m", b"latin-\xe9".decode("utf-8", "surrogateescape"), "Ümlaut", "per%cent", "-dash/-x",
     "a/" * 60 + "z", "x" * 230],
    ids=ascii,
)  # fmt: skip
def test_awkward_branch_names(host: Host, guest: GitRepo, name: str) -> None:
    guest.git("update-ref", f"refs/heads/{name}", "HEAD")
    done = host.bring_home(guest)
    ours = done.branches[name]
    assert ours.isprintable()
    assert ours.isascii() or ours.endswith("/Ümlaut")
    assert host.sandbox_refs()[ours] == guest.git("rev-parse", "HEAD")


def test_file_names_of_any_bytes(host: Host, guest: GitRepo) -> None:
    name = b"esc\x1b[31m \xff\n\xe2\x80\xae".decode("utf-8", "surrogateescape")
    guest.write(name, "x\n")
    done = host.bring_home(guest)
    rows = host.repo.run("ls-tree", "-z", "--name-only", "refs/sandbox-wip/vm-1").stdout.split(b"\0")
    assert os.fsencode(name) in rows
    assert done.warnings == ()


def test_names_that_differ_in_case_only(host: Host, guest: GitRepo) -> None:
    guest.git("branch", "Topic")
    guest.git("branch", "topic")
    assert set(host.bring_home(guest).branches.values()) >= {f"refs/sandbox-heads/vm-1/{n}" for n in ("Topic", "topic")}
    host.repo.git("config", "core.ignoreCase", "true")
    guest.git("branch", "tOPIC")
    done = host.bring_home(guest)
    assert len(set(done.branches.values())) == len(done.branches)
    assert "%sha256-" in done.branches["tOPIC"]


def test_a_tag_of_a_tree_is_left_in_the_sandbox(host: Host, guest: GitRepo) -> None:
    guest.git("tag", "tree", "HEAD^{tree}")
    done = host.bring_home(guest)
    assert "refs/tags/tree" not in done.names
    assert [each.name for each in done.set_aside] == ["refs/tags/tree"]


def test_replacements_and_grafts_do_not_change_history(host: Host, guest: GitRepo) -> None:
    guest.commit("second", {"a": "1\n"})
    tip = guest.commit("third", {"a": "2\n"})
    guest.git("replace", "--graft", "HEAD")
    guest.write(".git/info/grafts", f"{tip}\n")
    assert host.bring_home(guest).head == tip
    assert host.repo.git("rev-list", "--count", "refs/sandbox/vm-1") == "3"


def test_a_damaged_ref_does_not_stop_the_others(host: Host, guest: GitRepo) -> None:
    tip = guest.commit("second", {"a": "1\n"})
    guest.write(".git/refs/heads/lost", "1" * 40 + "\n")
    done = host.bring_home(guest)
    assert done.head == tip
    assert any("refs/heads/lost" in warning for warning in done.warnings)


def test_the_users_settings_do_not_interfere(host: Host, guest: GitRepo, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    host.repo.write(".git/hooks/reference-transaction", f"#!/bin/sh\ntouch {mark}\n", mode=0o755)
    for key in ("fetch.prune", "fetch.pruneTags", "transfer.fsckObjects", "fetch.writeCommitGraph", "fetch.all"):
        host.repo.git("config", key, "true")
    host.repo.git("config", "fetch.recurseSubmodules", "on-demand")
    mark.unlink(missing_ok=True)
    guest.git("tag", "only-in-the-sandbox")
    guest.commit("second", {"a": "1\n"})
    host.bring_home(guest)
    before = host.repo.refs()
    guest.commit("third", {"a": "2\n"})
    host.bring_home(guest)
    assert not mark.exists()
    assert host.repo.refs().keys() == before.keys()
    assert "refs/tags/only-in-the-sandbox" not in before
    assert not (host.repo.path / ".git/FETCH_HEAD").exists()


def test_from_a_linked_worktree(host: Host, guest: GitRepo, tmp_path: Path) -> None:
    host.repo.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    linked = Host(GitRepo(tmp_path / "linked"), tmp_path / "quarantine")
    assert discover(linked.repo.path).linked
    tip = guest.commit("second", {"a": "1\n"})
    assert linked.bring_home(guest).head == tip
    assert host.sandbox_refs()["refs/sandbox/vm-1"] == tip


def test_a_repository_that_borrows_objects(host: Host, tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" \\ c'
    subprocess.run(["git", "clone", "-q", "--shared", host.repo.path, odd / "repo"], check=True)
    borrower = Host(GitRepo(odd / "repo"), odd / "quarantine")
    guest = borrower.repo.clone_files(odd / "guest")
    tip = guest.commit("second", {"README": "hello\nmore\n"})
    assert borrower.bring_home(guest).head == tip


def test_another_worktree_in_the_guest_is_named(host: Host, guest: GitRepo, tmp_path: Path) -> None:
    aside = GitRepo(tmp_path / "aside")
    guest.git("worktree", "add", "-q", str(aside.path))
    assert host.bring_home(guest).warnings == ()
    subprocess.run(["rm", "-r", aside.path], check=True)
    assert any("another worktree" in warning for warning in host.bring_home(guest).warnings)


def test_uncommitted_work_of_another_worktree(host: Host, guest: GitRepo, tmp_path: Path) -> None:
    aside = GitRepo(tmp_path / "ås.ide")
    guest.git("worktree", "add", "-q", str(aside.path))
    base = aside.commit("over there", {"a": "1\n"})
    aside.write("a", "2\n")
    aside.write("new", "new\n")
    status = aside.status()
    host.bring_home(guest)
    wip = "refs/sandbox-other/vm-1/worktrees/ås.ide/wip"
    assert host.repo.git("rev-parse", f"{wip}^1") == base
    assert (host.repo.git("show", f"{wip}:a"), host.repo.git("show", f"{wip}:new")) == ("2", "new")
    assert aside.status() == status
    assert not host.bring_home(guest).updated
