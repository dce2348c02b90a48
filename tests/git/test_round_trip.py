"""The way home with a well-behaved guest: real git on both sides, the exporter as a program of its own."""

from __future__ import annotations

from pathlib import Path

from support.gitrepo import GitRepo
from support.guest import Host, content, export


def test_commits_come_home_with_the_same_names(host: Host, guest: GitRepo) -> None:
    before = host.repo.git("rev-parse", "HEAD")
    tip = guest.commit("second", {"a": "1\n"})
    done = host.bring_home(guest)
    assert done.head == tip
    assert done.head_symref == "refs/heads/main"
    assert done.wip is None
    assert host.sandbox_refs() == {"refs/sandbox/vm-1": tip, "refs/sandbox-heads/vm-1/main": tip}
    assert done.branches == {"main": "refs/sandbox-heads/vm-1/main"}
    assert done.updated["refs/sandbox/vm-1"] == (None, tip)  # type: ignore[index]
    assert done.warnings == ()
    assert host.repo.git("rev-parse", "HEAD") == before
    assert host.repo.status() == ""
    assert not host.quarantine.exists()
    host.repo.git("fsck", "--strict")


def test_branches_tags_notes_and_stashes(host: Host, guest: GitRepo) -> None:
    guest.git("branch", "at-the-old-commit")
    guest.commit("second", {"a": "1\n"})
    guest.git("switch", "-q", "-c", "feature/login")
    guest.commit("third", {"b": "1\n"})
    guest.git("tag", "light")
    guest.git("tag", "-a", "-m", "annotated", "v1.0")
    guest.git("tag", "-a", "-m", "tag of a tag", "v1.0-signed", "v1.0")
    guest.git("notes", "add", "-m", "a note")
    for number in (1, 2):
        guest.write("README", f"stash {number}\n")
        guest.write("new", "untracked\n")
        guest.git("stash", "push", "-q", "-u", "-m", f"number {number}")
    stashes = guest.git("log", "-g", "--format=%H", "refs/stash").splitlines()
    expected = {
        f"refs/sandbox-{name.split('/')[1]}/vm-1/{name.split('/', 2)[2]}": oid
        for name, oid in guest.refs().items()
        if name != "refs/stash"
    }
    expected |= {f"refs/sandbox-stash/vm-1/{n}": oid for n, oid in enumerate(stashes)}
    expected["refs/sandbox/vm-1"] = guest.git("rev-parse", "HEAD")
    done = host.bring_home(guest)
    assert host.sandbox_refs() == expected
    assert done.names["refs/tags/v1.0"] == "refs/sandbox-tags/vm-1/v1.0"
    assert content(host.repo, "refs/sandbox-stash/vm-1/1^3:new") == b"untracked\n"


def test_a_stash_can_be_restored_on_the_host(host: Host, guest: GitRepo) -> None:
    guest.write("README", "stashed\n")
    guest.git("stash", "push", "-q", "-m", "over there")
    host.bring_home(guest)
    host.repo.git("stash", "store", "-m", "over there", "refs/sandbox-stash/vm-1/0")
    host.repo.git("stash", "pop", "-q")
    assert host.repo.read("README") == b"stashed\n"


def test_the_manifest_tells_the_stash_messages(guest: GitRepo) -> None:
    for number in (1, 2):
        guest.write("README", f"stash {number}\n")
        guest.git("stash", "push", "-q", "-m", f"number {number}")
    assert [entry.message for entry in export(guest).manifest.stash] == ["On main: number 2", "On main: number 1"]


def test_a_stash_without_reflog_still_comes(host: Host, guest: GitRepo) -> None:
    guest.write("README", "stash\n")
    guest.git("stash", "push", "-q")
    (guest.path / ".git/logs/refs/stash").unlink()
    done = host.bring_home(guest)
    assert host.sandbox_refs()["refs/sandbox-stash/vm-1/0"] == guest.git("rev-parse", "refs/stash")
    assert any("stash" in warning for warning in done.warnings)


