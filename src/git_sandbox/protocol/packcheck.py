"""Whether every object of a pack can be read (gitformat-pack(5)), while the pack passes by.

For those that cannot have git read it: a worker has none of the objects that a thin pack is based on, and unpacks
nothing of a job. git copies an object from pack to pack as it is compressed, so damage on a guest's disk comes along;
zlib's checksum shows it.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable, Iterator

from git_sandbox.errors import DamagedError

_HEADER = 12  # bytes: "PACK", version, number of objects
_OFFSET_DELTA, _NAME_DELTA = 6, 7
_TYPES = (1, 2, 3, 4, _OFFSET_DELTA, _NAME_DELTA)  # commit, tree, blob, tag, and deltas
_OIDS = {"sha1": 20, "sha256": 32}  # bytes of an object's name
_SIZE = 10  # bytes that a size has at most
_PIECE = 4096  # bytes given to zlib at once: what it does not need is copied
_INFLATED = 1 << 20  # bytes taken from zlib at once
MOST = 16 << 30  # bytes of content that are looked at; a small pack can claim to be very much more

Steps = Generator[None, bytes, None]


def checked(chunks: Iterable[bytes], object_format: str) -> Iterator[bytes]:
    """`chunks`, as they are. Raises DamagedError at the end of them when an object cannot be read."""
    steps = _Reader(_OIDS[object_format]).objects()
    next(steps)
    reading, begun, why = True, False, ""
    for chunk in chunks:
        begun = begun or bool(chunk)
        if reading:
            try:
                steps.send(chunk)
            except StopIteration:
                reading = False
            except (ValueError, zlib.error) as error:
                reading, why = False, str(error)
        yield chunk
    if reading and begun:
        why = "the pack ends early"
    if why:  # not before: what is asked next comes behind the pack
        raise DamagedError("an object in the pack cannot be read", cause=why)


class _Reader:
    """Of a pack that comes piece by piece. `oid`: bytes of an object's name."""

    def __init__(self, oid: int) -> None:
        self._oid = oid
        self._data, self._at = b"", 0
        self._left = MOST

    def objects(self) -> Steps:
        """Ends behind the last object, or beyond MOST. Raises ValueError, zlib.error."""
        header = yield from self._take(_HEADER)
        if header[:4] != b"PACK":
            raise ValueError("it is no pack")
        for _ in range(int.from_bytes(header[8:], "big")):
            kind, size = yield from self._head()
            if kind == _NAME_DELTA:
                yield from self._take(self._oid)
            elif kind == _OFFSET_DELTA:
                yield from self._number()
            elif kind not in _TYPES:
                raise ValueError("an object has no type")
            self._left -= size
            if self._left < 0:
                return
            yield from self._content(size)

    def _take(self, count: int) -> Generator[None, bytes, bytes]:
        taken = b""
        while len(taken) < count:
            piece = self._data[self._at : self._at + count - len(taken)]
            if not piece:
                self._data, self._at = (yield), 0
            taken += piece
            self._at += len(piece)
        return taken

    def _number(self) -> Generator[None, bytes, bytes]:
        """The bytes of a number: all but the last have their highest bit set."""
        number = yield from self._take(1)
        while number[-1] & 128:
            if len(number) == _SIZE:
                raise ValueError("a number has no end")
            number += yield from self._take(1)
        return number

    def _head(self) -> Generator[None, bytes, tuple[int, int]]:
        """Type and size of an object."""
        number = yield from self._number()
        size = number[0] & 15
        for place, byte in enumerate(number[1:]):
            size |= (byte & 127) << 4 + 7 * place
        return number[0] >> 4 & 7, size

    def _content(self, size: int) -> Steps:
        inflate = zlib.decompressobj()
        while not inflate.eof:
            if self._at >= len(self._data):
                self._data, self._at = (yield), 0
            piece = self._data[self._at : self._at + _PIECE]
            self._at += len(piece)
            while piece and not inflate.eof and size >= 0:
                size -= len(inflate.decompress(piece, _INFLATED))
                piece = inflate.unconsumed_tail
            if size < 0:
                break
        self._at -= len(inflate.unused_data)
        if size:
            raise ValueError("an object has another size")
