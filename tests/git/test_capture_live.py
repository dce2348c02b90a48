"""Capturing while somebody else works in the repository."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git.names import RefName
from git_sandbox.git.repo import discover
from git_sandbox.workspace import filecopy, git_dir_copy, git_dir_entries
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.survey import CapturePolicy
from support.gitrepo import GitRepo


@contextmanager
def meanwhile(step: Callable[[], object]) -> Iterator[list[int]]:
    """Repeat `step` in a thread; yields a list that grows by one entry each time."""
    done: list[int] = []
    errors: list[BaseException] = []
    stop = threading.Event()

    def loop() -> None:
        try:
            while not stop.is_set():
                step()
                done.append(1)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's thread
            errors.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()
    assert not errors, errors


def complete(copy: GitRepo) -> None:
    copy.git("rev-list", "--objects", "--all", "--reflog", "--indexed-objects", "--quiet")
    assert copy.git("status", "--porcelain", "--untracked-files=no") == ""


def test_garbage_collection_and_commits_during_the_copy(repo: GitRepo, tmp_path: Path) -> None:
    """A new commit goes into a pack at once, and everything it was made of is pruned, over and over."""
    for number in range(60):
        repo.commit(f"c{number}", {f"f{number % 7}": f"{number}\n" * 50})

    def churn() -> None:
        repo.git("commit", "-q", "--allow-empty", "-m", "more")
        repo.git("gc", "-q", "--prune=now")

    with meanwhile(churn) as rounds:
        for number in range(10):
            target = tmp_path / f"copy{number}"
            capture(discover(repo.path), target, CapturePolicy(patience=0.05))
            complete(GitRepo(target))
    assert len(rounds) >= 3


def test_objects_repacked_between_refs_and_objects_are_found(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly the bad moment: loose objects are listed, then packed and deleted, then copied."""
    for number in range(5):
        repo.commit(f"c{number}", {"f": f"{number}\n"})
    original = git_dir_entries.store_entries
    calls: list[Path] = []

    def listing(objects: Path, *, foreign: bool = False) -> list[str]:
        names = original(objects, foreign=foreign)
        if not calls:
            repo.git("gc", "-q", "--prune=now")
        calls.append(objects)
        return names

    monkeypatch.setattr(git_dir_entries, "store_entries", listing)
    said: list[str] = []
    capture(discover(repo.path), tmp_path / "copy", CapturePolicy(), progress=said.append)
    complete(GitRepo(tmp_path / "copy"))
    assert len(calls) >= 2
    assert any("checking the copy" in text for text in said)


