"""Workers on other machines: their names, the connection (the user's own OpenSSH), and their capabilities.

A conversation is one `ssh HOST sandbox worker`: no port, no daemon, nothing that stays. It may break at any moment: the
worker goes on, and whoever comes with the same job again gets its result.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Protocol

from git_sandbox import __version__, bounded_log, files, jsontext, process, signals
from git_sandbox.errors import (
    CollectError,
    HostResourceError,
    Interrupted,
    RequirementError,
    SessionError,
    UsageError,
)
from git_sandbox.jobs import frames, result
from git_sandbox.jobs.frames import CutOffError, Frame, Reader, Writer
from git_sandbox.jobs.job import Nonce
from git_sandbox.jobs.result import Hearing, Hello, Question
from git_sandbox.later import dataclass
from git_sandbox.text import one_line, printable

SSH = "ssh:"
_HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.@:%+\]\[-]{0,254}")
_ADDRESS = re.compile(r"ssh://(?:[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@)?[A-Za-z0-9_\[][A-Za-z0-9_.:%\]-]{0,254}")
# What the other side's login shell is told, whichever it is: a place for a user's programs that ssh's PATH has not.
REMOTE = """exec sh -c 'PATH="$PATH:$HOME/.local/bin" exec sandbox worker'"""
ALIVE = ("ServerAliveInterval=15", "ServerAliveCountMax=4", "BatchMode=yes", "ClearAllForwardings=yes")
LOG = 64 << 10  # bytes of ssh's complaints
PIECE = 64 << 10  # bytes
HELD = 256  # frames read and not yet looked at
LOOKS = 1.0  # seconds
SAYS = 2.0  # seconds for the last words of an ssh that has ended to be in the log
ENDS = 20.0  # seconds for a worker to end that has all it needs
CLOSES = 2.0  # seconds for ssh to end after an error: the network may be gone
ANSWERS = 120.0  # seconds for one to say what it is, from the start of ssh on
OVERHEAD = 64  # MiB of a VMM beside its guest's memory
AGENT = re.compile("SSH_AUTH_SOCK|SSH_AGENT_PID|KRB5CCNAME")


class LostError(SessionError):
    """There is no conversation, or it broke. The worker may go on."""


def host(place: str) -> str:
    """What ssh calls the machine at `place`: `ssh:HOST`, or `ssh://USER@HOST:PORT`. Raises UsageError."""
    if _ADDRESS.fullmatch(place):
        return place
    name = place.removeprefix(SSH)
    if not place.startswith(SSH) or not _HOST.fullmatch(name):
        hint = "use ssh:HOST, as you would type `ssh HOST`, or ssh://USER@HOST:PORT"
        raise UsageError(f"`{one_line(place, limit=60)}` is not the address of a machine", hint=hint)
    return name


def argv(place: str) -> list[str]:
    """The user's ssh with the user's configuration; nobody can type a password there."""
    options = [word for option in ALIVE for word in ("-o", option)]
    return ["ssh", "-T", *options, "--", host(place), REMOTE]


@dataclass
class Conversation:
    """With one worker. `complaint`: what ssh said. `status`: once it is over, that of the worker, or of ssh."""

    place: str
    hello: Hello
    writer: Writer
    stdin: IO[bytes]
    source: Reader
    complaint: Callable[[], str]
    status: int | None = None

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """A frame of the moment; nothing where the worker is gone."""
        with contextlib.suppress(OSError, ValueError):
            self.writer.put(kind, data)

    def lost(self) -> LostError:
        return LostError(f"the connection to {self.place} was lost", cause=self.complaint())


class Load(Protocol):
    """A job to be sent (`jobs.job.Packed`)."""

    def head(self, writer: Writer) -> None: ...

    def files(self, writer: Writer, digests: Collection[str] | None = None) -> None: ...


def conversation(place: str, first: bytes, log: Path) -> AbstractContextManager[Conversation]:
    """`log`: a file for ssh's complaints. Raises LostError where there is no worker, RequirementError for one of
    another version.
    """
    return started(argv(place), place, first, log)


@contextlib.contextmanager
def started(words: Sequence[str], place: str, first: bytes, log: Path) -> Iterator[Conversation]:
    """The same with a worker that the command `words` starts."""
    with bounded_log.log(log, LOG) as complaints, process.spawn(
        words, stdin=process.PIPE, stdout=process.PIPE, stderr=complaints,
        env=process.environment(process.inherited(AGENT)),
    ) as child:  # fmt: skip
        stdin, stdout = child.stdin, child.stdout

        def complaint() -> str:
            child.wait(ENDS)
            end = time.monotonic() + SAYS
            while not (words := _words(log)) and time.monotonic() < end:  # they are written by another thread
                time.sleep(0.02)
            return words

        with child.within(ANSWERS) as late:
            try:
                reader = Reader(stdout, frames.RESULT)
                frame = reader.next()
            except CollectError as error:
                why = f"no answer for {ANSWERS:g} s" if late.is_set() else error.cause
                raise _silent(place, complaint() or why) from None
        if frame is None or frame.kind != frames.HELLO:
            raise _silent(place, complaint())
        hello = result.parsed(frame.data, Hello)
        if hello.program != __version__:
            raise RequirementError(
                f"{place} has git-sandbox {one_line(hello.program, limit=40)}, this host has {__version__}",
                hint="install the same version on both",
            )
        talk = Conversation(place, hello, Writer(stdin, first), stdin, reader, complaint)
        patience = CLOSES
        try:
            yield talk
            patience = ENDS
        finally:
            with contextlib.suppress(OSError):
                stdin.close()
            talk.status = child.wait(patience)


def _words(log: Path) -> str:
    with contextlib.suppress(OSError):
        return printable(files.read(log, LOG)[-2000:]).strip()
    return ""


def _silent(place: str, cause: str) -> LostError:
    name = host(place) if place.startswith(SSH) else ""
    hint = f"`ssh {name} sandbox worker < /dev/null` shows the error; there must be no password prompt" if name else ""
    return LostError(f"no worker answers at {place}", cause=cause, hint=hint)


def ask(place: str, log: Path) -> Hello:
    """What the machine at `place` is. Raises LostError, RequirementError, UsageError."""
    with conversation(place, frames.ASK, log) as talk:
        talk.send(frames.QUESTION, jsontext.encode(Question("hello")))
        return talk.hello


def slots(hello: Hello, cpus: int, memory: int) -> int:
    """How many machines of that size it takes at a time; none where one does not fit. `memory`: MiB."""
    return min(max(1, hello.cpus // max(1, cpus)), hello.memory // (memory + OVERHEAD))


def run(talk: Conversation, packed: Load, target: Path, hearing: Hearing) -> int:
    """Give the job, and keep its result in `target`; the number of a signal that ended it early, or 0. The worker may
    begin when `packed` gives the files. Raises as `keep` does.
    """
    packed.head(talk.writer)
    talk.stdin.flush()
    lacking: frozenset[str] | None = None
    while lacking is None:
        try:
            frame = talk.source.next()
        except CutOffError:
            frame = None
        if frame is None:
            raise talk.lost()
        if frame.kind == frames.WANT:
            lacking = result.lacking(frame.data)
        else:
            result.hear(frame, hearing)
    with contextlib.suppress(BrokenPipeError):  # it reads no more, and says why
        packed.files(talk.writer, lacking)
    return keep(talk, target, hearing)


def fetch(talk: Conversation, nonce: Nonce, target: Path, hearing: Hearing) -> None:
    """The result of a job that the worker has already. Raises LostError, or what the worker says."""
    talk.send(frames.QUESTION, jsontext.encode(Question("result", nonce)))
    keep(talk, target, hearing)


@contextlib.contextmanager
def rescue(talk: Conversation, nonce: Nonce, hearing: Hearing) -> Iterator[socket.socket]:
    """A conversation with a rescue machine over there that has the disk of a job. Raises LostError, or what the worker
    says.
    """
    talk.send(frames.QUESTION, jsontext.encode(Question("rescue", nonce)))
    while (frame := talk.source.next()) is not None and frame.kind != frames.OPEN:
        result.hear(frame, hearing)
    if frame is None:
        raise talk.lost()
    ours, theirs = socket.socketpair()
    threads = [
        threading.Thread(target=_back, args=(talk.source.source, theirs), daemon=True),
        threading.Thread(target=_there, args=(theirs, talk.stdin), daemon=True),
    ]
    for thread in threads:
        thread.start()
    with theirs, ours:
        yield ours


def _back(source: IO[bytes], end: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.read1(PIECE):  # type: ignore[attr-defined]
            end.sendall(data)
        end.shutdown(socket.SHUT_WR)


def _there(end: socket.socket, target: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := end.recv(PIECE):
            target.write(data)
            target.flush()


class _Pump(threading.Thread):
    """Reads beside us: a signal must not come in the middle of a frame. `outcome`: whether the result was whole."""

    def __init__(self, reader: Reader, target: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._reader, self._target = reader, target
        self.said: queue.Queue[Frame] = queue.Queue(HELD)
        self.outcome: bool | BaseException = False
        self.start()

    def run(self) -> None:
        try:
            self.outcome = result.kept(self._reader, self._target, self.said.put)
        except BaseException as error:  # noqa: BLE001 - raised again by who listens
            self.outcome = error

    def frames(self) -> Iterator[Frame]:
        """What is said, to the end of it."""
        while self.is_alive() or not self.said.empty():
            with contextlib.suppress(queue.Empty):
                yield self.said.get(timeout=LOOKS)


def keep(talk: Conversation, target: Path, hearing: Hearing) -> int:
    """Hear the worker to its end, and keep what counts in `target`, durably. The first signal to us makes it stop and
    send what it has; its number, or 0. Raises Interrupted for the second, LostError, CollectError, what the worker
    says, and HostResourceError where this host's disk is full; there is no `target` then.
    """
    interrupted = 0
    with files.opened(target, "wb") as out, contextlib.ExitStack() as undo:
        undo.callback(target.unlink, missing_ok=True)
        pump = _Pump(talk.source, out)
        while True:
            try:
                for frame in pump.frames():
                    result.hear(frame, hearing)
                break
            except Interrupted as caught:
                if interrupted:
                    raise
                interrupted = caught.signum
                signals.listen_again()
                talk.send(frames.STOP)
        _judge(pump.outcome, talk)
        out.flush()
        os.fsync(out.fileno())
        undo.pop_all()
    return interrupted


def _judge(outcome: bool | BaseException, talk: Conversation) -> None:
    if isinstance(outcome, OSError):
        raise HostResourceError("cannot store the result", cause=outcome.strerror or str(outcome)) from outcome
    if isinstance(outcome, BaseException) and not isinstance(outcome, CutOffError):
        raise outcome
    if outcome is not True:
        raise talk.lost()
