"""A try on another machine, seen from here: the lifecycle of its sandbox, across lost connections.

A command is begun once. Until its files are with a worker nothing has happened, and another machine may have the job.
From then on the sandbox here says where it is: a connection that breaks is made again, and the worker gives what it has
to the same job. What cannot be reached stays away, by name, until `recover --on`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import msgspec

from git_sandbox import files, store
from git_sandbox.errors import Interrupted, SandboxError, SessionError
from git_sandbox.git.repo import Repository
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Writer
from git_sandbox.jobs.result import Failure, Hearing
from git_sandbox.later import dataclass, field
from git_sandbox.progress import Notice, Progress
from git_sandbox.sandbox import dispatch, hosts, remote_home, remote_session
from git_sandbox.sandbox.dispatch import Sent
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.hosts import Conversation, LostError
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.remote_home import Came
from git_sandbox.sandbox.remote_session import Visit
from git_sandbox.sandbox.run import OUTPUT_LIMIT, Ready
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import SandboxHandle

AGAIN = (1.0, 5.0, 20.0)  # seconds before a lost connection is made again


@dataclass
class _Try:
    """`begun`: a worker may have begun. `arrived`: one has had all files."""

    sent: Sent
    options: Options
    progress: Progress
    ready: Ready
    begun: bool = False
    arrived: bool = False
    shell: int | None = None  # the exit code of the user's, once it has ended
    failures: list[Failure] = field(default_factory=list)

    @property
    def directory(self) -> SandboxDir:
        return self.sent.handle.directory

    def run(self, output: Callable[[int, bytes], None]) -> Came:
        """On the first machine that takes it. Raises SandboxError."""
        refused: SandboxError | None = None
        for place in self.options.on:
            try:
                return self._at(place, output)
            except SandboxError as error:
                if self.begun:
                    raise
                refused = refused or error
                self.progress(f"{place}: {error.message}")
        assert refused is not None  # noqa: S101 - there is at least one place
        raise refused

    def _at(self, place: str, output: Callable[[int, bytes], None]) -> Came:
        for pause in (*AGAIN, None):
            try:
                with hosts.conversation(place, frames.JOB, remote_home.log_file(self.directory)) as talk:
                    interrupted = self._talk(talk, output)
                    answer, home = remote_home.arrived(
                        self.sent.handle, self.sent.prepared.record, self.sent.job.nonce, talk
                    )
                return Came(place, answer, home, remote_home.acknowledged(talk, home), interrupted)
            except LostError as error:
                if not self.begun or pause is None or self.options.command is None:  # else: it waits for its shell
                    raise self._away(place, error) if self.begun else error from error
                self.progress(f"{error.message}; retrying in {pause:g} s")
                time.sleep(pause)
            except SandboxError as error:
                if self.begun:
                    error.hint = self._hint(place)
                raise
        raise AssertionError  # the last attempt returns or raises

    def _talk(self, talk: Conversation, output: Callable[[int, bytes], None]) -> int:
        if self.options.command is None:
            output = self._entering(talk)
        hearing = Hearing(self.progress, output, self.failures.append)
        try:
            return hosts.run(talk, _Load(self, talk.place), self.directory.result, hearing)
        except OSError as error:  # of ssh, whose pipe is gone
            raise talk.lost() from error
        except SandboxError:
            if self.failures and not self.failures[-1].begun:
                self.sent.forget()
                self.begun = False
            raise

    def _entering(self, talk: Conversation) -> Callable[[int, bytes], None]:
        """What hears the command that stands for a shell (`dispatch.WAITS`): it says once that the session is open.
        Then the user's shell runs, on our terminal, and when it ends so does the sandbox; a detached one is left alone.
        """

        def opened(_channel: int, _data: bytes) -> None:
            if self.shell is not None:
                return
            self.shell = 0
            self.progress("")
            self.ready(self.sent.handle.id)
            if not self.options.detached:
                visit = Visit(self.sent.job.nonce, directory=self.options.subdirectory, tty=True)
                try:
                    self.shell = remote_session.enter(talk.place, visit)
                except Interrupted as caught:
                    self.shell = caught.exit_code
                    raise
                talk.send(frames.STOP)

        return opened

    def give(self, place: str, writer: Writer, digests: Collection[str] | None) -> None:
        """The files. Noted before, for the worker may begin with the last of them; `ready` when it has them all."""
        if not self.begun:
            self.sent.note(place)
            self.begun = True
        self.sent.packed.files(writer, digests)
        if not self.arrived:
            self.arrived = True
            if self.options.command is not None:
                self.ready(self.sent.handle.id)

    def _away(self, place: str, error: SandboxError) -> SessionError:
        return SessionError(
            f"sandbox `{self.sent.handle.id}` is away: {error.message}", cause=error.cause, hint=self._hint(place)
        )

    def _hint(self, place: str) -> str:
        name = self.sent.handle.id
        way = f"`sandbox recover --on {place} {name}` brings its work home"
        if self.options.command is None:
            return f"it keeps running at {place}: `sandbox shell {name}` opens a shell there, {way} and ends it"
        return f"its job may still be running at {place}: {way}"


@dataclass(frozen=True)
class _Load:
    """The job of a try, for the worker at `place`."""

    of: _Try
    place: str

    def head(self, writer: Writer) -> None:
        self.of.sent.packed.head(writer)

    def files(self, writer: Writer, digests: Collection[str] | None = None) -> None:
        self.of.give(self.place, writer, digests)


def spawn(repo: Repository, options: Options, progress: Progress, ready: Ready, notice: Notice) -> Finished:
    """Like `lifecycle.spawn`, on one of the machines `options.on`: the first that takes it."""
    for place in options.on:
        hosts.host(place)
    with dispatch.prepared(repo, options, progress, notice) as sent, _written(sent.handle, options) as output:
        attempt = _Try(sent, options, progress, ready)
        came = attempt.run(output)
        if attempt.shell is not None and came.answer.exit_code is not None:
            came = dataclasses.replace(came, answer=msgspec.structs.replace(came.answer, exit_code=attempt.shell))
        return remote_home.finished(
            sent.handle, sent.prepared.record, came, progress, remove=True, warnings=sent.warnings
        )


@contextlib.contextmanager
def _written(handle: SandboxHandle, options: Options) -> Iterator[Callable[[int, bytes], None]]:
    """Where the output of a command goes: where that of a machine here would."""
    if not options.detached:
        yield lambda channel, data: _all(options.stdout if channel == 1 else options.stderr, data)
        return
    room = OUTPUT_LIMIT
    with files.opened(handle.directory.output, "wb") as out:

        def kept(_channel: int, data: bytes) -> None:
            nonlocal room
            with contextlib.suppress(OSError):
                out.write(data[: max(0, room)])
                out.flush()
            room -= len(data)

        yield kept


def _all(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        while data:
            data = data[os.write(descriptor, data) :]


# --- later ------------------------------------------------------------------------------------------------------------


def recoverable(repo: Repository, place: str) -> list[str]:
    """Sandboxes whose jobs are at `place`."""
    return [entry.id for entry, known in dispatch.away(repo).values() if known.place == place]


def recovered(
    repo: Repository, place: str, names: Sequence[str], progress: Progress
) -> Iterator[tuple[str, Finished | SandboxError]]:
    """`recover` of each, or why that was not possible: one does not keep the others away. Raises LostError,
    RequirementError where there is no worker.
    """
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as scratch:
        hosts.ask(place, Path(scratch, "log"))
    for name in names:
        try:
            yield name, recover(repo, place, name, Hearing(progress))
        except SandboxError as error:
            yield name, error


def recover(repo: Repository, place: str, name: str, hearing: Hearing) -> Finished:
    """Fetch the result of a sandbox that is away from the machine at `place`: it need not be the one it was sent to.
    Raises SandboxError.
    """
    with store.open_existing(repo, name) as (handle, entry):
        known, record = dispatch.read_note(entry.directory), entry.record
        if known is None or record is None:
            raise dispatch.not_away(name)
        if not record.command:
            remote_session.end(place, known.nonce, remote_home.log_file(handle.directory), hearing)
        with hosts.conversation(place, frames.ASK, remote_home.log_file(handle.directory)) as talk:
            hosts.fetch(talk, known.nonce, handle.directory.result, hearing)
            answer, home = remote_home.arrived(handle, record, known.nonce, talk)
        came = Came(place, answer, home, remote_home.acknowledged(talk, home))
        return remote_home.finished(handle, record, came, hearing.progress, remove=False)
