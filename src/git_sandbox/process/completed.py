"""Programs that are waited for, with limits on their time and output."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from typing import IO, TYPE_CHECKING

import msgspec

from git_sandbox.errors import SandboxError
from git_sandbox.process.bounds import NO_LIMITS, Limits, environment
from git_sandbox.process.child import PIECE, PIPE, STOP_GRACE, kill_group, spawn, wait_for
from git_sandbox.process.starting import resolve, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

ASKED = 120.0  # seconds for a program asked for its version, or whether something works: much, on a busy host


WATCHED_EVERY = 0.2  # seconds


NUDGED_EVERY = 0.5  # seconds


NUDGED_AGAIN = 0.02  # seconds


STDERR_LIMIT = 64 * 1024  # bytes of a child's complaints worth keeping


class Completed(msgspec.Struct, frozen=True):
    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def complaint(self) -> str:
        """The end of standard error, for error messages. Not sanitised: see `text.printable`."""
        return self.stderr[-STDERR_LIMIT:].decode("utf-8", "replace").strip()


class FloodError(SandboxError):
    """A program said more than it may."""


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    feed: Iterable[bytes] | None = None,
    timeout: float | None = None,
    limits: Limits = NO_LIMITS,
    output: int | None = None,
    watch: Callable[[], None] | None = None,
    to: IO[bytes] | None = None,
    meter: Callable[[int], None] | None = None,
    nudge: Callable[[int], object] | None = None,
    reads: bool = False,
) -> Completed:
    """Run a program to its end and return what it said, whatever its exit status.

    `reads`: before it does anything of note it reads its standard input. Then it needs no prlimit(1) before it: its
    limits hold before it gets any.

    `meter` hears now and then, from another thread, how many bytes it has written so far; `nudge` its process id, and
    after a true answer soon again.
    `to`: a file for standard output, which is not kept in memory then (not with `feed` or `output`).
    `output`: bytes of either kind of output, for a program that a guest can make say more. With more it is killed, and
    SandboxError raised.
    `watch` is called again and again while it runs (with `feed` or `output` only); what it raises does the same.
    `feed` streams standard input from an iterator; an exception raised by it kills the child and propagates.
    `timeout` (seconds) kills the child's whole process group and raises SandboxError.
    """
    reads = reads and bool(input)
    full = resolve(argv) if reads else resolve(limits.wrap(resolve(argv)))
    with (
        start(
            full,
            cwd=cwd,
            env=environment() if env is None else dict(env),
            stdin=subprocess.DEVNULL if feed is None and input is None and output is None else subprocess.PIPE,
            stdout=subprocess.PIPE if to is None else to,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as child,
        _watched(child.pid, None if meter is None else _meter(meter), WATCHED_EVERY),
        _watched(child.pid, nudge, NUDGED_EVERY),
    ):
        try:
            if reads:
                limits.impose(child.pid)
            if feed is None and output is None:
                stdout, stderr = child.communicate(input, timeout)
            else:
                given = ([input] if input else []) if feed is None else feed
                stdout, stderr = _communicate(child, given, timeout, output, watch)
        except subprocess.TimeoutExpired:
            kill_group(child.pid)
            raise SandboxError(f"`{argv[0]}` timed out after {timeout:g} s") from None
        except BaseException:
            kill_group(child.pid)
            raise
    return Completed(tuple(argv), child.returncode, stdout or b"", stderr)


def _meter(meter: Callable[[int], None]) -> Callable[[int], object]:
    """Tell `meter` what the kernel counts of a child (proc(5), `io`): blocks that are shared and not copied are not."""

    def read(pid: int) -> None:
        with contextlib.suppress(OSError, StopIteration, ValueError), open(f"/proc/{pid}/io") as rows:  # noqa: PTH123 - often
            meter(int(next(row for row in rows if row.startswith("wchar:")).split()[1]))

    return read


@contextlib.contextmanager
def _watched(pid: int, look: Callable[[int], object] | None, every: float) -> Iterator[None]:
    """Call `look` every so many seconds from another thread, and soon again where it answers with something true."""
    if look is None:
        yield
        return
    done = threading.Event()

    def repeat() -> None:
        pause = every
        while not done.wait(pause):
            pause = NUDGED_AGAIN if look(pid) else every

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def foreground(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], input: bytes, timeout: float) -> Completed:
    """Run a program that may ask something on our terminal: it stays in our session, and Ctrl-C reaches it, too.

    `timeout` (seconds) kills it and raises SandboxError.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(resolve(argv), cwd=cwd, env=dict(env), **pipes) as child:
        try:
            stdout, stderr = child.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            raise SandboxError(f"`{argv[0]}` timed out after {timeout:g} s") from None
        except BaseException:
            child.kill()
            raise
    return Completed(tuple(argv), child.returncode, stdout, stderr)


