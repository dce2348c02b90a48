"""A sandbox that says at its end that nothing happened: what came home before stays all the same."""

from __future__ import annotations

import pytest

from git_sandbox.git.repo import discover
from git_sandbox.sandbox import imported, listing, lookup, retrieve
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.remove import drop
from git_sandbox.store import SandboxHandle, find
from support.fabricated import Sandbox, spawn
from support.gitrepo import GitRepo
from support.guest import exporter


@pytest.fixture
def sandbox(repo: GitRepo) -> Sandbox:
    return spawn(repo, "vm-1")


def brought(sandbox: Sandbox) -> tuple[SandboxHandle, Retrieval]:
    repo = discover(sandbox.host.path)
    entry = find(repo, "vm-1")
    box = SandboxHandle(repo, entry.id, entry.directory)
    with exporter(sandbox.guest.path) as channel:
        return box, imported.from_channel(box, sandbox.record, channel, lambda _text: None)


def ended(sandbox: Sandbox) -> bool:
    box, last = brought(sandbox)
    return retrieve.settle(box, sandbox.record, last, 0)


def test_nothing_ever_happened(sandbox: Sandbox) -> None:
    brought(sandbox)  # a sync that had nothing to bring
    assert ended(sandbox) is False
    assert not any(name.startswith("refs/sandbox") for name in sandbox.host.refs())


@pytest.mark.parametrize("again", [False, True])
def test_pushed_and_then_taken_back_in_the_guest(sandbox: Sandbox, *, again: bool) -> None:
    pushed = sandbox.work("work", {"a": "1\n"})
    brought(sandbox)
    sandbox.guest.git("reset", "-q", "--hard", "HEAD~1")
    if again:
        brought(sandbox)
    assert ended(sandbox) is True
    assert pushed in sandbox.host.git("reflog", "show", "--format=%H", "refs/sandbox/vm-1")


def test_uncommitted_work_that_was_pushed_and_thrown_away(sandbox: Sandbox) -> None:
    sandbox.guest.write("README", "edited\n")
    brought(sandbox)
    sandbox.guest.git("checkout", "-q", "README")
    assert ended(sandbox) is True
    assert sandbox.host.git("show", "refs/sandbox-wip/vm-1@{1}:README") == "edited"


def test_uncommitted_work_that_was_pushed_and_then_committed_is_not_the_end(sandbox: Sandbox) -> None:
    sandbox.guest.write("README", "half\n")
    brought(sandbox)
    tip = sandbox.work("whole", {"README": "whole\n"})
    _, last = brought(sandbox)
    assert last.collected.wip is None
    refs = sandbox.host.refs()
    assert refs["refs/sandbox-wip/vm-1"] == refs["refs/sandbox/vm-1"] == tip
    assert sandbox.host.git("show", "refs/sandbox-wip/vm-1@{1}:README") == "half"
    assert lookup.known(sandbox.repo, "vm-1").wip is None
    (row,) = listing.rows(sandbox.repo)
    assert not row.uncommitted
    sandbox.host.git("merge", "-q", "refs/sandbox/vm-1")
    drop(sandbox.repo, "vm-1", force=False)


def test_a_backup_of_the_checkout_stays(sandbox: Sandbox) -> None:
    sandbox.host.git(
        "update-ref", "refs/sandbox-backup/vm-1/1", sandbox.host.git("commit-tree", "HEAD^{tree}", "-m", "x")
    )
    assert ended(sandbox) is True
    assert "refs/sandbox-backup/vm-1/1" in sandbox.host.refs()


def test_a_commit_that_only_a_ref_of_another_kind_has(sandbox: Sandbox) -> None:
    tip = sandbox.guest.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "apart")
    sandbox.guest.git("update-ref", "refs/apart/x", tip)
    assert ended(sandbox) is True
    assert sandbox.host.refs()["refs/sandbox-other/vm-1/apart/x"] == tip


def test_commits_that_were_reset_away(sandbox: Sandbox) -> None:
    sandbox.work("amended", {"a": "1\n"})
    sandbox.guest.git("commit", "-q", "--amend", "-m", "thrown away")
    sandbox.guest.git("reset", "-q", "--hard", "HEAD~1")
    box, last = brought(sandbox)
    assert (last.changed, last.away) == (True, 2)
    assert "stay on the sandbox's disk" in last.warnings[-1]
    assert retrieve.settle(box, sandbox.record, last, 0) is True


def test_one_of_them_is_gone_for_good(sandbox: Sandbox) -> None:
    first = sandbox.work("amended", {"a": "1\n"})
    sandbox.guest.git("commit", "-q", "--amend", "-m", "thrown away")
    sandbox.guest.git("reset", "-q", "--hard", "HEAD~1")
    (sandbox.guest.path / ".git/objects" / first[:2] / first[2:]).unlink()
    _, last = brought(sandbox)
    assert (last.changed, last.away) == (True, 1)


def test_commits_that_the_host_has_itself_reset_away(repo: GitRepo) -> None:
    repo.commit("one", {"a": "1\n"})
    repo.git("reset", "-q", "--hard", "HEAD~1")
    assert ended(spawn(repo, "vm-1")) is False
