"""What both halves of the API need: settings as keywords, the streams of a command, signals."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TypedDict

from git_sandbox import projectfile, registry, settings, signals
from git_sandbox.errors import Interrupted, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import devcontainers
from git_sandbox.sandbox.options import Options


class Given(TypedDict, total=False):
    """Settings of the same names as the options (docs/reference/settings.md); text as one would write it there."""

    backend: str
    transport: str
    accelerator: str
    cpus: int
    memory: str
    disk: str
    net: str
    allow: Sequence[str]
    key: Sequence[str]
    git_credentials: str
    egress_limit: Sequence[str]
    ca: str
    image: str
    packages: Sequence[str]
    on_exit: str
    dirty: str
    ignored: str
    exclude: Sequence[str]
    git_extra: Sequence[str]
    auto_push: str
    env: Mapping[str, str]
    devcontainer: str
    env_file: Sequence[str]
    setup: str
    mount: Sequence[str]
    publish: Sequence[str]
    ssh_agent: str
    nested: str
    vsock: str
    warm: str
    confinement: str
    bases: str
    cow: str
    thin_pool: str
    notify: str
    banner: str
    workdir: str
    trash: str
    trash_size: str
    stop_timeout: int
    boot_timeout: int
    editor_command: str
    mcp_allow: Sequence[str]
    mcp_repositories: Sequence[str]


LIMIT = 64 << 20  # bytes of each output that are kept
LATE = 5.0  # seconds for the last of it to arrive


@dataclass(frozen=True)
class Output:
    """What a command in a sandbox said, byte for byte. Guest text: see `git_sandbox.text` before showing it.

    `truncated`: it said more than the limit, and only the beginning is here.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


def contained(repo: Repository, given: Given, options: Options, *, forwarded: bool = True) -> Options:
    """`options` with what the repository's devcontainer.json asks for, where its user has agreed to that."""
    return devcontainers.applied(repo, options, _resolved(repo, given)[1], forwarded=forwarded)[0]


def resolved(repo: Repository, given: Given) -> settings.Settings:
    return _resolved(repo, given)[0]


def _resolved(repo: Repository, given: Given) -> tuple[settings.Settings, list[settings.Value]]:
    rows: dict[str, object] = dict(given)
    unknown = sorted(set(rows) - set(settings.BY_NAME))
    if unknown:
        raise UsageError(f"there is no setting `{unknown[0]}`", hint=f"known: {', '.join(settings.BY_NAME)}")
    if "env" in given:
        rows["env"] = tuple(f"{name}={value}" for name, value in given["env"].items())
    return settings.resolve(rows, projectfile.read(repo.worktree, registry.consent(repo)))


class Kept:
    """One output of a command: read to its end, so that nobody has to wait, and kept up to `limit` bytes.

    What runs in a sandbox may talk without end.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self.truncated = False
        self._reading, self.descriptor = os.pipe()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with os.fdopen(self._reading, "rb", 0) as source:
            while chunk := source.read(1 << 16):
                room = self._limit - len(self._kept)
                self._kept += chunk[:room]
                self.truncated |= len(chunk) > room

    def close(self) -> None:
        """No more comes from us. Something else, ssh's master, may still have the other end."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            self._thread.join(LATE)

    @property
    def content(self) -> bytes:
        self.close()
        return bytes(self._kept)


@contextlib.contextmanager
def streams(input: bytes, limit: int) -> Iterator[tuple[IO[bytes], Kept, Kept]]:
    """Standard input as a file, and both outputs."""
    with tempfile.TemporaryFile(prefix="git-sandbox-") as stdin, contextlib.ExitStack() as stack:
        stdin.write(input)
        stdin.seek(0)
        both = Kept(limit), Kept(limit)
        for keyword in both:
            stack.callback(keyword.close)
        yield stdin, *both


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
