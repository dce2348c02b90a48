"""A sandbox that says at its end that nothing happened: what came home before stays all the same."""

from __future__ import annotations

import pytest

from git_sandbox.git.repo import discover
from git_sandbox.sandbox import home
from git_sandbox.sandbox.home import Home
from git_sandbox.store import Box, find
from support.fabricated import Sandbox, spawn
from support.gitrepo import GitRepo
from support.guest import exporter


@pytest.fixture
def sandbox(repo: GitRepo) -> Sandbox:
    return spawn(repo, "vm-1")


def brought(sandbox: Sandbox) -> tuple[Box, Home]:
    repo = discover(sandbox.host.path)
    entry = find(repo, "vm-1")
    box = Box(repo, entry.id, entry.directory)
    with exporter(sandbox.guest.path) as channel:
        return box, home._import(box, sandbox.record, channel, lambda _text: None)


def ended(sandbox: Sandbox) -> bool:
    box, last = brought(sandbox)
    return home.settle(box, sandbox.record, last, 0)


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
    assert sandbox.host.git("show", "refs/sandbox-wip/vm-1:README") == "edited"


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
