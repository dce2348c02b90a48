"""The stream that carries jobs and results: a first line, frames, and a digest at the end (docs/reference/job.md).

The other side may be anything: a file that was cut off, another version, a machine that lies. A reader holds one frame
at a time, and says `whole` only where the digest at the end fits everything that counts before it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import IO

from git_sandbox.errors import CollectError
from git_sandbox.later import dataclass

JOB, ASK, RESULT = b"git-sandbox job 1\n", b"git-sandbox ask 1\n", b"git-sandbox result 1\n"
HEAD, IMAGE, BLOB, BLOCK = b"J", b"I", b"B", b"X"  # of a job
ANSWER, MANIFEST, PACK = b"R", b"M", b"D"  # of a result
HELLO, WANT, PROGRESS, OUTPUT, FAILURE, OPEN = b"H", b"W", b"P", b"O", b"F", b"T"  # of a worker, while it works
QUESTION, STOP, ACKNOWLEDGE = b"Q", b"S", b"A"  # to a worker
END = b"E"
SPOKEN = frozenset(
    {HELLO, WANT, PROGRESS, OUTPUT, FAILURE, OPEN, QUESTION, STOP, ACKNOWLEDGE}
)  # of the moment: no part of the digest
KINDS = frozenset({HEAD, IMAGE, BLOB, BLOCK, ANSWER, MANIFEST, PACK, END}) | SPOKEN
MAX_FRAME = 1 << 20  # bytes of one frame's data
MAX_TEXT = 64 << 20  # bytes of a head or manifest, which come in several frames
MAX_TOTAL = 1 << 44  # bytes of a stream
MAX_FRAMES = 1 << 28
_FRAME = struct.Struct(">cI")
HEAD_SIZE = _FRAME.size  # bytes before a frame's data


@dataclass(frozen=True)
class Frame:
    kind: bytes
    data: bytes


class CutOffError(CollectError):
    """A stream ended in the middle of a frame."""


def broken(why: str, kind: type[CollectError] = CollectError) -> CollectError:
    return kind("the stream of a job or result is damaged", cause=why, hint="nothing of it was used")


class Writer:
    """Writes frames to `out`. Raises OSError as that does."""

    def __init__(self, out: IO[bytes], first: bytes | None) -> None:
        self._out = out
        self._sum = hashlib.sha256()
        if first is not None:
            out.write(first)

    def put(self, kind: bytes, data: bytes = b"") -> None:
        """One frame, at once: nothing waits in a buffer of ours."""
        head = _FRAME.pack(kind, len(data))
        if kind not in SPOKEN:
            self._sum.update(head)
            self._sum.update(data)
        self._out.write(head + data)
        if kind in SPOKEN:
            self._out.flush()

    def text(self, kind: bytes, data: bytes) -> None:
        """Text of any length: full frames, then one that is not full, so that its end is known when it comes."""
        for start in range(0, len(data) + 1, MAX_FRAME):
            self.put(kind, data[start : start + MAX_FRAME])

    def end(self) -> None:
        digest = self._sum.digest()
        self._out.write(_FRAME.pack(END, len(digest)) + digest)
        self._out.flush()


class Reader:
    """Reads frames from `source`, which may say anything. Raises CollectError for what is no stream of ours."""

    def __init__(self, source: IO[bytes], first: bytes | None) -> None:
        self.source = source
        self._sum = hashlib.sha256()
        self._total = self._count = 0
        self._held: Frame | None = None
        self.whole = False
        if first is not None and source.read(len(first)) != first:
            raise broken(f"it does not begin with `{first.decode().strip()}`")

    def next(self) -> Frame | None:
        """The next frame; None at the end of the stream, which is `whole` or was cut off."""
        if self._held is not None:
            frame, self._held = self._held, None
            return frame
        if self.whole or not (head := _exactly(self.source, _FRAME.size)):
            return None
        kind, length = _FRAME.unpack(head)
        self._count += 1
        self._total += length
        if kind not in KINDS or length > MAX_FRAME:
            raise broken(f"there is no frame of kind {kind!r} with {length} bytes")
        if self._total > MAX_TOTAL or self._count > MAX_FRAMES:
            raise broken("it is longer than any job or result")
        data = _exactly(self.source, length)
        if kind == END:
            self._close(data)
            return None
        if kind not in SPOKEN:
            self._sum.update(head)
            self._sum.update(data)
        return Frame(kind, data)

    def _close(self, digest: bytes) -> None:
        if digest != self._sum.digest():
            raise broken("its digest does not match")
        self.whole = True

    def back(self, frame: Frame) -> None:
        """The next `next` returns this one."""
        self._held = frame

    def text(self, kind: bytes, most: int = MAX_TEXT) -> bytes:
        """Text that begins with the next frame; empty where that is of another kind."""
        pieces, left = [], most
        while (frame := self.next()) is not None:
            if frame.kind != kind:
                self.back(frame)
                break
            left -= len(frame.data)
            if left < 0:
                raise broken(f"a text of more than {most} bytes is in it")
            pieces.append(frame.data)
            if len(frame.data) < MAX_FRAME:
                break
        return b"".join(pieces)

    def rest(self, kind: bytes) -> Iterator[bytes]:
        """The data of frames of `kind` to the end of the stream. Raises CollectError unless that is whole."""
        while (frame := self.next()) is not None:
            if frame.kind != kind:
                raise broken(f"a frame of kind {frame.kind!r} is at the wrong position")
            yield frame.data
        if not self.whole:
            raise broken("it was truncated")


def _exactly(source: IO[bytes], count: int) -> bytes:
    """`count` bytes, or none at the end of `source`. Raises CollectError when that comes in between."""
    pieces, left = [], count
    while left and (piece := source.read(min(left, MAX_FRAME))):
        pieces.append(piece)
        left -= len(piece)
    if left and (pieces or left != _FRAME.size):
        raise broken("it was truncated", CutOffError)
    return b"".join(pieces)
