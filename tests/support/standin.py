"""A worker whose machine is a directory: the disk of a job is unpacked and its command runs there, then the guest's own
exporter answers. Everything else is the worker's: conversation, caches, sandbox, result, trash.

As a program it is what `ssh HOST sandbox worker` starts in tests; its state and cache are its own (`STANDIN_ROOT`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from git_sandbox import free_space, process
from git_sandbox.disk import job_parts, workspace_disk
from git_sandbox.errors import Interrupted, MachineError
from git_sandbox.git.repo import Repository
from git_sandbox.guest import tail as guest
from git_sandbox.jobs import blobs
from git_sandbox.jobs.blobs import Blob
from git_sandbox.jobs.job import Job
from git_sandbox.sandbox import job_run, live, provision, remote_session, retrieve, worker
from git_sandbox.sandbox.frame_sender import Recorder
from git_sandbox.sandbox.job_run import Attempt, Export
from git_sandbox.store import SandboxHandle
from support.guest import exporter
from support.nested import served

CHANGED = '{"state": "changed"}'


def unpacked(box: SandboxHandle, job: Job, places: Mapping[Blob, Path]) -> Path:
    """The worktree that is on the disk, which is left beside it as a machine would leave it."""
    disks, directory = job.disks, box.directory
    stored = job_parts.StoredTail(places[disks.tail]) if disks.tail else None
    workspace_disk.lay("copy", places[disks.base], directory, stored)
    tree = directory.root / "tree"
    tree.mkdir()
    dump = process.which("debugfs") or "debugfs", "-R", f"rdump /repo {tree}", directory.disk
    done = subprocess.run(dump, capture_output=True, check=True, text=True)
    assert (tree / "repo").is_dir(), done.stderr
    guest.apply(directory.disk, tree / "repo")
    return tree / "repo"


def run(self: Attempt, places: Mapping[Blob, Path]) -> None:
    """`Attempt.run`."""
    box, job = self.handle, self.job
    if os.environ.get("STANDIN_REFUSES"):
        raise MachineError("this stand-in takes no job")
    box.save(job_run.own_record(box, job, "standin"))
    place = unpacked(box, job, places)
    recorder = Recorder(self.sender, job_run.printed(box.directory))
    self.begun = True
    code = _command(job, place, recorder)
    with exporter(place, os.environ.get("STANDIN_CHANGES", CHANGED)) as channel:
        Export(job).write(box.directory, channel)
    job_run.finish(box.directory, self.answer(code, ""))


def _command(job: Job, place: Path, recorder: Recorder) -> int:
    outputs = [recorder.channel(number) for number in (1, 2)]
    environment = {**os.environ, **job.config.env, "STANDIN_PID": str(os.getpid())}
    with _held() as late:
        child = subprocess.Popen(
            job.record.command, cwd=place / job.directory, env=environment, stdin=subprocess.DEVNULL,
            stdout=outputs[0], stderr=outputs[1],
        )  # fmt: skip
        for each in outputs:
            os.close(each)
    try:
        for number in late:
            signal.raise_signal(number)
        return child.wait() % 256
    except Interrupted as caught:
        child.send_signal(signal.SIGTERM)
        child.wait()
        return caught.exit_code
    finally:
        recorder.close()


@contextlib.contextmanager
def _held() -> Iterator[list[int]]:
    """Signals that come meanwhile: a command may say that it is there before the stand-in waits for it."""
    late: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield late
        return
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda number, _frame: late.append(number)) for number in numbers}
    try:
        yield late
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def rescued(box: SandboxHandle, *_rest: object) -> Iterator[socket.socket]:
    """`retrieve.rescued`: what is in the directory of a stand-in that was killed."""
    with served(box.directory.root / "tree/repo") as channel:
        yield channel


class Session:
    """Of a machine that is a directory."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def run(self, command: Sequence[str], _directory: str, **_more: object) -> int:
        return subprocess.run(command, cwd=self.place, check=False).returncode

    def shell(self, directory: str) -> int:
        return self.run(["sh"], directory)


def opened(repo: Repository, name: str) -> Session:
    """`live.open_session`."""
    return Session(live.running(repo, name)[0].directory.root / "tree/repo")


def install() -> None:
    live.open_session = opened  # type: ignore[assignment]
    Attempt.run = run  # type: ignore[method-assign]
    retrieve.rescued = rescued  # type: ignore[assignment]
    provision.available_memory = lambda: int(os.environ.get("STANDIN_MEMORY", "8192"))
    if "STANDIN_VERSION" in os.environ:
        worker.__version__ = os.environ["STANDIN_VERSION"]  # type: ignore[attr-defined]
    if os.environ.get("STANDIN_FULL"):
        blobs.require = lambda size, *places: free_space.require(size + (1 << 60), *places)  # type: ignore[attr-defined]


def main() -> int:
    from git_sandbox import signals

    root = Path(os.environ["STANDIN_ROOT"])
    for kind in ("STATE", "CACHE", "CONFIG"):
        os.environ[f"XDG_{kind}_HOME"] = str(root / kind.lower())
    install()
    if sys.argv[1:2] == ["--enter"]:
        with signals.signals_raise():
            return remote_session.serve(sys.argv[2])
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with signals.signals_raise():
        return worker.serve(sys.stdin.buffer, out)


def program() -> int:
    with contextlib.suppress(Interrupted):
        return main()
    return 143


if __name__ == "__main__":
    sys.exit(program())
