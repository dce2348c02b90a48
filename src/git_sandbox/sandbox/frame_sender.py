"""The two streams of a worker while it works: it continues when no one is connected any more."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

from git_sandbox import files
from git_sandbox.errors import SandboxError
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Reader, Writer, broken

OUTPUT_LIMIT = 16 << 20  # bytes of a command's output that its result has
PIECE = 64 << 10
_LEFT_OUT = b"\x02\n[... output left out ...]\n"


class FrameSender:
    """Frames for whoever gave us the job; several threads may speak. `heard`: whether that one still listens."""

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._writer = Writer(out, None)
        self.heard = True
        self._do(lambda: self._out.write(frames.RESULT))

    def _do(self, step: Callable[[], object]) -> None:
        with self._lock:
            if self.heard:
                try:
                    step()
                    self._out.flush()
                except (OSError, ValueError):  # gone, or closed
                    self.heard = False

    def say(self, kind: bytes, data: bytes = b"") -> None:
        """A frame of the moment."""
        self._do(lambda: self._writer.put(kind, data))

    def progress(self, text: str) -> None:
        if text:
            self.say(frames.PROGRESS, text.encode("utf-8", "replace")[: frames.MAX_FRAME])

    def give(self, result: Path, *, output: bool) -> None:
        """The result that is in a file; `output`: with what the command printed, which nobody has heard. Raises
        CollectError where the file is damaged: nobody gets a whole stream then.
        """
        self._do(lambda: self._give(result, output=output))

    def _give(self, result: Path, *, output: bool) -> None:
        with result.open("rb") as file:
            reader = Reader(file, frames.RESULT)
            while (frame := reader.next()) is not None:
                if output or frame.kind != frames.OUTPUT:
                    self._writer.put(frame.kind, frame.data)
            if not reader.whole:
                raise broken("it was truncated")
            self._writer.end()

    def join(self, source: IO[bytes], channel: socket.socket) -> None:
        """No frames any more: `source` to `channel` and back, until either ends."""
        channel.settimeout(None)

        def there() -> None:
            with contextlib.suppress(OSError, ValueError):
                while data := source.read1(PIECE):  # type: ignore[attr-defined]
                    channel.sendall(data)
            with contextlib.suppress(OSError):
                channel.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=there, daemon=True).start()
        with contextlib.suppress(OSError, ValueError):
            while data := channel.recv(PIECE):
                self._out.write(data)
                self._out.flush()

    def kept(self) -> bool:
        """Whether all of it is in a file, safe from a loss of power: nobody else will say that he has it."""
        with contextlib.suppress(OSError, ValueError):
            os.fsync(self._out.fileno())  # which no pipe and no socket knows
            return self.heard
        return False


class Ears:
    """What whoever gave us the job says while we work on it: that it shall stop (we get SIGTERM), that he has the
    result. `acknowledged` is set then, `ended` at the end of what he says.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.acknowledged = False
        self.ended = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(SandboxError, OSError, ValueError):
            reader = Reader(self._source, None)
            while (frame := reader.next()) is not None:
                if frame.kind == frames.STOP:
                    os.kill(os.getpid(), signal.SIGTERM)
                elif frame.kind == frames.ACKNOWLEDGE:
                    self.acknowledged = True
                    break
        self.ended.set()


class Recorder:
    """What a command prints, said as it comes and kept for the result, up to OUTPUT_LIMIT."""

    def __init__(self, sender: FrameSender, target: Path) -> None:
        self._mouth = sender
        self._file = files.opened(target, "wb")
        self._writer = Writer(self._file, None)
        self._room = OUTPUT_LIMIT
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def channel(self, number: int) -> int:
        """A descriptor to write to; the caller closes it."""
        reading, writing = os.pipe()
        thread = threading.Thread(target=self._read, args=(reading, bytes([number])), daemon=True)
        thread.start()
        self._threads.append(thread)
        return writing

    def _read(self, descriptor: int, mark: bytes) -> None:
        with os.fdopen(descriptor, "rb", 0) as pipe:
            while chunk := pipe.read(PIECE):
                self._mouth.say(frames.OUTPUT, mark + chunk)
                with self._lock:
                    self._keep(mark, chunk)

    def _keep(self, mark: bytes, chunk: bytes) -> None:
        kept, before = chunk[: max(0, self._room)], self._room
        self._room -= len(chunk)
        with contextlib.suppress(OSError):  # a full disk: the work comes first
            if kept:
                self._writer.put(frames.OUTPUT, mark + kept)
            if before >= 0 > self._room:
                self._writer.put(frames.OUTPUT, _LEFT_OUT)

    def close(self, patience: float = 5.0) -> None:
        """Wait for the last of it; whoever still holds a descriptor is not waited for."""
        for thread in self._threads:
            thread.join(patience)
        with self._lock, contextlib.suppress(OSError):
            self._file.close()
