"""The output of the machine that builds images: log lines for people, and an archive. A thread reads each with a limit,
because a build may print without end.
"""

from __future__ import annotations

import os
from typing import IO, Self

from git_sandbox import files
from git_sandbox.background import Beside
from git_sandbox.errors import ImageError
from git_sandbox.progress import Progress
from git_sandbox.text import one_line, printable

TAIL = 40  # lines of the builder's output in an error
LINE = 4096  # bytes of one that is shown
CHUNK = 1 << 20  # bytes


class _Pipe:
    """`descriptor`: the end that is written to."""

    buffering = -1

    def __enter__(self) -> Self:
        reading, self.descriptor = os.pipe()
        self._reader = os.fdopen(reading, "rb", self.buffering)
        self._thread = Beside(self._read)
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        self._reader.close()

    def _read(self) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        """Wait until all is read that was written: the last who has the other end has ended."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            self._thread.wait()


class Lines(_Pipe):
    """What the builder says: the last line as progress, the end of it for an error; nothing of it is obeyed."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._kept = progress, list[bytes]()

    def _read(self) -> None:
        while line := self._reader.readline(LINE):
            self._kept = [*self._kept[-TAIL:], line]
            if text := one_line(line, limit=100):
                self._progress(text)

    def tail(self) -> str:
        self._close()
        return printable(b"".join(self._kept[-TAIL:])).strip()


class Archive(_Pipe):
    """The image that was built, to `out`: at most `most` bytes, then who writes finds nobody who reads."""

    buffering = 0

    def __init__(self, out: IO[bytes], most: int) -> None:
        self._out, self._most = out, most

    def _read(self) -> None:
        left = self._most
        with self._reader:
            while data := self._reader.read(min(CHUNK, left + 1)):
                left -= len(data)
                if left < 0:
                    raise ImageError(f"the image that was built has more than {self._most >> 30} GiB")
                self._out.write(data)
            self._out.flush()

    def require_whole(self) -> None:
        """Raises ImageError where there is too much of it, or no room."""
        self._close()
        try:
            self._thread.result()
        except OSError as error:
            raise ImageError("the image that was built cannot be stored", cause=files.why(error)) from error
