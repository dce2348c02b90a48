"""A try on another machine, from here: the life of its sandbox, whatever happens to the connection.

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

from git_sandbox import files, jsontext, store
from git_sandbox.errors import SandboxError, SessionError, StateError
from git_sandbox.git.repo import Repository
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Writer
from git_sandbox.jobs.result import Answer, Failure, Hearing, Question
from git_sandbox.later import dataclass, field
from git_sandbox.progress import Notice, Progress
from git_sandbox.sandbox import dispatch, hosts, imported, retrieve
from git_sandbox.sandbox.dispatch import Sent
from git_sandbox.sandbox.hosts import Conversation, LostError
from git_sandbox.sandbox.imported import Home
from git_sandbox.sandbox.lifecycle import Finished
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.run import OUTPUT_LIMIT, Ready
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Record, SandboxHandle

AGAIN = (1.0, 5.0, 20.0)  # seconds before a lost connection is made again


@dataclass(frozen=True)
class _Came:
    """What came from the machine at `place`. `acknowledged`: its worker knows that nothing of it is missing here."""

    place: str
    answer: Answer
    home: Home
    acknowledged: bool
    interrupted: int = 0


@dataclass
class _Try:
    """`begun`: a worker may have begun. `arrived`: one has had all files."""

    sent: Sent
    options: Options
    progress: Progress
    ready: Ready
    begun: bool = False
    arrived: bool = False
    failures: list[Failure] = field(default_factory=list)

    @property
    def directory(self) -> SandboxDir:
        return self.sent.handle.directory

    def run(self, output: Callable[[int, bytes], None]) -> _Came:
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

    def _at(self, place: str, output: Callable[[int, bytes], None]) -> _Came:
        for pause in (*AGAIN, None):
            try:
                with hosts.conversation(place, frames.JOB, _log(self.directory)) as talk:
                    interrupted = self._talk(talk, output)
                    answer, home = _home(self.sent.handle, self.sent.prepared.record, self.sent.job.nonce, talk)
                return _Came(place, answer, home, _acknowledged(talk, home), interrupted)
            except LostError as error:
                if not self.begun or pause is None:
                    raise self._away(place, error) if self.begun else error from error
                self.progress(f"{error.message}: once more in {pause:g} s")
                time.sleep(pause)
            except SandboxError as error:
                if self.begun:
                    error.hint = self._hint(place)
                raise
        raise AssertionError  # the last attempt returns or raises

    def _talk(self, talk: Conversation, output: Callable[[int, bytes], None]) -> int:
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

    def give(self, place: str, writer: Writer, digests: Collection[str] | None) -> None:
        """The files. Noted before, for the worker may begin with the last of them; `ready` when it has them all."""
        if not self.begun:
            self.sent.note(place)
            self.begun = True
        self.sent.packed.files(writer, digests)
        if not self.arrived:
            self.arrived = True
            self.ready(self.sent.handle.id)

    def _away(self, place: str, error: SandboxError) -> SessionError:
        return SessionError(
            f"sandbox `{self.sent.handle.id}` is away: {error.message}", cause=error.cause, hint=self._hint(place)
        )

    def _hint(self, place: str) -> str:
        name = self.sent.handle.id
        return f"its job may go on at {place}: `sandbox recover --on {place} {name}` brings its work home"


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
        came = _Try(sent, options, progress, ready).run(output)
        return _finished(sent.handle, sent.prepared.record, came, progress, remove=True, warnings=sent.warnings)


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


def _finished(
    handle: SandboxHandle,
    record: Record,
    came: _Came,
    progress: Progress,
    *,
    remove: bool,
    warnings: tuple[str, ...] = (),
) -> Finished:
    """Ask for what no result has, and see to it that the worker lets go of the job. As long as that is not known, the
    sandbox here says where it is.
    """
    home = _rest(handle, record, came, progress)
    let_go = came.acknowledged or (
        dispatch.whole(home) and _delivered(came.place, came.answer.nonce, _log(handle.directory))
    )
    if dispatch.whole(home) and not let_go:
        way = f"`sandbox recover --on {came.place} {handle.id}`"
        warnings = (*warnings, f"{came.place} may still have a copy: it does not answer any more; {way} clears it")
    record, kept = dispatch.settled(handle, record, came.answer, home, remove=remove, let_go=let_go)
    return dispatch.finished(
        handle, record, came.answer, home, kept=kept, warnings=warnings, interrupted=came.interrupted
    )


def _acknowledged(talk: Conversation, home: Home) -> bool:
    """Whether the worker ended well after `_home`: a connection that broke may have lost our last word."""
    return dispatch.whole(home) and talk.status == 0


def _delivered(place: str, nonce: str, log: Path) -> bool:
    """Say that nothing of a job is missing here; whether the worker has heard that, or has no such job any more."""
    try:
        with hosts.conversation(place, frames.ASK, log) as talk:
            talk.send(frames.QUESTION, jsontext.encode(Question("delivered", nonce)))
    except SandboxError:
        return False
    return talk.status in (0, StateError.exit_code)


def _rest(handle: SandboxHandle, record: Record, came: _Came, progress: Progress) -> Home:
    """What no result has (content of Git LFS files, repositories inside), by a rescue machine over there that has the
    disk. What does not come either stays there, named.
    """
    place, answer, home = came.place, came.answer, came.home
    if dispatch.whole(home) or not (home.nested.missing or home.lfs.missing):
        return home
    progress(f"Asking {place} for the rest")
    try:
        with (
            hosts.conversation(place, frames.ASK, _log(handle.directory)) as talk,
            hosts.rescue(talk, answer.nonce, Hearing(progress)) as channel,
        ):
            brought = imported.from_channel(handle, record, channel, progress)
    except SandboxError as error:
        progress(f"{error.message}: {error.cause}" if error.cause else error.message)
        return home
    return dataclasses.replace(brought, changed=True, rescued=home.rescued, reason=home.reason)


def _home(handle: SandboxHandle, record: Record, nonce: str, talk: Conversation) -> tuple[Answer, Home]:
    """Import what was kept; the worker hears that we have it when nothing of it is missing."""
    with handle.directory.result.open("rb") as source:
        answer, home = dispatch.took(handle, record, nonce, source, Hearing())
    retrieve.note(handle, record, answer.exit_code, home)
    handle.directory.result.unlink()
    if dispatch.whole(home):
        talk.send(frames.ACKNOWLEDGE)
    return answer, home


def _log(directory: SandboxDir) -> Path:
    return directory.vmm_log


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
        with hosts.conversation(place, frames.ASK, _log(handle.directory)) as talk:
            hosts.fetch(talk, known.nonce, handle.directory.result, hearing)
            answer, home = _home(handle, record, known.nonce, talk)
        came = _Came(place, answer, home, _acknowledged(talk, home))
        return _finished(handle, record, came, hearing.progress, remove=False)
