"""Whoever reads what a guest made has limits: worst imports that the quarantine accepts, and what reading them costs.

Small factors: the bound is below what it costs without limits, which `bench/limits` shows with the full ones.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from git_sandbox.collect import CollectLimits
from git_sandbox.errors import LimitError, RepositoryError
from git_sandbox.git import bounds
from git_sandbox.git.bounds import QUICK, REVIEW, Bounds
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import discover
from git_sandbox.integrate import overview, review
from git_sandbox.integrate.overview import MORE, counts_beyond, paths_between, unmerged_of
from git_sandbox.integrate.review import Style
from git_sandbox.sandbox.listing import rows
from support import worst
from support.fabricated import spawn, worked
from support.gitrepo import GitRepo
from support.guest import Host
from support.hostile import says
from support.packs import commit, pack

PEAK = 200 << 20  # bytes of the largest process
CPU = 10.0  # seconds of all processes of one command
BREAKS = 30 << 20  # git takes 1.2 GB for them
WIDTH = 800  # 640 000 paths, for which git and we take 200 MB each


@pytest.fixture
def host(repo: GitRepo) -> GitRepo:
    repo.commit("second", {"file": "2\n"})
    return repo


def read(host: GitRepo, *words: str) -> worst.Cost:
    """What a command that looks says, which costs little; it may say that there is too much."""
    cost = worst.measured(host.path, *words)
    assert cost.peak < PEAK, (words, cost)
    assert cost.cpu < CPU, (words, cost)
    assert "Traceback" not in cost.err
    return cost


@pytest.mark.long("each verb reads a file that is as large as one may be")
def test_a_file_of_line_breaks(host: GitRepo) -> None:
    worst.bring_home(host, "vm-1", worst.line_breaks(host, BREAKS))
    worked(host, "vm-2", {"other": "1\n"})
    assert "vm-2" in read(host, "ls").out
    assert "made by hand" in read(host, "log", "vm-1").out
    assert "breaks | Bin 0 -> " in read(host, "diff", "--stat", "vm-1").out
    assert "Binary files" in read(host, "diff", "vm-1").out
    assert read(host, "merge", "--dry-run", "vm-1").code == 0


def test_a_file_that_is_not_large_and_costs_much_all_the_same(host: GitRepo) -> None:
    worst.bring_home(host, "vm-1", worst.line_breaks(host, 15 << 20))
    cost = read(host, "diff", "vm-1")
    assert "Binary files" in cost.out
    assert "shown as binary" in cost.err


def test_line_breaks_in_a_commit_that_was_amended(host: GitRepo) -> None:
    worst.bring_home(host, "vm-1", worst.amended(host, BREAKS))
    cost = read(host, "merge", "vm-1")
    assert cost.code == 16
    assert "made by hand" in cost.err  # as the range-diff has it


@pytest.mark.long("each verb reads a tree of a million paths")
def test_a_million_paths(host: GitRepo) -> None:
    worst.bring_home(host, "vm-1", worst.paths(host, WIDTH))
    worked(host, "vm-2", {"other": "1\n"})
    assert "vm-2" in read(host, "ls").out
    assert "made by hand" in read(host, "log", "vm-1").out
    for words in ((), ("--stat",), ("--name-only",)):
        assert "too large" in read(host, "diff", *words, "vm-1").err
    assert "vm-1: too large to compare" in read(host, "compare").out
    assert read(host, "drop", "vm-1").code == 17


@pytest.mark.long("a thousand commits of nine hundred parents, each read by five verbs")
def test_commits_with_many_parents(host: GitRepo) -> None:
    worst.bring_home(host, "vm-1", worst.octopuses(host, 1000, 900))
    worked(host, "vm-2", {"other": "1\n"})
    shown = read(host, "ls").out
    assert [line.split()[4] for line in shown.splitlines()[1:]][1] == "1"
    for words in (("log", "vm-1"), ("diff", "vm-1"), ("compare",), ("drop", "vm-1")):
        read(host, *words)


def test_a_commit_with_more_parents_than_anybody_makes_stays_in_the_sandbox(host: GitRepo, tmp_path: Path) -> None:
    made = worst.octopuses(host, 60, 3)
    done = Host(host, tmp_path / "q").take(says(made.tip), made.pack, CollectLimits(parents=50))
    assert [(each.name, "60 parents, the limit is 50" in each.reason) for each in done.set_aside] == [("HEAD", True)]
    done = Host(host, tmp_path / "q").take(says(made.tip), made.pack, CollectLimits(parents=50, merges=1))
    assert "more than 1 bytes together" in done.set_aside[0].reason
    assert Host(host, tmp_path / "q").take(says(made.tip), made.pack).set_aside == ()


# --- one sandbox to blame: the others are shown as ever ---------------------------------------------------------------


def test_one_that_is_too_large_hides_no_other(host: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    big = spawn(host, "big")
    for number in range(30):
        big.work(f"{number}", {f"{'x' * 100}-{number}-{each}": "1\n" for each in range(20)})
    big.home()
    worked(host, "one", {"a": "1\n"})
    worked(host, "two", {"a": "2\n"})
    before = {row.id: row for row in rows(discover(host.path))}
    assert (before["big"].ahead, before["one"].ahead, dict(before["one"].overlap)) == (30, 1, {"two": 1})
    monkeypatch.setattr(overview, "MAX_LISTED", 1000)
    monkeypatch.setattr(overview, "MAX_PATHS", 1000)
    monkeypatch.setattr(overview, "SHARE", 1000)
    after = {row.id: row for row in rows(discover(host.path))}
    assert {name: row for name, row in after.items() if name != "big"} == {
        name: row for name, row in before.items() if name != "big"
    }
    assert after["big"].ahead == 30  # counted without a list
    monkeypatch.setattr(overview, "QUICK", msgspec.structs.replace(QUICK, output=500))
    assert all(not row.merged for row in rows(discover(host.path)))


def test_what_is_too_much_to_read_is_never_taken_for_nothing(host: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = discover(host.path)
    made = worst.paths(host, 40)
    host.run("index-pack", "--stdin", "--fix-thin", input=made.pack)
    tip, head = Oid(made.tip), Oid(host.git("rev-parse", "HEAD"))
    trees = (Oid(host.git("rev-parse", f"{head}^{{tree}}")), Oid(host.git("rev-parse", f"{tip}^{{tree}}")))
    monkeypatch.setattr(overview, "MAX_PATHS", 1000)
    monkeypatch.setattr(overview, "SHARE", 1000)
    assert paths_between(repo.git, [trees]) == {trees: frozenset((MORE,))}
    starved = repo.within(Bounds(1 << 20, 1, 10))
    monkeypatch.setattr(overview, "QUICK", Bounds(1 << 20, 1, 10))
    assert unmerged_of(starved, [tip, head]) == {tip, head}
    assert counts_beyond(starved, None, [tip]) == {tip: None}
    assert review.unmerged(starved, [tip]) == [tip]


# --- the limits themselves --------------------------------------------------------------------------------------------


def test_every_git_that_reads_has_limits_unless_somebody_names_others(host: GitRepo) -> None:
    git = discover(host.path).git
    assert bounds.of(["-c", "a.b=c", "diff", "x"], git.bounds) is REVIEW
    assert bounds.of(["diff"], git.within(QUICK).bounds) is QUICK
    assert bounds.of(["update-ref"], git.within(QUICK).bounds) is bounds.WORK
    assert bounds.of(["-c", "a.b=c", "for-each-ref", "--format=%(refname)"], None) is bounds.UNBOUND
    assert bounds.of(["for-each-ref", f"--points-at={'1' * 40}"], None) is bounds.WORK
    assert bounds.UNBOUND.limits().wrap(["git"]) == ["git"]
    assert git.with_env(A="b").within(QUICK).with_env(C="d").bounds is QUICK


def test_a_limit_that_is_met_is_an_error_and_no_answer(host: GitRepo) -> None:
    made = worst.line_breaks(host, 8 << 20)
    host.run("index-pack", "--stdin", "--fix-thin", input=made.pack)
    git, diff = discover(host.path).git, ("diff", "--no-ext-diff", "HEAD", made.tip)
    with pytest.raises(LimitError, match="git cat-file"):
        git.within(msgspec.structs.replace(REVIEW, output=1000)).run("cat-file", "blob", f"{made.tip}:breaks")
    with pytest.raises(LimitError, match="git diff"):
        git.within(msgspec.structs.replace(REVIEW, data=24 << 20)).beginning(*diff, most=1 << 20)
    with pytest.raises(LimitError, match="git diff"):
        git.within(msgspec.structs.replace(REVIEW, data=24 << 20)).test(*diff, "--exit-code")
    with pytest.raises(RepositoryError) as other:
        git.run("cat-file", "blob", "0" * 40)
    assert not isinstance(other.value, LimitError)


def test_a_commit_that_is_not_here_is_shown_as_such(host: GitRepo) -> None:
    """As in a partial clone."""
    repo = discover(host.path)
    assert review._sizes(repo, ["1" * 40, host.git("rev-parse", "HEAD")]).keys() == {host.git("rev-parse", "HEAD")}
    assert review._not_shown(Oid("1" * 40), None).subject == "(a commit that is not here)"


def test_a_difference_that_fits_is_shown_as_git_does(host: GitRepo) -> None:
    host.commit("third", {"file": "".join(f"{number}\n" for number in range(200_000))})
    found = review.difference(
        discover(host.path).git, Oid(host.git("rev-parse", "HEAD~1")), Oid(host.git("rev-parse", "HEAD")),
        style=Style.PATCH, most=16 << 20,
    )  # fmt: skip
    assert (found.whole, found.note) == (True, "")
    assert found.raw.count(b"\n+") == 200_000  # the header has one, too; line 2 was there before


def test_many_commits_are_read_some_at_a_time(host: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    top = host.git("rev-parse", "HEAD^{tree}")
    chain = [commit(top, [host.git("rev-parse", "HEAD")], message=b"0\n")]
    for number in range(1, 30):
        chain.append(commit(top, [chain[-1].oid], message=b"%d\n" % number))
    host.run("index-pack", "--stdin", "--fix-thin", input=pack(*chain))
    monkeypatch.setattr(review, "_AT_ONCE", 500)
    found = review.log(discover(host.path), [Oid(chain[-1].oid)], Oid(host.git("rev-parse", "HEAD")))
    assert [each.subject for each in found] == [str(number) for number in reversed(range(30))]
