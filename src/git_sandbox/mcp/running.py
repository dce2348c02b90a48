"""A verb of the command line in a process of its own: with an output limit, progress, a deadline, and an end when the
agent stops waiting.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from git_sandbox import process, settings
from git_sandbox.later import dataclass, field
from git_sandbox.process import Child
from git_sandbox.text import one_line

MOST_JSON = 48 << 20  # bytes of the object that a verb prints
MOST_SAID = 64 << 10  # bytes of what a command says that are kept, half of them from its end
GRACE = 3600.0  # seconds for a verb that is asked to end: the work of a sandbox comes home first
LATE = 5.0  # seconds for the last of its output
EVERY = 0.1  # seconds
_PIECE = 64 << 10  # bytes
_NOTHING_MOVES = {"SANDBOX_ON_EXIT": "keep", "SANDBOX_DIRTY": "keep"}  # at the end of any session, whatever is set


@dataclass
class Work:
    """One call that is being done. `stop` is set when nobody waits for it any more; `say` hears of progress."""

    stop: threading.Event = field(default_factory=threading.Event)
    say: Callable[[str], None] = lambda _text: None


@dataclass(frozen=True)
class Ran:
    """`stdout`: at most the limit; `whole`: it is all. `messages`: standard error, with a mark where it is cut."""

    code: int
    stdout: bytes
    whole: bool
    messages: bytes
    timed_out: bool = False


class Ends:
    """Reads a pipe to its end beside its writer, and keeps the first and the last of it, `most` bytes in all."""

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._head, self._tail, self._left_out = bytearray(), bytearray(), 0
        reading, self.descriptor = os.pipe()
        self._thread = threading.Thread(target=self._read, args=(os.fdopen(reading, "rb", 0),), daemon=True)
        self._thread.start()

    def _read(self, source: IO[bytes]) -> None:
        with source:
            while piece := source.read(_PIECE):
                room = self._half - len(self._head)
                self._head += piece[:room]
                self._tail += piece[room:]
                if len(self._tail) > self._half:
                    self._left_out += len(self._tail) - self._half
                    del self._tail[: -self._half]

    def close(self) -> None:
        """Nothing comes from us; something else may still have the other end."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def content(self) -> tuple[bytes, bool]:
        """What was kept, and whether that is all."""
        self.close()
        self._thread.join(LATE)
        gap = f"\n… {self._left_out} bytes are left out …\n".encode() if self._left_out else b""
        return bytes(self._head) + gap + bytes(self._tail), not self._left_out


def argv(words: Sequence[str]) -> list[str]:
    # -P: it stands in a repository, and a module in there must not be taken for one of ours.
    return [sys.executable, "-P", "-m", "git_sandbox", *words]


def run(
    words: Sequence[str], place: Path, work: Work, *, timeout: float, input: bytes = b"", most: int = MOST_JSON
) -> Ran:
    """Run `sandbox WORDS` in a directory. `timeout`: seconds until it is asked to end; `most`: bytes of its output.

    For any thread that waits here until it has ended.
    """
    with tempfile.TemporaryFile(prefix="git-sandbox-") as stdin, contextlib.ExitStack() as stack:
        stdin.write(input)
        stdin.seek(0)
        out, messages = Ends(2 * most), Ends(MOST_SAID)
        progress = _Progress(work.say)
        for reader in (out, messages, progress):
            stack.callback(reader.close)
        env = {**settings.environment(), **_NOTHING_MOVES, settings.PROGRESS: str(progress.descriptor)}
        child = stack.enter_context(
            process.spawn(
                argv(words),
                cwd=place,
                env=env,
                stdin=stdin,
                stdout=out.descriptor,
                stderr=messages.descriptor,
                pass_fds=[progress.descriptor],
                tidies=True,
            )
        )
        for reader in (out, messages, progress):
            reader.close()
        timed_out = _wait(child, work.stop, time.monotonic() + timeout)
        output, _ = out.content()
        return Ran(child.wait() or 0, output[:most], len(output) <= most, messages.content()[0], timed_out)


def _wait(child: Child, stop: threading.Event, deadline: float) -> bool:
    """Until it has ended; whether that took longer than it may. It alone is asked to end: it knows what to do first."""
    while child.wait(EVERY) is None:
        late = time.monotonic() > deadline
        if late or stop.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGTERM)
            child.wait(GRACE)
            return late
    return False


class _Progress:
    """Hands on what a verb says of its progress, a line at a time, until it ends."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        reading, self.descriptor = os.pipe()
        threading.Thread(target=self._read, args=(os.fdopen(reading, "rb"),), daemon=True).start()

    def _read(self, source: IO[bytes]) -> None:
        with source:
            while line := source.readline(_PIECE):
                if text := one_line(line):
                    self._say(text)

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
