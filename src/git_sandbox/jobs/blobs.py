"""Files that a job needs (disks, images), named by their content: only blocks that are not zero, in order.

The digest is of exactly that, so it does not depend on the holes a file system made, and a sparse disk of sixteen
gigabytes costs what is in it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from git_sandbox import files
from git_sandbox.free_space import SMALL, require
from git_sandbox.jobs import frames
from git_sandbox.jobs.frames import Reader, Writer, broken

BLOCK = 64 << 10  # bytes
MAX_SIZE = 1 << 42  # bytes of a file, holes included
_AT = struct.Struct(">Q")
_ZERO = bytes(BLOCK)

Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Blob(msgspec.Struct, frozen=True):
    """`size`: bytes of the file, holes included."""

    digest: Digest
    size: Annotated[int, Meta(ge=0, le=MAX_SIZE)]


Piece = tuple[int, bytes]  # number of a block, and what is in it


def of_file(path: Path) -> Blob:
    """Raises OSError."""
    size = path.stat().st_size
    return Blob(_digest(size, pieces(path)), size)


def pieces(path: Path) -> Iterator[Piece]:
    """The blocks of a file that are not all zero, in order. Raises OSError."""
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            start = _data(file.fileno(), at)
            if start is None:
                return
            at = max(at, start - start % BLOCK)
            file.seek(at)
            data = file.read(min(BLOCK, size - at))
            if data.strip(b"\0"):
                yield at // BLOCK, data
            at += BLOCK


def _data(descriptor: int, at: int) -> int | None:
    """Where data begins, from `at` on; None where only a hole is left."""
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError:
        return None


def of_chunks(chunks: Iterable[bytes], size: int, path: Path) -> Blob:
    """Write `chunks` to a new file and name it."""
    with files.opened(path, "wb") as out:
        for chunk in chunks:
            out.write(chunk)
        out.truncate(size)
    return of_file(path)


def _digest(size: int, pieces: Iterable[Piece]) -> str:
    total = _begun(size)
    for number, data in pieces:
        total.update(_AT.pack(number))
        total.update(data)
    return total.hexdigest()


def _begun(size: int) -> hashlib._Hash:
    return hashlib.sha256(b"git-sandbox blob\n" + _AT.pack(size))


def send(writer: Writer, blob: Blob, path: Path) -> None:
    writer.put(frames.BLOB, msgspec.json.encode(blob))
    for number, data in pieces(path):
        writer.put(frames.BLOCK, _AT.pack(number) + data)


def receive(reader: Reader, blob: Blob, target: Path | None) -> None:
    """What follows the announcement of `blob`, as a new file; `target` None: it is read over.

    Raises CollectError for what is not that content (there is no file then), HostResourceError for a full disk.
    """
    if target is None:
        for _ in _arriving(reader, blob):
            pass
        return
    try:
        with files.opened(target, "wb") as out:
            room = 0
            for number, data in _arriving(reader, blob):
                room -= len(data)
                if room < 0:
                    require(0, target.parent)
                    room = SMALL
                out.seek(number * BLOCK)
                out.write(data)
            out.truncate(blob.size)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _arriving(reader: Reader, blob: Blob) -> Iterator[Piece]:
    """Checked as it comes: each block has one form and one place, so a digest has one stream."""
    total, last = _begun(blob.size), -1
    while (frame := reader.next()) is not None:
        if frame.kind != frames.BLOCK:
            reader.back(frame)
            break
        number, data = _piece(frame.data)
        if number <= last or len(data) != min(BLOCK, blob.size - number * BLOCK) or not data.strip(b"\0"):
            raise broken("a block of a file is at the wrong position")
        total.update(frame.data)
        last = number
        yield number, data
    if total.hexdigest() != blob.digest:
        raise broken("a file does not match its digest")


def _piece(data: bytes) -> Piece:
    if len(data) <= _AT.size:
        raise broken("a block of a file is empty")
    return _AT.unpack_from(data)[0], data[_AT.size :]


def announced(data: bytes) -> Blob:
    """Which file comes next. Raises CollectError."""
    try:
        return msgspec.json.decode(data, type=Blob)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise broken(f"the name of a file: {error}") from None
