"""The host still has, or has since got, uncommitted work."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from git_sandbox.errors import IntegrateError
from git_sandbox.integrate.modes import Relation
from git_sandbox.integrate.plan import plan
from support.gitrepo import GitRepo
from support.sandboxed import LINES, Trip, dirty, everything


def refused(trip: Trip, *words: str) -> IntegrateError:
    """Merging raises, names `words`, and changes nothing; so says the plan."""
    request = trip.request()
    before = everything(trip.host)
    with pytest.raises(IntegrateError) as caught:
        trip.merge()
    told = f"{caught.value.message} {caught.value.cause} {caught.value.hint}"
    assert [word for word in words if word not in told] == []
    assert everything(trip.host) == before
    assert not plan(trip.repo, trip.base, request).possible
    assert everything(trip.host) == before
    return caught.value


def test_a_first_commit_that_swallows_everything_leaves_a_clean_checkout(repo: GitRepo) -> None:
    trip = Trip.spawn(dirty(repo))
    trip.guest.git("add", "-A")
    tip = trip.guest.commit("all of it", {"edited": "by the agent\n"})
    merged = trip.merge()
    assert (merged.relation, merged.after) == (Relation.FAST_FORWARD, tip)
    assert repo.git("rev-parse", "refs/heads/main") == tip
    assert repo.status() == ""
    assert repo.read("edited") == b"by the agent\n"
    assert "sandbox merge vm-1" in repo.git("reflog", "-1", "HEAD")


def test_later_work_elsewhere_stays_exactly_as_it_is(repo: GitRepo) -> None:
    trip = Trip.spawn(dirty(repo))
    trip.guest.git("add", "-A")
    trip.guest.commit("all of it")
    repo.write("README", "late edit\n")
    repo.write("mine", "late staged\n")
    repo.git("add", "mine")
    repo.write("mine", "late both\n")
    repo.write("late untracked", "x")
    trip.merge()
    assert repo.git("status", "--porcelain").splitlines() == [" M README", "MM mine", '?? "late untracked"']
    assert repo.read("mine") == b"late both\n"
    assert repo.git("cat-file", "blob", ":mine") == "late staged"


def test_a_commit_of_something_else_leaves_every_dirty_entry(repo: GitRepo) -> None:
    trip = Trip.spawn(dirty(repo))
    status = repo.status()
    trip.guest.write("own")
    trip.guest.git("add", "own")
    trip.guest.git("commit", "-q", "-m", "own", "--only", "own")
    trip.merge()
    assert repo.status() == status
    assert repo.read("own") == b"content\n"


@pytest.mark.parametrize("name", ["edited", "untracked"])
def test_a_late_edit_in_conflict_blocks(repo: GitRepo, name: str) -> None:
    trip = Trip.spawn(dirty(repo))
    trip.guest.git("add", "-A")
    trip.guest.commit("mine", {name: "agent\n"})
    repo.write(name, "late and different\n")
    refused(trip, name)


def test_a_deletion_after_spawn_of_what_the_sandbox_edited_blocks(repo: GitRepo) -> None:
    trip = Trip.spawn(dirty(repo))
    trip.guest.commit("mine", {"mine": "agent\n"})
    (repo.path / "mine").unlink()
    refused(trip, "mine")


def test_an_ignored_file_is_never_overwritten(repo: GitRepo) -> None:
    repo.commit("ignore", {".gitignore": ".env\n"})
    trip = Trip.spawn(repo)
    trip.guest.write(".env", "TOKEN=agent\n")
    trip.guest.git("add", "-f", ".env")
    trip.guest.commit("env")
    repo.write(".env", "TOKEN=mine\n")
    refused(trip, ".env", "ignored")
    assert repo.read(".env") == b"TOKEN=mine\n"
    repo.write(".env", "TOKEN=agent\n")
    trip.merge()
    assert repo.status() == ""


def test_an_ignored_file_below_a_path_that_becomes_a_file(repo: GitRepo) -> None:
    repo.commit("ignore", {".gitignore": "*.o\n", "build/main.c": "1\n"})
    trip = Trip.spawn(repo)
    trip.guest.git("rm", "-q", "-r", "build")
    trip.guest.commit("flat", {"build": "script\n"})
    repo.write("build/main.o", "precious\n")
    refused(trip, "build", "build/main.o")


def test_an_ignored_file_where_a_directory_shall_be(repo: GitRepo) -> None:
    repo.commit("ignore", {".gitignore": "out\n"})
    trip = Trip.spawn(repo)
    trip.guest.write("out/new")
    trip.guest.git("add", "-f", "out/new")
    trip.guest.commit("out")
    repo.write("out", "precious\n")
    refused(trip, "out/new")


def test_nothing_is_written_through_a_symlink(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("ignore", {".gitignore": "data\n"})
    trip = Trip.spawn(repo)
    trip.guest.write("data/new")
    trip.guest.git("add", "-f", "data/new")
    trip.guest.commit("data")
    (tmp_path / "elsewhere").mkdir()
    (repo.path / "data").symlink_to(tmp_path / "elsewhere")
    refused(trip, "data/new")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_nothing_is_written_into_an_embedded_repository(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("inner", {"inner/new": "1"})
    GitRepo.create(repo.path / "inner").commit("own", {"x": "1"})
    refused(trip, "inner/new")


def test_a_fifo_in_the_way(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("pipe", {"pipe": "1"})
    os.mkfifo(repo.path / "pipe")
    request = trip.request()
    assert plan(trip.repo, trip.base, request).blocked[0].path == "pipe"
    with pytest.raises(IntegrateError):
        trip.merge()
    assert not repo.git("for-each-ref", "refs/sandbox-backup")


def test_late_edit_of_the_same_file_is_merged_by_content(repo: GitRepo) -> None:
    trip = Trip.spawn(dirty(repo))
    trip.guest.git("add", "-A")
    agent = trip.guest.read("edited").decode().replace("line 20\n", "agent twenty\n")
    tip = trip.guest.commit("agent", {"edited": agent})
    repo.write("edited", repo.read("edited").decode().replace("line 10\n", "late ten\n"))
    assert plan(trip.repo, trip.base, trip.request()).late == ("edited",)
    merged = trip.merge()
    assert merged.late == ("edited",)
    assert repo.git("rev-parse", "HEAD") == tip
    assert repo.git("status", "--porcelain") == " M edited"
    assert repo.read("edited").decode() == agent.replace("line 10\n", "late ten\n")


def test_a_late_mode_change_survives(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"README": "agent\n"})
    (repo.path / "README").chmod(0o755)
    trip.merge()
    assert repo.git("diff", "--summary") == " mode change 100644 => 100755 README"
    assert repo.read("README") == b"agent\n"


def test_something_staged_only_after_spawn_blocks(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"README": "agent\n"})
    repo.write("README", "staged late\n")
    repo.git("add", "README")
    repo.write("README", "hello\n")
    refused(trip, "README", "staged")


def test_intent_to_add_and_flags(repo: GitRepo) -> None:
    repo.commit("more", {"assumed": "1\n", "skipped": "1\n"})
    repo.git("update-index", "--assume-unchanged", "assumed")
    repo.git("update-index", "--skip-worktree", "skipped")
    repo.write("assumed", "mine\n")
    repo.write("skipped", "mine\n")
    for name, text in (("planned", "plan\n"), ("empty", ""), ("other", "x\n")):
        repo.write(name, text)
        repo.git("add", "-N", name)
    trip = Trip.spawn(repo)
    trip.guest.git("add", "planned", "empty")
    trip.guest.commit("agent", {"README": "agent\n"})
    trip.merge()
    assert repo.git("status", "--porcelain") == " A other"
    assert (repo.read("assumed"), repo.read("skipped")) == (b"mine\n", b"mine\n")
    assert repo.git("ls-files", "-v", "assumed", "skipped").splitlines() == ["h assumed", "S skipped"]


def test_an_edit_hidden_by_assume_unchanged_blocks(repo: GitRepo) -> None:
    repo.git("update-index", "--assume-unchanged", "README")
    trip = Trip.spawn(repo)
    trip.guest.git("update-index", "--no-assume-unchanged", "README")
    trip.guest.commit("agent", {"README": "agent\n"})
    repo.write("README", "hidden and late\n")
    refused(trip, "README")


def test_a_commit_on_the_host_of_part_of_the_dirty_state(repo: GitRepo) -> None:
    trip = Trip.spawn(dirty(repo))
    trip.guest.git("add", "-A")
    trip.guest.commit("agent", {"own": "1\n"})
    repo.git("commit", "-q", "-m", "staged ones")
    merged = trip.merge()
    assert merged.relation is Relation.DIVERGED
    assert repo.status() == ""
    assert repo.git("show", "-s", "--format=%s|%P").startswith("Merge sandbox/vm-1 into main|")


def test_what_the_host_took_over_by_hand_is_no_obstacle(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"README": "agent\n", "new": "1\n"})
    shutil.copy2(trip.guest.path / "README", repo.path / "README")
    repo.write("new", "1\n")
    trip.merge()
    assert repo.status() == ""


def test_a_late_edit_of_lines_the_host_committed_meanwhile(repo: GitRepo) -> None:
    """The edit started from HEAD's text, not from the text at spawn: only so it does not conflict."""
    repo.commit("more", {"text": LINES})
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"text": LINES.replace("line 20\n", "agent\n")})
    repo.commit("host", {"text": LINES.replace("line 3\n", "host\n")})
    repo.write("text", LINES.replace("line 3\n", "late\n"))
    assert trip.merge().late == ("text",)
    assert repo.read("text").decode() == LINES.replace("line 3\n", "late\n").replace("line 20\n", "agent\n")
    assert repo.git("status", "--porcelain") == " M text"


def test_a_late_edit_of_lines_that_were_dirty_at_spawn(repo: GitRepo) -> None:
    """The edit started from the text at spawn, which the sandbox has committed."""
    repo.commit("more", {"text": LINES})
    repo.write("text", LINES.replace("line 3\n", "dirty\n"))
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"text": LINES.replace("line 3\n", "dirty\n").replace("line 20\n", "agent\n")})
    repo.write("text", LINES.replace("line 3\n", "late\n"))
    assert trip.merge().late == ("text",)
    assert repo.read("text").decode() == LINES.replace("line 3\n", "late\n").replace("line 20\n", "agent\n")