def _read(stream: IO[bytes], most: int) -> bytes:
    """In pieces: `read` takes memory for `most` bytes at once, however few come."""
    pieces, left = [], most
    while left > 0 and (piece := stream.read(min(left, PIECE))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


class _Readers:
    """Reads both outputs of a child beside it, so that neither can make it wait; at most `most` bytes of each."""

    def __init__(self, child: subprocess.Popen[bytes], most: int | None) -> None:
        assert child.stdout is not None  # noqa: S101 - for the type checker: both are PIPE
        assert child.stderr is not None  # noqa: S101
        self._pid, self._most = child.pid, most
        self._kept: dict[str, bytes] = {}
        self._flooded = threading.Event()
        self._threads = [
            threading.Thread(target=self._drain, args=(name, stream), daemon=True)
            for name, stream in (("out", child.stdout), ("err", child.stderr))
        ]
        for thread in self._threads:
            thread.start()

    def _drain(self, name: str, stream: IO[bytes]) -> None:
        self._kept[name] = stream.read() if self._most is None else _read(stream, self._most)
        if self._most is not None and stream.read(1):
            self._flooded.set()
            kill_group(self._pid)

    def join(self, patience: float | None) -> None:
        """Wait for the end of both outputs, `patience` seconds for each: ssh's master may hold one open."""
        for thread in self._threads:
            thread.join(patience)

    def finish(self) -> tuple[bytes, bytes]:
        """Both outputs of a child that has ended. Raises SandboxError when it said too much."""
        self.join(STOP_GRACE if self._flooded.is_set() else None)
        if self._flooded.is_set():
            raise FloodError(f"a program was killed: it printed more than {self._most} bytes")
        return self._kept["out"], self._kept["err"]


def _communicate(
    child: subprocess.Popen[bytes],
    feed: Iterable[bytes],
    timeout: float | None,
    most: int | None,
    watch: Callable[[], None] | None,
) -> tuple[bytes, bytes]:
    readers = _Readers(child, most)
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        kill_group(child.pid)

    assert child.stdin is not None  # noqa: S101 - for the type checker: feed implies PIPE
    watchdog = threading.Timer(timeout, expire) if timeout else None
    if watchdog:
        watchdog.start()
    try:
        _feed(child.stdin, feed)
        while watch is not None and wait_for(child, WATCHED_EVERY) is None:
            watch()
        child.wait()
    except BaseException:
        kill_group(child.pid)  # before the pipe closes: the child must not take a broken feed for a finished one
        readers.join(STOP_GRACE)  # else their pipes would be closed under them
        raise
    finally:
        if watchdog:
            watchdog.cancel()
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    outputs = readers.finish()
    if expired.is_set():
        raise subprocess.TimeoutExpired(child.args, timeout or 0)
    return outputs


def _feed(stdin: IO[bytes], feed: Iterable[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the child has seen enough; its exit status says why
        for chunk in feed:
            stdin.write(chunk)
            stdin.flush()  # else a dead child goes unnoticed until a trickle of chunks has filled the buffer
        stdin.close()


def beginning(
    argv: Sequence[str], most: int, *, cwd: Path, env: Mapping[str, str], limits: Limits = NO_LIMITS
) -> tuple[Completed, bool]:
    """The first `most` bytes of what a program prints, and whether that is all; else it was stopped."""
    import tempfile  # late: `sandbox ls` does without

    with (
        tempfile.TemporaryFile() as complaints,
        spawn(limits.wrap(argv), cwd=cwd, env=env, stdout=PIPE, stderr=complaints) as child,
    ):
        output = _read(child.stdout, most)
        more = bool(child.stdout.read(1))
        status = 0 if more else child.wait() or 0
        size = complaints.seek(0, os.SEEK_END)
        complaints.seek(max(0, size - STDERR_LIMIT))
        return Completed(tuple(argv), status, output, complaints.read()), not more
