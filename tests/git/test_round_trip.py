"""The way home with a well-behaved guest: real git on both sides, the exporter as a program of its own."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest

from git_sandbox.git.repo import discover
from support.gitrepo import GitRepo
from support.guest import Host, export, fingerprint


@pytest.fixture
def host(repo: GitRepo, tmp_path: Path) -> Host:
    return Host(repo, tmp_path / "quarantine")


@pytest.fixture
def guest(repo: GitRepo, tmp_path: Path) -> GitRepo:
    return repo.clone_files(tmp_path / "guest")


def tree_of(repo: GitRepo, name: str) -> dict[str, str]:
    rows = repo.git("ls-tree", "-r", name).splitlines()
    return {row.split("\t")[1]: row.split()[2] for row in rows}


def content(repo: GitRepo, spec: str) -> bytes:
    return repo.run("cat-file", "blob", spec).stdout


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


def test_nested_repositories_are_noticed_and_do_not_stop_the_rest(host: Host, guest: GitRepo) -> None:
    GitRepo.create(guest.path / "nested-empty")
    GitRepo.create(guest.path / "nested").commit("inner", {"x": "x\n"})
    guest.write("beside", "kept\n")
    done = host.bring_home(guest)
    assert content(host.repo, "refs/sandbox-wip/vm-1:beside") == b"kept\n"
    assert any("nested " in warning for warning in done.warnings)
    assert any("nested-empty" in warning for warning in done.warnings)


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
    assert set(done.stale) == {"refs/sandbox-heads/vm-1/passing", "refs/sandbox-wip/vm-1"}
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
    assert ours.isascii()
    assert ours.isprintable()
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
    assert any("refs/tags/tree" in warning for warning in done.warnings)


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
    guest.git("worktree", "add", "-q", str(tmp_path / "aside"))
    assert any("another worktree" in warning for warning in host.bring_home(guest).warnings)


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
