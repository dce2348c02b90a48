"""A FIFO in the place of a file that git reads: git would wait for ever for one who writes to it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from git_sandbox.git import snapshot
from git_sandbox.git.repo import discover
from git_sandbox.guest import sorting, waiting
from git_sandbox.workspace.capture import capture as make_copy
from git_sandbox.workspace.survey import CapturePolicy
from support.gitrepo import GitRepo
from support.guest import Host, content
from support.sandboxed import capture

WIP = "refs/sandbox-wip/vm-1"


def fifo(repo: GitRepo, name: str) -> Path:
    path = repo.path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


@pytest.mark.parametrize(
    "names",
    [
        (".gitignore", "new/.gitattributes", ".gitmodules"),
        (".git/info/attributes", ".git/info/exclude"),
        (".git/refs/heads/pipe", ".git/logs/HEAD", ".git/MERGE_HEAD"),
        (".git/included", ".git/excludes"),
    ],
    ids=lambda names: names[0],
)
def test_work_comes_home_all_the_same(repo: GitRepo, tmp_path: Path, names: tuple[str, ...]) -> None:
    host, guest = Host(repo, tmp_path / "quarantine"), repo.clone_files(tmp_path / "guest")
    tip = guest.commit("second", {"a": "1\n"})
    guest.write("new/file", "new\n")
    guest.git("config", "include.path", "included")
    guest.git("config", "core.excludesFile", os.fspath(guest.path / ".git/excludes"))
    places = [fifo(guest, name) for name in names]
    done = host.bring_home(guest)
    assert done.head == tip
    assert content(repo, f"{WIP}:new/file") == b"new\n"
    assert all(place.is_fifo() for place in places)


@pytest.mark.parametrize("name", [".git/index", ".gitignore", ".git/info/exclude"])
def test_what_changed_is_sorted_all_the_same(repo: GitRepo, name: str) -> None:
    repo.commit("ignoring", {".gitignore": "*.log\n"})
    place = fifo(repo, name)
    config: dict[str, object] = {"user": {"name": "root", "uid": os.getuid(), "gid": os.getgid()}}
    began = time.monotonic()
    kinds = sorting.sort(repo.path, [b"a.log", b"plain"], config)
    assert b"plain" in kinds["uncommitted"]
    assert time.monotonic() - began < sorting.WITHIN / 2
    assert place.is_fifo()


def test_a_start_is_not_held_up(repo: GitRepo) -> None:
    fifo(repo, "new/.gitattributes")
    repo.write("new/file", "new\n")
    snapshot = capture(repo)
    assert content(repo, f"{snapshot.tree}:new/file") == b"new\n"


KINDS: dict[str, Callable[[Path], object]] = {
    "directory": lambda place: place.mkdir(),
    "fifo": os.mkfifo,
    "endless": lambda place: place.symlink_to("/dev/zero"),
    "loop": lambda place: place.symlink_to(place.name),
}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in ("index", "objects/info/alternates", "logs/refs/stash", "COMMIT_EDITMSG")
        for kind in KINDS
        if (name, kind) != ("objects/info/alternates", "endless")  # git itself reads that until its limit
    ],
)
def test_a_file_of_another_kind_refuses_no_start_and_is_not_read_for_ever(
    repo: GitRepo, tmp_path: Path, name: str, kind: str
) -> None:
    """Of those that we read ourselves."""
    place = repo.path / ".git" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    KINDS[kind](place)
    repo.write("new", "new\n")
    host = discover(repo.path)
    captured = make_copy(host, tmp_path / "copy", CapturePolicy(patience=1))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    taken = snapshot.take(host.git, captured.index, scratch, copied=True)
    place.rmdir() if kind == "directory" else place.unlink()  # else the git of this test would wait
    assert content(repo, f"{taken.tree}:new") == b"new\n"
    assert content(repo, f"{taken.tree}:README") == b"hello\n"
    assert sum(path.stat().st_size for path in scratch.iterdir()) < 1 << 20


def test_a_fifo_that_may_not_be_written_ends_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a child, which can give up root's rights: root may write to every FIFO."""
    with tempfile.TemporaryDirectory() as directory:
        os.mkfifo(Path(directory) / "pipe", 0o444)
        Path(directory).chmod(0o755)
        monkeypatch.chdir(directory)
        if not (child := os.fork()):
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            os._exit(-waiting.run(["git", "config", "--file", "pipe", "--list"], env=dict(os.environ)).returncode)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == signal.SIGKILL


def test_who_waits_for_something_else_is_left_alone() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert not waiting.release(process.pid)
        assert process.communicate(b"text")[0] == b"text"


def test_a_filter_that_waits_for_its_own_writer_is_left_alone(repo: GitRepo, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    repo.git("config", "filter.slow.clean", f"cat > /dev/null; (sleep 2; echo whole > {pipe}) & cat {pipe}")
    repo.write(".gitattributes", "new filter=slow\n")
    repo.write("new", "new\n")
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    done = waiting.run(["git", "hash-object", "-w", "new"], env=env, cwd=os.fspath(repo.path))
    assert content(repo, done.stdout.decode().strip()) == b"whole\n"


def test_git_that_is_slow_to_read_gets_all_of_its_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a pipe holds, to one that is looked at before it has read."""
    monkeypatch.setattr(waiting, "PATIENCE", 0.001)
    done = waiting.run(["wc", "-c"], env={"PATH": os.defpath}, input=bytes(1 << 20))
    assert done.stdout.strip() == b"1048576"
