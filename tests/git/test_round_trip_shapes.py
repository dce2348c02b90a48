"""The way home of shallow, partial, linked and moving histories, and what a second import changes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.gitrepo import GitRepo
from support.guest import Host, content, export, fingerprint


def test_sha256(tmp_path: Path) -> None:
    repo = GitRepo.create(tmp_path / "repo", object_format="sha256")
    repo.commit("first", {"README": "hello\n"})
    host = Host(repo, tmp_path / "quarantine")
    guest = repo.clone_files(tmp_path / "guest")
    tip = guest.commit("second", {"a/b/c": "1\n"})
    guest.write("new", "x\n")
    done = host.bring_home(guest)
    assert done.head == tip
    assert done.wip is not None
    repo.git("fsck", "--strict")


@pytest.fixture
def origin(tmp_path: Path) -> GitRepo:
    made = GitRepo.create(tmp_path / "origin")
    for number in range(5):
        made.commit(f"c{number}", {f"f{number}": f"{number}\n"})
    made.git("config", "uploadpack.allowFilter", "true")
    return made


def test_shallow(origin: GitRepo, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", "--depth=2", f"file://{origin.path}", tmp_path / "repo"], check=True)
    host = Host(GitRepo(tmp_path / "repo"), tmp_path / "quarantine")
    guest = host.repo.clone_files(tmp_path / "guest")
    tip = guest.commit("more", {"a": "1\n"})
    guest.git("branch", "at-the-border", "HEAD~2")
    boundary = (host.repo.path / ".git/shallow").read_bytes()
    assert host.bring_home(guest).head == tip
    assert (host.repo.path / ".git/shallow").read_bytes() == boundary
    host.repo.git("fsck")


def test_a_guest_that_unshallowed(origin: GitRepo, tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", "--depth=2", f"file://{origin.path}", tmp_path / "repo"], check=True)
    host = Host(GitRepo(tmp_path / "repo"), tmp_path / "quarantine")
    guest = host.repo.clone_files(tmp_path / "guest")
    guest.git("fetch", "-q", "--unshallow")
    tip = guest.commit("more", {"a": "1\n"})
    assert host.bring_home(guest).head == tip
    host.repo.git("fsck")


def test_a_shallow_history_made_inside_costs_itself(host: Host, guest: GitRepo, origin: GitRepo) -> None:
    tip = guest.commit("good", {"a": "1\n"})
    guest.git("fetch", "-q", "--depth=2", f"file://{origin.path}", "main:fetched")
    guest.write("new", "x\n")
    done = host.bring_home(guest)
    assert (done.head, set(done.branches)) == (tip, {"main"})
    assert [each.name for each in done.set_aside] == ["refs/heads/fetched"]
    assert content(host.repo, "refs/sandbox-wip/vm-1:new") == b"x\n"
    host.repo.git("fsck")


@pytest.mark.parametrize("spec", ["blob:none", "tree:0"])
def test_partial_clone_never_fetches(origin: GitRepo, tmp_path: Path, spec: str) -> None:
    url = f"file://{origin.path}"
    subprocess.run(["git", "clone", "-q", f"--filter={spec}", url, tmp_path / "repo"], check=True)
    host = Host(GitRepo(tmp_path / "repo"), tmp_path / "quarantine")
    guest = host.repo.clone_files(tmp_path / "guest")
    origin.path.rename(tmp_path / "unreachable")
    tip = guest.commit("more", {"a": "1\n"})
    guest.write("new", "x\n")
    done = host.bring_home(guest)
    assert done.head == tip
    assert done.wip is not None
    assert content(host.repo, "refs/sandbox-wip/vm-1:new") == b"x\n"


def test_a_second_export_is_thin_and_moves_the_refs(host: Host, guest: GitRepo) -> None:
    big = os.urandom(400_000)
    guest.commit("big", {"big": big})
    first = host.bring_home(guest)
    guest.commit("a little more", {"big": big + b"x"})
    assert first.head is not None
    assert len(export(guest, [first.head]).pack) < 10_000
    second = host.bring_home(guest)
    assert second.updated["refs/sandbox/vm-1"] == (first.head, second.head)  # type: ignore[index]
    host.repo.git("fsck", "--strict")


def test_nothing_new_changes_nothing(host: Host, guest: GitRepo) -> None:
    guest.commit("second", {"a": "1\n"})
    guest.write("new", "x\n")
    first = host.bring_home(guest)
    before = fingerprint(host.repo.path / ".git")
    again = host.bring_home(guest)
    assert again.updated == {}
    assert again.wip == first.wip
    assert fingerprint(host.repo.path / ".git") == before


def test_known_objects_that_the_guest_lacks_are_ignored(guest: GitRepo) -> None:
    assert export(guest, ["0" * 39 + "1", "nonsense"]).pack.startswith(b"PACK")


def test_no_pack_when_all_is_known(guest: GitRepo) -> None:
    assert export(guest, [guest.git("rev-parse", "HEAD")]).pack == b""


def test_a_rewound_branch_is_kept_in_the_reflog(host: Host, guest: GitRepo) -> None:
    first = guest.commit("to be amended", {"a": "1\n"})
    host.bring_home(guest)
    guest.git("reset", "-q", "--hard", "HEAD~1")
    guest.commit("instead", {"a": "2\n"})
    host.bring_home(guest)
    assert first in host.repo.git("log", "-g", "--format=%H", "refs/sandbox/vm-1").splitlines()


def test_what_the_guest_has_no_more_is_reported_and_kept(host: Host, guest: GitRepo) -> None:
    guest.git("branch", "passing")
    guest.write("new", "x\n")
    host.bring_home(guest)
    guest.git("branch", "-D", "-q", "passing")
    (guest.path / "new").unlink()
    host.repo.git("update-ref", "refs/sandbox-base/vm-1", "HEAD")
    done = host.bring_home(guest)
    assert set(done.stale) == {"refs/sandbox-heads/vm-1/passing"}
    assert set(done.stale) <= host.sandbox_refs().keys()


def test_a_branch_that_becomes_a_directory(host: Host, guest: GitRepo) -> None:
    guest.git("branch", "topic")
    host.bring_home(guest)
    guest.git("branch", "-D", "-q", "topic")
    guest.git("branch", "topic/one")
    done = host.bring_home(guest)
    ours = done.branches["topic/one"]
    assert ours in host.sandbox_refs()
    assert any("topic/one" in warning for warning in done.warnings)
    assert host.bring_home(guest).branches["topic/one"] == ours


def test_refs_given_at_spawn_are_left_out_until_touched(host: Host, guest: GitRepo) -> None:
    host.repo.git("branch", "untouched")
    guest.git("branch", "untouched")
    given = host.repo.refs()
    guest.commit("second", {"a": "1\n"})
    done = host.bring_home(guest, given=given)
    assert done.branches.keys() == {"main"}
    guest.git("branch", "-f", "untouched")
    assert host.bring_home(guest, given=given).branches.keys() == {"main", "untouched"}
    guest.git("branch", "-f", "untouched", given["refs/heads/untouched"])
    done = host.bring_home(guest, given=given)
    assert host.sandbox_refs()[done.branches["untouched"]] == given["refs/heads/untouched"]
