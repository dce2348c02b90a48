"""How histories can stand to each other, and the ways to bring them together."""

from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox.errors import IntegrateError, UsageError
from git_sandbox.git.names import oid
from git_sandbox.integrate.merge import create_branch, merge
from git_sandbox.integrate.modes import Mode, Relation, Request
from git_sandbox.integrate.plan import plan
from support.gitrepo import GitRepo
from support.sandboxed import Trip, everything, files

LINES = "".join(f"line {n}\n" for n in range(1, 30))


def diverged(repo: GitRepo, *, conflict: bool = False) -> Trip:
    """Two commits in the guest, one on the host, a dirty file that nobody commits."""
    repo.commit("more", {"text": LINES, "dirty": "1\n"})
    repo.write("dirty", "2\n")
    trip = Trip.spawn(repo)
    trip.guest.git("config", "user.name", "The Agent")
    trip.guest.commit("agent one", {"text": LINES.replace("line 20\n", "agent\n")})
    trip.guest.commit("agent two\n\nwith a body", {"own": "1\n"})
    repo.commit("host", {"text": LINES.replace("line 20\n" if conflict else "line 3\n", "host\n")})
    return trip


def subjects(repo: GitRepo) -> list[str]:
    return repo.git("log", "--topo-order", "--format=%an %s").splitlines()


def test_diverged_and_clean_makes_a_merge_commit(repo: GitRepo) -> None:
    trip = diverged(repo)
    host = repo.git("rev-parse", "HEAD")
    found = plan(trip.repo, trip.base, trip.request())
    assert (found.relation, found.conflicts, found.changed) == (Relation.DIVERGED, (), ("own", "text"))
    merged = trip.merge()
    assert repo.git("rev-parse", "HEAD^1", "HEAD^2").split() == [host, trip.guest.git("rev-parse", "HEAD")]
    assert merged.after == repo.git("rev-parse", "HEAD")
    assert repo.git("status", "--porcelain") == " M dirty"
    assert repo.read("text").decode() == LINES.replace("line 3\n", "host\n").replace("line 20\n", "agent\n")


@pytest.mark.parametrize("mode", [Mode.FF_OR_MERGE, Mode.NO_FF, Mode.SQUASH, Mode.REBASE])
def test_diverged_in_conflict_changes_nothing(repo: GitRepo, mode: Mode) -> None:
    trip = diverged(repo, conflict=True)
    request = trip.request(mode)
    before = everything(repo)
    found = plan(trip.repo, trip.base, request)
    assert found.conflicts == ("text",)
    assert not found.possible
    with pytest.raises(IntegrateError, match="conflict") as caught:
        merge(trip.repo, trip.base, request)
    assert "text" in caught.value.cause
    assert everything(repo) == before


def test_ff_only_refuses_a_diverged_history(repo: GitRepo) -> None:
    trip = diverged(repo)
    request = trip.request(Mode.FF_ONLY)
    before = everything(repo)
    with pytest.raises(IntegrateError, match="HEAD has commits"):
        merge(trip.repo, trip.base, request)
    assert everything(repo) == before


def test_no_ff_makes_a_merge_commit_where_none_is_needed(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"a": "1\n"})
    merge(trip.repo, trip.base, trip.request(Mode.NO_FF, message="my words\n"))
    assert subjects(repo) == ["Test User my words", "Test User agent", "Test User first"]
    assert repo.status() == ""


def test_squash_makes_one_commit_of_the_user(repo: GitRepo) -> None:
    trip = diverged(repo)
    trip.merge(Mode.SQUASH)
    assert subjects(repo)[:2] == ["Test User Squash sandbox/vm-1", "Test User host"]
    assert repo.git("log", "-1", "--format=%b") == "* agent one\n* agent two\n"
    assert repo.git("status", "--porcelain") == " M dirty"


