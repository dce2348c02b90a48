from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox.errors import IntegrateError
from git_sandbox.integrate.modes import Mode
from git_sandbox.integrate.undo import undo
from support.gitrepo import GitRepo
from support.sandboxed import ID, LINES, Trip, dirty, everything, files


def seen(repo: GitRepo) -> tuple[object, ...]:
    return files(repo.path), repo.git("status", "--porcelain=v2", "--branch"), repo.git("ls-files", "-s")


def refused(trip: Trip, match: str) -> None:
    before = everything(trip.host)
    with pytest.raises(IntegrateError, match=match) as caught:
        undo(trip.repo, ID)
    assert "refs/sandbox-backup/vm-1/1" in caught.value.hint
    assert everything(trip.host) == before


@pytest.mark.parametrize("mode", [Mode.FF_OR_MERGE, Mode.NO_FF, Mode.SQUASH])
def test_undo_brings_back_files_index_split_and_head(repo: GitRepo, mode: Mode) -> None:
    trip = Trip.spawn(dirty(repo))
    trip.guest.git("add", "-A")
    trip.guest.commit("agent", {"edited": "agent\n", "new dir/new": "1\n"})
    before = seen(repo)
    merged = trip.merge(mode)
    undone = undo(trip.repo, ID)
    assert seen(repo) == before
    assert (undone.before, undone.after, undone.backup) == (merged.after, merged.before, merged.backup)
    assert not (repo.path / "new dir").exists()
    trip.merge(mode)
    assert max(name for name in repo.refs() if "backup" in name) == "refs/sandbox-backup/vm-1/2"
    undo(trip.repo, ID)
    assert seen(repo) == before


def test_undo_takes_a_late_edit_out_of_the_merged_file_again(repo: GitRepo) -> None:
    repo.commit("more", {"text": LINES})
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"text": LINES.replace("line 20\n", "agent\n")})
    repo.write("text", LINES.replace("line 3\n", "late\n"))
    before = seen(repo)
    assert trip.merge().late == ("text",)
    undo(trip.repo, ID)
    assert seen(repo) == before


def test_undo_keeps_later_work_elsewhere(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"a": "1\n"})
    trip.merge()
    repo.write("README", "later\n")
    repo.write("later")
    repo.git("add", "later")
    undo(trip.repo, ID)
    assert repo.git("status", "--porcelain").splitlines() == [" M README", "A  later"]
    assert not (repo.path / "a").exists()


def test_undo_back_to_unborn(tmp_path: Path) -> None:
    host = GitRepo.create(tmp_path / "host")
    host.write("a", "1\n")
    trip = Trip.spawn(host)
    trip.guest.git("add", "-A")
    trip.guest.commit("first", {"b": "1\n"})
    trip.merge()
    assert undo(trip.repo, ID).after is None
    assert host.git("status", "--porcelain", "--branch").splitlines() == ["## No commits yet on main", "?? a"]


def test_undo_restores_a_file_that_was_untracked_and_ignored(repo: GitRepo) -> None:
    repo.commit("more", {"local": "1\n", ".gitignore": "local\n"})
    repo.git("rm", "-q", "--cached", "local")
    trip = Trip.spawn(repo)
    trip.guest.git("reset", "-q", "--", "local")
    trip.guest.write("local", "agent\n")
    trip.guest.git("commit", "-q", "-a", "-m", "agent")
    trip.merge()
    assert repo.read("local") == b"agent\n"
    undo(trip.repo, ID)
    assert repo.read("local") == b"1\n"
    assert repo.git("status", "--porcelain") == "D  local"


def test_undo_refuses_when_something_was_built_on_it(repo: GitRepo) -> None:
    trip = Trip.spawn(repo)
    trip.guest.commit("agent", {"a": "1\n"})
    trip.merge()
    repo.write("a", "edited\n")
    refused(trip, "edited since")
    repo.git("add", "a")
    refused(trip, "edited since")
    repo.write("a", "1\n")
    refused(trip, "edited since")
    repo.git("commit", "-q", "-m", "on top")
    refused(trip, "HEAD has moved")


def test_undo_without_a_merge(repo: GitRepo) -> None:
    with pytest.raises(IntegrateError, match="nothing of"):
        undo(Trip.spawn(repo).repo, ID)


def test_undo_of_a_deletion_where_the_user_put_something_else(repo: GitRepo) -> None:
    repo.commit("more", {"d/x": "1\n"})
    trip = Trip.spawn(repo)
    trip.guest.git("rm", "-q", "d/x")
    trip.guest.commit("agent")
    (repo.path / "d/x").unlink()
    (repo.path / "d").rmdir()
    repo.write("d", "a file now\n")
    before = seen(repo)
    trip.merge()
    undo(trip.repo, ID)
    assert seen(repo) == before
