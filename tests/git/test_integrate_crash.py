"""Nothing of the user's is lost, whatever happens between the steps."""

from __future__ import annotations

import os
import signal
import tempfile

import pytest

from git_sandbox.errors import IntegrateError, Interrupted, RepositoryError
from git_sandbox.git.command import Git
from git_sandbox.integrate import advance
from support.gitrepo import GitRepo
from support.kills import killed
from support.sandboxed import Trip, dirty, everything, files

BACKUP = "refs/sandbox-backup/vm-1/1"


def prepared(repo: GitRepo) -> Trip:
    trip = Trip.spawn(dirty(repo))
    trip.guest.git("add", "-A")
    trip.guest.git("rm", "-q", "-f", "README")
    trip.guest.commit("agent", {"edited": "agent\n", "README/inner/new": "1\n", "untracked": "agent\n"})
    trip.home()
    return trip


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("step", ["_check_head", "_publish", "_move_head"])
@pytest.mark.parametrize("error", [RepositoryError("full"), Interrupted(2), OSError("io")])
def test_an_exception_at_any_step_puts_everything_back(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    trip = prepared(repo)
    before = everything(repo)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(advance, step, fail)
    with pytest.raises((type(error), IntegrateError)):
        trip.merge()
    repo.git("update-ref", "-d", BACKUP)
    assert everything(repo) == before


def test_a_checkout_that_stops_half_way_is_put_back(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = prepared(repo)
    before = everything(repo)
    run = Git.run

    def half(self: Git, *args: str, **options: object) -> bytes:
        if args[:3] == ("read-tree", "-m", "-u") and "-n" not in args:
            (repo.path / "README").unlink()
            repo.write("README/inner/new", "1\n")
            repo.write("edited", "agent\n")
            raise RepositoryError("no space left on device")
        return run(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Git, "run", half)
    with pytest.raises(IntegrateError, match="cannot put the new files in place"):
        trip.merge()
    repo.git("update-ref", "-d", BACKUP)
    assert everything(repo) == before


@pytest.mark.parametrize("step", ["_check_head", "_publish", "_move_head"])
def test_after_kill_9_the_backup_is_there_and_merging_again_completes_it(repo: GitRepo, step: str) -> None:
    trip = prepared(repo)
    had = files(repo.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(repo.path.parent))  # who is killed does not tidy up
        patch.setattr(advance, step, die)
        killed(trip.merge)
    assert (repo.path / ".git/index.lock").exists()
    saved = repo.git("ls-tree", "-r", "--name-only", BACKUP).splitlines()
    assert saved == sorted(had)
    assert repo.git("cat-file", "blob", f"{BACKUP}:edited").encode() + b"\n" == had["edited"][1]
    trip.merge()
    assert repo.status() == ""
    assert repo.git("rev-parse", "HEAD") == trip.guest.git("rev-parse", "HEAD")
    assert [path.name for path in (repo.path / ".git").iterdir() if "lock" in path.name or "sandbox" in path.name] == []


def test_the_lock_of_another_git_is_respected(repo: GitRepo) -> None:
    trip = prepared(repo)
    repo.write(".git/index.lock", "")
    before = everything(repo)
    with pytest.raises(IntegrateError, match="another git"):
        trip.merge()
    assert everything(repo) == before


def test_the_lock_of_another_merge_is_respected(repo: GitRepo) -> None:
    trip = prepared(repo)
    with advance.locked(trip.repo), pytest.raises(IntegrateError, match="another git"):
        trip.merge()
    assert not (repo.path / ".git/index.lock").exists()


def test_an_edit_between_looking_and_moving_is_noticed(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = prepared(repo)
    check = advance._check

    def late(git: Git, source: object, target: object) -> None:
        repo.write("edited", "at the last moment\n")
        check(git, source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(advance, "_check", late)
    head = repo.git("rev-parse", "HEAD")
    with pytest.raises(IntegrateError, match="changed while"):
        trip.merge()
    assert repo.read("edited") == b"at the last moment\n"
    assert repo.git("rev-parse", "HEAD") == head


def test_a_head_that_moves_meanwhile_is_noticed(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = prepared(repo)
    move_head = advance._move_head
    other = repo.git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "elsewhere")

    def late(*args: object) -> None:
        repo.git("update-ref", "refs/heads/main", other)
        move_head(*args)  # type: ignore[arg-type]

    had = files(repo.path)
    monkeypatch.setattr(advance, "_move_head", late)
    with pytest.raises(IntegrateError):
        trip.merge()
    assert files(repo.path) == had
    assert repo.git("rev-parse", "HEAD") == other
