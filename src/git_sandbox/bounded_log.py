"""Log files of bounded size, for programs that a guest can make print without end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from git_sandbox import files

LAST_WORDS = 5.0  # seconds for who still holds the other end of a pipe


def keep(stream: IO[bytes], path: Path, limit: int) -> None:
    """Write `stream` to `path`, its beginning and its end, never more than about `limit` bytes.

    Always reads to the end, also when the disk is full: a program whose output nobody reads stops.
    """
    half = limit // 2
    written, seen, tail = 0, 0, b""
    with open(path, "wb", buffering=0, opener=files.private) as kept:
        while chunk := os.read(stream.fileno(), 65536):
            seen += len(chunk)
            head = chunk[: max(0, half - written)]
            if head:
                with contextlib.suppress(OSError):
                    kept.write(head)
                written += len(head)
            tail = (tail + chunk[len(head) :])[-half:]
        with contextlib.suppress(OSError):
            kept.write((b"\n[... output left out ...]\n" if seen > written + len(tail) else b"") + tail)


@contextlib.contextmanager
def log(path: Path, limit: int, name: Path | None = None) -> Iterator[IO[bytes]]:
    """A file for the complaints of children that a guest can make complain without end; see `keep`.

    `name`: path of a FIFO that leads there, too, for a child that inherits nothing.
    """
    reading, writing = _fifo(name) if name else os.pipe()
    with os.fdopen(reading, "rb", 0) as source:
        reader = threading.Thread(target=keep, args=(source, path, limit), daemon=True)
        reader.start()
        try:
            with os.fdopen(writing, "wb", 0) as target:
                yield target
        finally:
            reader.join(LAST_WORDS)  # its end comes when the last child that inherited the pipe has ended


def _fifo(name: Path) -> tuple[int, int]:
    """Both ends of a new one; opening it for reading alone would wait for somebody who writes."""
    os.mkfifo(name, 0o600)
    reading = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    return reading, os.open(name, os.O_WRONLY)