def test_squash_of_one_commit_keeps_its_message(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("subject\n\nbody", {"a": "1\n"})
    trip.guest.git("checkout", "-q", "HEAD")
    trip.merge(Mode.SQUASH)
    assert repo.git("log", "-1", "--format=%B") == "subject\n\nbody\n"


def test_rebase_keeps_authors_and_messages(repo: GitRepo) -> None:
    trip = diverged(repo)
    authored = trip.guest.git("log", "-2", "--format=%an %ae %ad %B")
    trip.merge(Mode.REBASE)
    assert subjects(repo)[:3] == ["The Agent agent two", "The Agent agent one", "Test User host"]
    assert repo.git("log", "-2", "--format=%an %ae %ad %B") == authored
    assert repo.git("log", "-1", "--format=%cn") == "Test User"
    assert repo.git("status", "--porcelain") == " M dirty"
    assert repo.git("fsck", "--strict", "--no-dangling") == ""


def test_rebase_drops_what_the_host_has_already(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    first = trip.guest.commit("one", {"a": "1\n"})
    trip.guest.commit("two", {"b": "1\n"})
    repo.git("fetch", "-q", str(trip.guest.path))
    repo.commit("host", {"c": "1\n"})
    repo.git("cherry-pick", first)
    trip.merge(Mode.REBASE)
    assert [line.split()[-1] for line in subjects(repo)] == ["two", "one", "host", "first"]


def test_pick_takes_single_commits_and_skips_empty_ones(repo: GitRepo) -> None:
    trip = diverged(repo)
    tip = trip.home()
    merged = merge(trip.repo, trip.base, trip.request(Mode.PICK, picks=[tip]))
    assert merged.changed == ("own",)
    assert subjects(repo)[0] == "The Agent agent two"
    again = merge(trip.repo, trip.base, trip.request(Mode.PICK, picks=[tip]))
    assert (again.skipped, again.after, again.backup) == ((tip,), merged.after, None)


def test_a_merge_commit_cannot_be_picked(repo: GitRepo) -> None:
    trip = diverged(repo)
    trip.guest.git("checkout", "-q", "-b", "side", "HEAD~1")
    trip.guest.commit("side", {"side": "1\n"})
    trip.guest.git("merge", "-q", "--no-ff", "-m", "joined", "main")
    with pytest.raises(IntegrateError, match="merge commit"):
        merge(trip.repo, trip.base, trip.request(Mode.PICK, picks=[trip.home()]))


def test_pick_stops_at_a_conflict_and_says_where(repo: GitRepo) -> None:
    trip = diverged(repo, conflict=True)
    first = oid(trip.guest.git("rev-parse", "HEAD~1"))
    found = plan(trip.repo, trip.base, trip.request(Mode.PICK, picks=[first]))
    assert (found.stopped_at, found.conflicts) == (first, ("text",))


def test_rewritten_history_is_refused_unless_asked_for(repo: GitRepo) -> None:
    repo.commit("second", {"a": "1\n"})
    trip = Trip.spawn(repo)
    trip.guest.write("a", "2\n")
    trip.guest.git("commit", "-q", "-a", "--amend", "-m", "amended")
    trip.guest.commit("agent", {"b": "1\n"})
    request = trip.request()
    before = everything(repo)
    with pytest.raises(IntegrateError, match="rewrote") as caught:
        merge(trip.repo, trip.base, request)
    assert "--branch NAME" in caught.value.hint
    assert everything(repo) == before
    picked = merge(trip.repo, trip.base, trip.request(Mode.PICK, picks=[request.target]))
    assert picked.relation is Relation.REWRITTEN
    assert picked.changed == ("b",)


def test_unrelated_history_only_goes_to_a_branch(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.git("checkout", "-q", "--orphan", "new")
    trip.guest.commit("root", {"b": "1\n"})
    for mode in set(Mode) - {Mode.PICK}:
        with pytest.raises(IntegrateError, match="in common"):
            trip.merge(mode)
    made = create_branch(trip.repo, "from-vm", trip.home())
    assert repo.git("rev-parse", made) == trip.home()


def test_branches(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    tip = oid(trip.guest.commit("agent", {"a": "1\n"}))
    trip.home()
    create_branch(trip.repo, "feature/x", tip, dry_run=True)
    assert "refs/heads/feature/x" not in repo.refs()
    create_branch(trip.repo, "feature/x", tip)
    create_branch(trip.repo, "feature/x", tip)
    with pytest.raises(IntegrateError, match="exists"):
        create_branch(trip.repo, "main", tip)
    for bad in ("-x", "a..b", "@{-1}", "x.lock", "HEAD"):
        with pytest.raises(UsageError):
            create_branch(trip.repo, bad, tip)
    assert repo.status() == ""


@pytest.mark.parametrize("committed", [True, False])
def test_nothing_new(repo: GitRepo, *, committed: bool) -> None:
    trip = Trip.spawn(repo)
    trip.home()
    if committed:
        repo.commit("host", {"a": "1\n"})
    before = everything(repo)
    for mode in set(Mode) - {Mode.PICK}:
        merged = trip.merge(mode)
        assert (merged.relation, merged.backup) == (Relation.UP_TO_DATE, None)
        assert merged.before == merged.after == repo.git("rev-parse", "HEAD")
    assert everything(repo) == before


@pytest.mark.parametrize("mode", [Mode.FF_OR_MERGE, Mode.SQUASH, Mode.REBASE])
def test_a_dry_run_changes_not_a_byte(repo: GitRepo, mode: Mode) -> None:
    trip = diverged(repo)
    request = trip.request(mode)
    repo.write("late", "1\n")
    before = files(repo.path, without=())
    merged = merge(trip.repo, trip.base, request, dry_run=True)
    assert files(repo.path, without=()) == before
    assert (merged.dry_run, merged.after, merged.changed) == (True, None, ("own", "text"))


def test_a_dry_run_where_the_path_has_a_colon(tmp_path: Path) -> None:
    repo = GitRepo.create(tmp_path / 'a:b "c"')
    repo.commit("first", {"a": "1\n"})
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"a": "2\n"})
    assert trip.merge(dry_run=True).changed == ("a",)


def test_a_dry_run_refuses_like_the_real_thing(repo: GitRepo) -> None:
    trip = diverged(repo, conflict=True)
    with pytest.raises(IntegrateError, match="conflict"):
        trip.merge(dry_run=True)


def test_an_operation_in_progress_is_refused(repo: GitRepo) -> None:
    trip = diverged(repo)
    repo.git("checkout", "-q", "--", "dirty")
    request = trip.request()
    repo.git("checkout", "-q", "-b", "side", "HEAD~1")
    repo.commit("side", {"text": LINES.replace("line 3\n", "side\n")})
    for words, undo in (
        (("merge", "main"), ("merge", "--abort")),
        (("rebase", "main"), ("rebase", "--abort")),
        (("cherry-pick", "main"), ("cherry-pick", "--abort")),
        (("revert", "--no-edit", "HEAD~1"), ("revert", "--abort")),
        (("checkout", "-m", "--conflict=merge", "main"), ("reset", "-q", "--hard")),
    ):
        if words[0] == "checkout":
            repo.write("text", LINES.replace("line 3\n", "third\n"))
        repo.run(*words)
        before = everything(repo)
        found = plan(trip.repo, trip.base, request)
        assert found.busy, words
        for dry_run in (True, False):
            with pytest.raises(IntegrateError, match=r"progress|unmerged"):
                merge(trip.repo, trip.base, request, dry_run=dry_run)
        assert everything(repo) == before
        repo.git(*undo)


def test_a_bisect_is_no_obstacle(repo: GitRepo) -> None:
    repo.commit("second", {"a": "1\n"})
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"b": "1\n"})
    repo.git("bisect", "start")
    trip.merge()
    assert repo.status() == ""


