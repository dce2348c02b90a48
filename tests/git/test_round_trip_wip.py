"""Uncommitted work on the way home: all of it comes, and the guest's HEAD and index stay as they are."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from unittest.mock import ANY

import pytest

from git_sandbox.guest import large
from git_sandbox.guest.repository import Repo
from git_sandbox.guest.scratch import Scratch
from git_sandbox.guest.uncommitted import TOO_LARGE, uncommitted
from support.gitrepo import GitRepo
from support.guest import Host, content, export, tree_of


def test_uncommitted_work_in_the_shape_of_a_stash(host: Host, guest: GitRepo) -> None:
    guest.commit("second", {"split": "committed\n", "gone": "gone\n", "hidden": "h\n", "skipped": "s\n"})
    index_and_status = ("ls-files", "-v", "-s"), ("status", "--porcelain=v2", "-uall")
    guest.write("split", "staged\n")
    guest.git("add", "split")
    guest.write("split", "unstaged\n")
    (guest.path / "gone").unlink()
    guest.write("sub/new", "untracked\n")
    guest.write("ita", "intent\n")
    guest.git("add", "-N", "ita")
    guest.git("update-index", "--assume-unchanged", "hidden")
    guest.write("hidden", "edited all the same\n")
    guest.git("update-index", "--skip-worktree", "skipped")
    guest.write("skipped", "edited too\n")
    guest.write(".git/info/exclude", "ignored\n")
    guest.write("ignored", "never\n")
    before = [guest.git(*words) for words in index_and_status]
    done = host.bring_home(guest)
    assert [guest.git(*words) for words in index_and_status] == before
    assert not list((guest.path / ".git").glob("sandbox-index*"))
    wip = "refs/sandbox-wip/vm-1"
    assert done.wip == host.sandbox_refs()[wip]
    assert host.repo.git("rev-parse", f"{wip}^1") == done.head
    assert set(tree_of(host.repo, wip)) == {"README", "split", "hidden", "skipped", "sub/new", "ita"}
    assert content(host.repo, f"{wip}:split") == b"unstaged\n"
    assert content(host.repo, f"{wip}^2:split") == b"staged\n"
    assert content(host.repo, f"{wip}:hidden") == b"edited all the same\n"
    assert content(host.repo, f"{wip}:skipped") == b"edited too\n"
    host.repo.git("reset", "-q", "--hard", "refs/sandbox/vm-1")
    host.repo.git("stash", "apply", "-q", "--index", wip)
    assert host.repo.read("split") == b"unstaged\n"
    assert host.repo.git("show", ":split") == "staged"


def test_only_the_index_differs(host: Host, guest: GitRepo) -> None:
    guest.write("README", "staged\n")
    guest.git("add", "README")
    guest.write("README", "hello\n")
    host.bring_home(guest)
    assert content(host.repo, "refs/sandbox-wip/vm-1^2:README") == b"staged\n"


@pytest.mark.parametrize("operation", ["merge", "cherry-pick", "revert", "rebase"])
def test_in_the_middle_of_a_conflict(host: Host, guest: GitRepo, operation: str) -> None:
    guest.git("switch", "-q", "-c", "other")
    guest.commit("theirs", {"README": "theirs\n"})
    guest.git("switch", "-q", "main")
    guest.commit("ours", {"README": "ours\n"})
    target = {"revert": "HEAD~1"}.get(operation, "other")
    if operation == "revert":
        guest.commit("again", {"README": "again\n"})
    assert guest.run(operation, target).returncode != 0
    before = guest.status()
    assert export(guest).manifest.operation == operation
    done = host.bring_home(guest)
    assert guest.status() == before
    assert b"<<<<<<<" in content(host.repo, "refs/sandbox-wip/vm-1:README")
    assert done.wip is not None
    assert host.repo.git("rev-parse", "refs/sandbox-wip/vm-1^@") == done.head


def test_bisect_is_named(guest: GitRepo) -> None:
    guest.git("bisect", "start")
    assert export(guest).manifest.operation == "bisect"


def test_a_filter_process_that_dies_costs_no_file(host: Host, guest: GitRepo) -> None:
    """git gives up `add` altogether, whether the filter is required or not."""
    guest.git("config", "filter.broken.process", "true")
    guest.git("config", "filter.broken.clean", "false")
    (guest.path / ".git/info").mkdir(exist_ok=True)
    guest.write(".git/info/attributes", "* filter=broken\n")
    guest.write("new", "as it is\n")
    done = host.bring_home(guest)
    assert content(host.repo, "refs/sandbox-wip/vm-1:new") == b"as it is\n"
    # Whether git notices the death in time to go on by itself, or gives up and we say so, is a matter of microseconds.
    assert all("without filters" in warning for warning in done.warnings)


def test_nested_repositories_are_noticed_and_do_not_stop_the_rest(host: Host, guest: GitRepo) -> None:
    GitRepo.create(guest.path / "nested-empty")
    GitRepo.create(guest.path / "nested").commit("inner", {"x": "x\n"})
    guest.write("beside", "kept\n")
    host.bring_home(guest)
    assert content(host.repo, "refs/sandbox-wip/vm-1:beside") == b"kept\n"
    found = [each.git_dir for each in export(guest).manifest.nested]
    assert found == ["nested-empty/.git", "nested/.git"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_named(host: Host, guest: GitRepo) -> None:
    guest.write("secret", "x\n", mode=0)
    guest.write("beside", "kept\n")
    done = host.bring_home(guest)
    assert any("secret" in warning for warning in done.warnings)
    assert set(tree_of(host.repo, "refs/sandbox-wip/vm-1")) == {"README", "beside"}


def test_filters_run_and_a_broken_one_loses_nothing(host: Host, guest: GitRepo) -> None:
    guest.commit("attributes", {".gitattributes": "*.up filter=up\n*.bad filter=bad\n"})
    guest.git("config", "filter.up.clean", "tr a-z A-Z")
    guest.write("x.up", "shout\n")
    host.bring_home(guest)
    assert content(host.repo, "refs/sandbox-wip/vm-1:x.up") == b"SHOUT\n"
    guest.git("config", "filter.bad.clean", "false")
    guest.git("config", "filter.bad.required", "true")
    guest.write("x.bad", "raw\n")
    done = host.bring_home(guest)
    assert content(host.repo, "refs/sandbox-wip/vm-1:x.bad") == b"raw\n"
    assert any("filter" in warning for warning in done.warnings)


def test_nothing_of_the_users_runs_in_the_guest(guest: GitRepo, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = guest.write(".git/evil", f"#!/bin/sh\ntouch {mark}\n", mode=0o755)
    for hook in ("post-index-change", "reference-transaction", "pre-auto-gc", "post-commit"):
        guest.write(f".git/hooks/{hook}", script.read_bytes(), mode=0o755)
    for key in ("core.fsmonitor", "core.pager", "gpg.program", "core.alternateRefsCommand", "core.editor"):
        guest.git("config", key, str(script))
    guest.git("config", "commit.gpgSign", "true")
    mark.unlink(missing_ok=True)
    guest.write("new", "x\n")
    assert export(guest).manifest.wip is not None
    assert not mark.exists()


def test_without_an_identity(guest: GitRepo) -> None:
    guest.git("config", "user.useConfigOnly", "true")
    guest.git("config", "user.name", "")
    guest.git("config", "user.email", "")
    guest.write("new", "x\n")
    assert export(guest).manifest.wip is not None


def test_a_sparse_checkout_loses_nothing(host: Host, guest: GitRepo) -> None:
    guest.commit("files", {"in/a": "a\n", "out/b": "b\n"})
    guest.git("sparse-checkout", "set", "in")
    guest.write("out/new", "outside the cone\n")
    host.bring_home(guest)
    assert set(tree_of(host.repo, "refs/sandbox-wip/vm-1")) == {"README", "in/a", "out/b", "out/new"}


def test_a_caller_may_leave_the_uncommitted_work_out(host: Host, guest: GitRepo) -> None:
    guest.write("new", "as it was at the start\n")
    exported = export(guest)
    done = host.take(dataclasses.replace(exported.manifest, wip=None), exported.pack)
    assert done.wip is None
    assert "refs/sandbox-wip/vm-1" not in host.sandbox_refs()


def test_a_file_without_end_holds_up_nothing_else_in_a_rescue_machine(
    guest: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.write("README", "changed\n")
    guest.commit("second", {"tracked [1].img": "small\n"})
    guest.write("README", "changed again\n")
    guest.write("other", "other\n")
    for name in ("tracked [1].img", "sub/*.img"):
        os.truncate(guest.write(name), 1 << 43)
    monkeypatch.setattr(large, "careful", lambda: True)
    repo = Repo(os.fspath(guest.path))
    with Scratch() as scratch:
        tree, wip = uncommitted(repo, scratch, guest.git("rev-parse", "HEAD"))
    assert wip is not None
    assert tree_of(guest, str(tree)) == {**tree_of(guest, "HEAD"), "other": ANY, "README": ANY}
    assert guest.git("show", f"{tree}:tracked [1].img") == "small"
    assert repo.left_out == dict.fromkeys(("sub/*.img", "tracked [1].img"), TOO_LARGE)


def test_the_largest_stay_until_the_others_fit(tmp_path: Path) -> None:
    for name, size in (("a", 10), ("b", 30), ("c", 20)):
        (tmp_path / name).write_bytes(b"x" * size)
    paths = [b"a", b"b", b"c", b"deleted"]
    assert large.beyond(os.fspath(tmp_path), paths, most=30) == [(b"b", 30)]
    assert large.beyond(os.fspath(tmp_path), paths, most=60) == []
    assert large.beyond(os.fspath(tmp_path), paths, most=5) == [(b"a", 10), (b"c", 20), (b"b", 30)]


def test_an_older_wip_is_never_replaced_by_less(host: Host, guest: GitRepo) -> None:
    """Neither by a way home that could make none, nor by one whose tree lacks files."""
    guest.write("new", "x\n")
    older = host.bring_home(guest).wip
    wip, earlier = "refs/sandbox-wip/vm-1", f"refs/sandbox-earlier/vm-1/{older}"
    exported = export(guest)
    failed = dataclasses.replace(exported.manifest, wip=None, wip_state="failed")
    for told in (failed, dataclasses.replace(failed, wip_state=None)):
        host.take(told, exported.pack)
        assert host.sandbox_refs()[wip] == older
    (guest.path / "new").unlink()
    guest.write("other", "y\n")
    lacking = export(guest)
    done = host.take(dataclasses.replace(lacking.manifest, wip_state="partial"), lacking.pack)
    assert host.sandbox_refs()[wip] == done.wip != older
    assert host.sandbox_refs()[earlier] == older
    (guest.path / "other").unlink()
    assert host.bring_home(guest).stale == ()
    assert host.sandbox_refs()[wip] == guest.git("rev-parse", "HEAD")
    assert host.sandbox_refs()[earlier] == older