def test_refs_that_lose_their_objects_are_copied_again(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.git("checkout", "-q", "-b", "doomed")
    doomed = repo.commit("doomed", {"f": "doomed\n"})
    repo.git("checkout", "-q", "main")
    original = git_dir_copy._copy_objects
    calls: list[int] = []

    def copy_objects(source: Path, target: Path, **options: Any) -> bool:
        if not calls:
            repo.git("branch", "-D", "doomed")
            repo.git("reflog", "expire", "--expire=now", "--all")
            repo.git("gc", "-q", "--prune=now")
        calls.append(1)
        return original(source, target, **options)

    monkeypatch.setattr(git_dir_copy, "_copy_objects", copy_objects)
    capture(discover(repo.path), tmp_path / "copy", CapturePolicy())
    copy = GitRepo(tmp_path / "copy")
    complete(copy)
    assert "refs/heads/doomed" not in copy.refs()
    assert copy.run("cat-file", "-e", doomed).returncode != 0
    assert len(calls) == 2


def test_a_repository_that_never_holds_still_is_refused(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_dir_copy, "connected", lambda git_dir: git_dir == repo.path / ".git")
    monkeypatch.setattr(git_dir_copy, "_copy_objects", lambda _source, _target, **_options: True)
    with pytest.raises(RepositoryError, match="kept changing") as caught:
        capture(discover(repo.path), tmp_path / "copy", CapturePolicy())
    assert "git gc" in caught.value.hint


def test_a_damaged_repository_comes_along_with_a_warning(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = repo.git("rev-parse", "HEAD:README")
    (repo.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    original = git_dir_copy._copy_objects
    monkeypatch.setattr(git_dir_copy, "_copy_objects", lambda *args, **options: original(*args, **options) or True)
    captured = capture(discover(repo.path), tmp_path / "copy", CapturePolicy())
    assert any("lacks objects" in warning for warning in captured.warnings)
    assert (tmp_path / "copy/README").is_file()


def test_waits_for_the_index_lock(repo: GitRepo, tmp_path: Path) -> None:
    lock = repo.path / ".git" / "index.lock"
    lock.touch()
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        if "Waiting" in text:  # the other git finishes: it has staged something
            lock.unlink()
            repo.write("staged")
            repo.git("add", "staged")

    captured = capture(discover(repo.path), tmp_path / "copy", CapturePolicy(patience=20), progress=progress)
    assert any("index.lock" in text for text in said)
    assert captured.warnings == ()
    assert GitRepo(tmp_path / "copy").git("ls-files") == "README\nstaged"


def test_a_lock_nobody_removes_is_left_behind(repo: GitRepo, tmp_path: Path) -> None:
    litter = [".git/index.lock", ".git/refs/heads/main.lock", ".git/objects/pack/tmp_pack_x", ".git/packed-refs.lock",
              ".git/objects/tmp_objdir-incoming-x/pack/p", ".git/logs/refs/heads/main.lock",
              ".git/objects/aa/tmp_obj_x", ".git/fsmonitor--daemon/cookies/1"]  # fmt: skip
    for name in litter:
        repo.write(name, "litter")
    repo.git("branch", "tmp_work")  # looks like litter elsewhere
    captured = capture(discover(repo.path), tmp_path / "copy", CapturePolicy(patience=0.1))
    copy = GitRepo(tmp_path / "copy")
    assert [name for name in litter if (copy.path / name).exists()] == []
    assert "refs/heads/tmp_work" in copy.refs()
    assert len(captured.warnings) == 1
    assert "index.lock" in captured.warnings[0]
    copy.commit("no lock is in the way")
    assert all((repo.path / name).exists() for name in litter)


def test_gc_pid_counts_while_its_process_lives(tmp_path: Path) -> None:
    pid_file = tmp_path / "gc.pid"
    assert not git_dir_copy.gc_runs(pid_file)
    pid_file.write_text(f"{os.getpid()} {socket.gethostname()}")
    assert git_dir_copy.gc_runs(pid_file)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    pid_file.write_text(f"{child.pid} {socket.gethostname()}")
    assert not git_dir_copy.gc_runs(pid_file)
    pid_file.write_text(f"{child.pid} another-host")
    assert git_dir_copy.gc_runs(pid_file)
    os.utime(pid_file, (time.time(), time.time() - 13 * 3600))
    assert not git_dir_copy.gc_runs(pid_file)
    pid_file.write_text(f"nonsense {socket.gethostname()}")
    assert not git_dir_copy.gc_runs(pid_file)


def test_files_that_come_and_go_are_no_error(repo: GitRepo, tmp_path: Path) -> None:
    for number in range(300):
        repo.write(f"many/{number}/file")

    def churn() -> None:
        for number in range(300):
            path = repo.path / "many" / str(number) / "file"
            path.unlink()
            path.parent.rmdir()
            path.parent.mkdir()
            path.write_text("again\n")

    with meanwhile(churn) as rounds:
        for number in range(5):
            captured = capture(discover(repo.path), tmp_path / f"copy{number}", CapturePolicy())
            assert captured.skipped == ()
    assert rounds


def test_what_vanishes_after_it_was_listed_is_reported_not_raised(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "source" / "there").touch()
    outcome = filecopy.copy(tmp_path / "source", tmp_path / "target", ["gone", "there"])
    assert len(outcome.vanished) == 1
    assert (tmp_path / "target" / "there").is_file()


def test_refs_that_move_while_the_worktree_is_copied_count_as_they_went_in(repo: GitRepo, tmp_path: Path) -> None:
    """Else the branch of before came back from the sandbox as one that was moved in it."""
    repo.commit("one", {"a": "1\n"})
    for name in ("stays", "moves", "goes"):
        repo.git("branch", name)
    repo.write("a", "2\n")
    repo.git("stash")
    before, stash = discover(repo.path).refs("refs/heads"), repo.git("rev-parse", "refs/stash")
    steps = ["commit --allow-empty -qm two", "branch -f moves", "branch -D goes", "branch new", "stash clear"]

    def progress(text: str) -> None:
        while text == "Copying the worktree" and steps:
            repo.git(*steps.pop(0).split())

    captured = capture(discover(repo.path), tmp_path / "copy", CapturePolicy(), progress=progress)
    assert not steps
    assert captured.refs == before == discover(tmp_path / "copy").refs("refs/heads")
    assert captured.stash == (stash,)
    assert captured.head.commit == before[RefName("refs/heads/main")]
