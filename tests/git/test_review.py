from __future__ import annotations

import os
import tracemalloc

import pytest

from git_sandbox.git.names import Oid, oid
from git_sandbox.git.repo import discover
from git_sandbox.integrate.overview import beyond_stash, unmerged_of
from git_sandbox.integrate.review import Span, Style, diff_argv, ends, log, unmerged
from support.gitrepo import GitRepo
from support.sandboxed import Trip


def shown(trip: Trip, span: Span, wip: Oid | None = None) -> list[str]:
    before, after = ends(trip.repo, trip.base, trip.home(), wip, span)
    return trip.repo.git.line(*diff_argv(before, after, style=Style.NAME_ONLY)).splitlines()


def test_what_each_span_compares(repo: GitRepo) -> None:
    repo.write("mine", "dirty before\n")
    trip = Trip.spawn(repo)
    trip.guest.git("add", "-A")
    trip.guest.commit("agent", {"agents": "1\n"})
    wip = oid(repo.git("commit-tree", "HEAD^{tree}", "-m", "wip"))
    assert shown(trip, Span.SPAWN) == ["agents"]
    assert shown(trip, Span.BASE) == ["agents", "mine"]
    assert shown(trip, Span.WIP) == []
    assert shown(trip, Span.WIP, wip) == ["agents", "mine"]


def test_a_sandbox_whose_head_was_never_born(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    before, after = ends(trip.repo, trip.base, None)
    assert trip.repo.git.line(*diff_argv(before, after, style=Style.NAME_ONLY)) == "README"


def test_no_program_runs_for_a_diff(repo: GitRepo) -> None:
    marker = repo.path.parent / "ran"
    for key in ("diff.external", "diff.evil.command", "diff.evil.textconv", "core.pager"):
        repo.git("config", key, f"touch {marker} #")
    repo.git("config", "diff.submodule", "log")
    repo.commit("attributes", {".gitattributes": "* diff=evil\n"})
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"README": "\x1b[31magent\n"})
    ends_ = ends(trip.repo, trip.base, trip.home())
    for style in Style:
        assert "README" in trip.repo.git.line(*diff_argv(*ends_, style=style))
    assert not marker.exists()
    assert "\x1b[32m+" in trip.repo.git.line(*diff_argv(*ends_, color=True))
    assert trip.repo.git.line(*diff_argv(*ends_, paths=["*"])) == ""


def test_log_survives_hostile_text(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    repo.git("config", "log.showSignature", "true")
    message = "sub\x1bject \x1e\nsecond line\n\nbody"
    trip.guest.git("config", "user.name", "Ev\u202eil \x1b]0;x")
    trip.guest.commit(message)
    trip.guest.git("commit", "-q", "--allow-empty", "--allow-empty-message", "-m", "")
    tip = trip.home()
    commits = log(trip.repo, [tip], trip.base.commit)
    assert [commit.subject for commit in commits] == ["", "sub\x1bject \x1e second line"]
    assert commits[0].parents == (commits[1].oid,)
    assert commits[1].author_name.startswith("Ev\u202eil")
    assert commits[0].authored > 1_000_000_000
    assert [commit.oid for commit in log(trip.repo, [tip], trip.base.commit, limit=1)] == [tip]
    assert len(log(trip.repo, [tip], None)) == 3
    assert log(trip.repo, [], None) == []


def test_a_commit_with_megabytes_of_subject_is_not_read(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    first = trip.guest.commit("before")
    tree = trip.guest.git("rev-parse", "HEAD^{tree}")
    large = trip.guest.git("commit-tree", tree, "-p", first, input=b"x" * (8 << 20))
    trip.guest.git("reset", "-q", "--hard", large)
    last = trip.guest.commit("after")
    trip.home()
    tracemalloc.start()
    commits = log(trip.repo, [oid(last)], trip.base.commit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [commit.subject[:13] for commit in commits] == ["after", "(a commit of ", "before"]
    assert [commit.oid for commit in commits] == [last, large, first]
    assert peak < 4 << 20


@pytest.mark.parametrize("time", ["99999999999999999", "18446744073709551614", "-5"])
def test_absurd_times(repo: GitRepo, time: str) -> None:
    who = f"A <a@b> {time} +0000"
    raw = f"tree {repo.git('rev-parse', 'HEAD^{tree}')}\nauthor {who}\ncommitter {who}\n\nx\n"
    made = oid(repo.git("hash-object", "--literally", "-t", "commit", "-w", "--stdin", input=raw.encode()))
    trip = Trip.spawn(repo)
    assert 0 <= log(trip.repo, [made], None)[0].authored <= 2**40


def test_unmerged_is_what_only_the_sandbox_has(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    first = trip.guest.commit("one")
    second = trip.guest.commit("two")
    tip = trip.home()
    repo.git("update-ref", "refs/sandbox-heads/vm-2/main", tip)
    assert unmerged(trip.repo, [tip]) == [second, first]
    assert unmerged(trip.repo, [tip], limit=1) == [second]
    repo.git("branch", "kept", first)
    assert unmerged(trip.repo, [tip]) == [second]
    linked = os.fspath(repo.path.with_name("linked"))
    repo.git("worktree", "add", "-q", "--detach", linked, second)
    assert unmerged(trip.repo, [tip]) == []
    assert unmerged(trip.repo, []) == []


def test_what_is_given_up_without_a_thought_is_not_merged(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    tip = oid(trip.guest.commit("one", {"a": "1\n"}))
    trip.home()
    for name in ("refs/stash", "refs/notes/x", "refs/remotes/origin/main", "refs/original/x", "refs/sandbox/vm-2"):
        repo.git("update-ref", "--create-reflog", name, tip)
        assert unmerged(trip.repo, [tip]) == [tip], name
        assert unmerged_of(trip.repo, [tip]) == {tip}, name
    assert beyond_stash(trip.repo, [tip]) == frozenset()
    repo.git("update-ref", "-d", "refs/stash")
    assert beyond_stash(trip.repo, [tip]) == {tip}
    for name in ("refs/heads/x/y", "refs/tags/x"):
        repo.git("update-ref", name, tip)
        assert unmerged(trip.repo, [tip]) == [], name
        assert unmerged_of(trip.repo, [tip]) == frozenset(), name
        repo.git("update-ref", "-d", name)
    repo.git("checkout", "-q", "--detach", tip)
    assert unmerged(trip.repo, [tip]) == []
    linked = repo.path.with_name("seen-from-another")
    repo.git("worktree", "add", "-q", "--detach", os.fspath(linked), "HEAD~1")
    assert unmerged(discover(linked), [tip]) == [], "the HEAD of the main worktree, seen from another one"
    repo.git("checkout", "-q", "main")
    assert unmerged(discover(linked), [tip]) == [tip]


def test_every_entry_of_the_stash_counts_as_one(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    tip = oid(trip.guest.commit("one", {"a": "1\n"}))
    trip.home()
    for each in (tip, repo.git("rev-parse", "HEAD")):
        repo.git("update-ref", "--create-reflog", "refs/stash", each)
    assert beyond_stash(trip.repo, [tip]) == frozenset()
