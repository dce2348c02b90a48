"""What both halves of the API need: settings by keyword, streams of a command, signals."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TypedDict

from git_sandbox import projectfile, settings, signals
from git_sandbox.errors import Interrupted, UsageError
from git_sandbox.git.repo import Repository


class Given(TypedDict, total=False):
    """Settings of the same names as the options (docs/reference/settings.md); text as one would write it there."""

    backend: str
    transport: str
    accelerator: str
    cpus: int
    memory: str
    disk: str
    net: str
    image: str
    packages: Sequence[str]
    on_exit: str
    dirty: str
    ignored: str
    exclude: Sequence[str]
    auto_push: str
    env: Mapping[str, str]
    env_file: Sequence[str]
    setup: str
    mount: Sequence[str]
    publish: Sequence[str]
    ssh_agent: str
    vsock: str
    warm: str
    jailer: str
    bases: str
    cow: str
    thin_pool: str
    boot_timeout: int


@dataclass(frozen=True)
class Output:
    """What a command in a sandbox said, byte for byte. Guest text: see `git_sandbox.text` before showing it."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def resolved(repo: Repository, given: Given) -> settings.Settings:
    rows: dict[str, object] = dict(given)
    unknown = sorted(set(rows) - set(settings.BY_NAME))
    if unknown:
        raise UsageError(f"there is no setting `{unknown[0]}`", hint=f"known: {', '.join(settings.BY_NAME)}")
    if "env" in given:
        rows["env"] = tuple(f"{name}={value}" for name, value in given["env"].items())
    return settings.resolve(rows, projectfile.read(repo.worktree, repo.common_dir))[0]


@contextlib.contextmanager
def files(input: bytes) -> Iterator[tuple[IO[bytes], IO[bytes], IO[bytes]]]:
    with contextlib.ExitStack() as stack:
        stdin, stdout, stderr = (stack.enter_context(tempfile.TemporaryFile(prefix="git-sandbox-")) for _ in range(3))
        stdin.write(input)
        stdin.seek(0)
        yield stdin, stdout, stderr


def content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sandbox with its work brought home. Python hears signals in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        with signals.signals_raise():
            yield
    except Interrupted as caught:
        if caught.signum == signal.SIGINT:
            raise KeyboardInterrupt from caught
        raise