def test_without_an_identity_only_a_fast_forward_works(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = diverged(repo)
    request = trip.request()
    home = repo.path.parent / "nobody"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")
    monkeypatch.setenv("HOME", str(home))
    with pytest.raises(IntegrateError, match="no user name"):
        merge(trip.repo, trip.base, request)
    repo.git("reset", "-q", "--keep", "HEAD~1")
    merge(trip.repo, trip.base, Request(request.sandbox, request.target))
    assert repo.git("rev-parse", "HEAD") == request.target


def test_risky_paths(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    for name in (
        ".gitattributes", "deep/.gitattributes", ".gitmodules", ".lfsconfig", ".envrc", ".vscode/tasks.json",
        ".claude/settings.json", "deep/.mcp.json", ".mise.toml", ".yarnrc.yml", ".exrc", "a.code-workspace",
        "lefthook.yml", "fixtures/cache/HEAD",
        ".github/workflows/ci.yml", ".GitLab-ci.yml", ".husky/post-merge", "Jenkinsfile", "harmless/github/x",
    ):  # fmt: skip
        trip.guest.write(name, "# x\n")
    for name, target in (("out", "../up"), ("abs", "/etc/passwd"), ("git", "deep/../.git/config"), ("ok", "deep/x")):
        (trip.guest.path / name).symlink_to(target)
    trip.guest.git("add", "-A")
    trip.guest.commit("agent")
    found = {risk.path for risk in plan(trip.repo, trip.base, trip.request()).risky}
    changed = set(trip.guest.git("show", "--format=", "--name-only").splitlines())
    assert changed - found == {"harmless/github/x", "ok"}