def test_detached_head(host: Host, guest: GitRepo) -> None:
    guest.git("switch", "-q", "--detach")
    tip = guest.commit("loose", {"a": "1\n"})
    done = host.bring_home(guest)
    assert (done.head, done.head_symref) == (tip, None)
    assert host.sandbox_refs()["refs/sandbox/vm-1"] == tip


def test_unborn_head_with_files(tmp_path: Path) -> None:
    host = Host(GitRepo.create(tmp_path / "repo"), tmp_path / "quarantine")
    guest = host.repo.clone_files(tmp_path / "guest")
    guest.write("staged", "staged\n")
    guest.git("add", "staged")
    guest.write("staged", "later\n")
    guest.write("new", "new\n")
    done = host.bring_home(guest)
    assert done.head is None
    assert done.head_symref == "refs/heads/main"
    assert set(host.sandbox_refs()) == {"refs/sandbox-wip/vm-1"}
    assert content(host.repo, "refs/sandbox-wip/vm-1:staged") == b"later\n"
    assert content(host.repo, "refs/sandbox-wip/vm-1^1:staged") == b"staged\n"


def test_unborn_and_empty(tmp_path: Path) -> None:
    host = Host(GitRepo.create(tmp_path / "repo"), tmp_path / "quarantine")
    done = host.bring_home(host.repo.clone_files(tmp_path / "guest"))
    assert (done.head, done.wip, done.updated) == (None, None, {})


def test_first_commit_of_an_unborn_repository(tmp_path: Path) -> None:
    host = Host(GitRepo.create(tmp_path / "repo"), tmp_path / "quarantine")
    guest = host.repo.clone_files(tmp_path / "guest")
    tip = guest.commit("root", {"a": "a\n"})
    assert host.bring_home(guest).head == tip


def test_an_orphan_branch(host: Host, guest: GitRepo) -> None:
    guest.git("switch", "-q", "--orphan", "fresh")
    tip = guest.commit("other root", {"x": "x\n"})
    assert host.bring_home(guest).head == tip


def test_refs_of_any_other_kind(host: Host, guest: GitRepo) -> None:
    guest.git("update-ref", "refs/old", "HEAD")  # nothing that the host has not got
    tip = guest.commit("kept by a ref of its own only", {"a": "1\n"})
    guest.git("update-ref", "refs/original/refs/heads/main", tip)
    guest.git("update-ref", "refs/mine", tip)
    for name in ("remotes/origin/x", "bisect/bad", "sandbox/vm-7", "sandbox-heads/vm-7/main"):
        guest.git("update-ref", f"refs/{name}", tip)
    guest.git("update-ref", "refs/blobs/x", guest.git("hash-object", "-w", "a"))
    guest.git("reset", "-q", "--hard", "HEAD~1")
    done = host.bring_home(guest)
    kept = {name: value for name, value in host.sandbox_refs().items() if "-other/" in name}
    root = "refs/sandbox-other/vm-1"
    assert kept == dict.fromkeys((f"{root}/original/refs/heads/main", f"{root}/mine"), tip)
    assert [each for each in done.set_aside if each.name == "refs/blobs/x"]
    again = host.bring_home(guest)
    assert not again.updated


def test_other_refs_that_came_along_are_no_work(host: Host, tmp_path: Path) -> None:
    host.repo.git("update-ref", "refs/pull/1/head", host.repo.git("commit-tree", "HEAD^{tree}", "-m", "theirs"))
    host.repo.git("update-ref", "refs/blobs/x", host.repo.git("hash-object", "-w", "README"))
    guest = host.repo.clone_files(tmp_path / "guest")
    done = host.bring_home(guest, given=host.repo.refs())
    assert set(done.names) <= {"refs/heads/main"}
    assert done.warnings == ()


def test_commits_without_a_branch_in_another_worktree(host: Host, guest: GitRepo, tmp_path: Path) -> None:
    aside = GitRepo(tmp_path / "aside")
    guest.git("worktree", "add", "-q", "--detach", str(aside.path))
    assert not [name for name in host.bring_home(guest).names if "worktrees" in name], "the host has that commit"
    tip = aside.commit("over there", {"a": "1\n"})
    host.bring_home(guest)
    assert host.sandbox_refs()["refs/sandbox-other/vm-1/worktrees/aside/HEAD"] == tip
