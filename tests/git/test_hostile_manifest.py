"""A list of refs that lies is refused, and the user's repository is as it was, to the byte."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from git_sandbox.errors import CollectError, HostResourceError
from git_sandbox.protocol.manifest import GuestHead, GuestRef, StashEntry, Wip
from support.gitrepo import GitRepo
from support.guest import Host, fingerprint
from support.hostile import refusal, says
from support.packs import blob, commit, pack, tag, tree

FILE = b"100644"
LINK = b"120000"
LEAF = blob(b"leaf\n")


@pytest.fixture
def host(repo: GitRepo, tmp_path: Path) -> Host:
    repo.commit("second", {"dir/file": "x\n"})
    return Host(repo, tmp_path / "quarantine")


MISSING = "1" * 40


# --- a manifest that lies ---------------------------------------------------------------------------------------------


@pytest.fixture
def good(host: Host) -> tuple[str, bytes]:
    """A commit on top of the user's, and its pack."""
    top = tree((FILE, b"a", LEAF))
    tip = commit(top, [host.repo.git("rev-parse", "HEAD")])
    return tip.oid, pack(tip, top, LEAF, tag(LEAF.oid, "blob"), tag(tip.oid))


LIES: dict[str, dict[str, object]] = {
    "head absent": {"head": GuestHead(None, MISSING)},
    "head is a blob": {"head": GuestHead(None, LEAF.oid)},
    "head is a tag": {"head": GuestHead(None, tag(LEAF.oid, "blob").oid)},
    "branch absent": {"refs": (GuestRef("refs/heads/a", MISSING),)},
    "branch is a blob": {"refs": (GuestRef("refs/heads/a", LEAF.oid),)},
    "note is a blob": {"refs": (GuestRef("refs/notes/a", LEAF.oid),)},
    "tag absent": {"refs": (GuestRef("refs/tags/a", MISSING),)},
    "stash absent": {"stash": (StashEntry(MISSING, ""),)},
    "stash is a blob": {"stash": (StashEntry(LEAF.oid, ""),)},
    "wip absent": {"wip": Wip(MISSING, LEAF.oid, None)},
    "other format": {"object_format": "sha256"},
}


@pytest.mark.parametrize("name", [name for name in LIES if not name.startswith(("head", "other"))])
def test_a_lie_costs_only_itself(host: Host, good: tuple[str, bytes], name: str) -> None:
    done = host.take(says(good[0], **LIES[name]), good[1])
    assert host.sandbox_refs() == {"refs/sandbox/vm-1": good[0]}
    assert len(done.set_aside) == 1
    assert str(done.set_aside[0]).isprintable()


@pytest.mark.parametrize("name", ["head absent", "head is a blob", "head is a tag"])
def test_a_head_that_is_none_costs_only_itself(host: Host, good: tuple[str, bytes], name: str) -> None:
    done = host.take(says(None, **LIES[name], refs=(GuestRef("refs/heads/a", good[0]),)), good[1])
    assert host.sandbox_refs() == {"refs/sandbox-heads/vm-1/a": good[0]}
    assert (done.head, [each.name for each in done.set_aside]) == (None, ["HEAD"])


def test_another_object_format(host: Host, good: tuple[str, bytes]) -> None:
    with refusal(host):
        host.take_all(says(good[0], **LIES["other format"]), good[1])


def test_a_wip_that_is_not_what_it_says(host: Host, good: tuple[str, bytes]) -> None:
    own = host.repo.git("rev-parse", "HEAD")
    own_tree = host.repo.git("rev-parse", "HEAD^{tree}")
    for wip, worktree in (
        (Wip(own, own_tree, None), own_tree),  # does not stand on the guest's HEAD
        (Wip(good[0], own_tree, None), own_tree),
    ):
        done = host.take(says(good[0], wip=wip, worktree_tree=worktree, wip_state="made"), good[1])
        assert [each.name for each in done.set_aside] == ["uncommitted work"]
        assert "refs/sandbox-wip/vm-1" not in host.sandbox_refs()


def test_names_that_exclude_each_other_are_all_kept(host: Host, good: tuple[str, bytes]) -> None:
    names = ("refs/heads/a", "refs/heads/a/b", "refs/heads/a/b/c", "refs/heads/" + "d/" * 1500 + "e")
    done = host.take_all(says(good[0], refs=tuple(GuestRef(name, good[0]) for name in names)), good[1])
    assert len(set(done.names.values())) == len(names)
    assert {host.sandbox_refs()[name] for name in done.names.values()} == {good[0]}


def test_many_refs(host: Host, good: tuple[str, bytes]) -> None:
    refs = tuple(GuestRef(f"refs/heads/{number}", good[0]) for number in range(2000))
    assert len(host.take_all(says(good[0], refs=refs), good[1]).names) == 2000


def test_a_tag_of_a_blob_does_not_stop_the_rest(host: Host, good: tuple[str, bytes]) -> None:
    refs = (GuestRef("refs/tags/b", tag(LEAF.oid, "blob").oid), GuestRef("refs/tags/c", tag(good[0]).oid))
    done = host.take(says(good[0], refs=refs), good[1])
    assert done.names.keys() == {"refs/tags/c"}
    assert [each.name for each in done.set_aside] == ["refs/tags/b"]


@pytest.mark.parametrize("obstacle", ["refs/sandbox/vm-1.lock", "refs/sandbox-heads/vm-1", "refs/sandbox"])
def test_refs_that_cannot_be_written_are_found_out_before_anything_is(
    host: Host, good: tuple[str, bytes], obstacle: str
) -> None:
    head = host.repo.git("rev-parse", "HEAD")
    host.repo.write(f".git/{obstacle}", "" if obstacle.endswith(".lock") else f"{head}\n")
    before = files(host)
    with pytest.raises(CollectError, match="could not be stored"):
        host.take_all(says(good[0], refs=(GuestRef("refs/heads/a", good[0]),)), good[1])
    assert files(host) == before  # git leaves the empty directories of the refs it had locked


def files(host: Host) -> dict[str, str]:
    return {name: what for name, what in fingerprint(host.repo.path / ".git").items() if what != "directory"}


def test_the_quarantine_must_be_new(host: Host, good: tuple[str, bytes]) -> None:
    host.quarantine.mkdir()
    (host.quarantine / "mine").write_text("x")
    with pytest.raises(HostResourceError, match="cannot create"):
        host.take_all(says(good[0]), good[1])
    assert (host.quarantine / "mine").exists()


def test_what_a_killed_import_left_is_cleared_and_a_running_one_respected(host: Host, good: tuple[str, bytes]) -> None:
    host.quarantine.mkdir()
    with (host.quarantine / "git-sandbox.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(HostResourceError, match="cannot create"):
            host.take_all(says(good[0]), good[1])
    assert host.take_all(says(good[0]), good[1]).head == good[0]
    assert not host.quarantine.exists()
