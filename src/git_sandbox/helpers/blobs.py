"""The content of an OCI layer's blob: unpacked as a stream, counted and hashed, with limits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from io import FileIO

PIECE = 1 << 20  # bytes read at once
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"LZIP": "lzip"}
SUSPICIOUS = 1 << 30  # bytes; below, a layer of zeros is nobody's attack
MOST_RATIO = 250  # bytes from one packed byte, beyond that
ZSTD_MEMORY = "128MB"  # for its window


class BlobError(ValueError):
    """What is wrong with a blob, in words."""


def check(blob: FileIO, digest: str, size: int) -> None:
    """Whether it is what the manifest says. Raises BlobError."""
    real = os.fstat(blob.fileno()).st_size
    if real != size:
        raise BlobError(f"it has {real} bytes, its manifest says {size}")
    if f"sha256:{hashlib.file_digest(blob, 'sha256').hexdigest()}" != digest:
        raise BlobError("its content does not match its digest")
    blob.seek(0)


class Unpacked:
    """Reads like a file. `digest`: of what was read so far. Raises BlobError for more than `most` bytes."""

    def __init__(self, blob: FileIO, most: int) -> None:
        self._packed = os.fstat(blob.fileno()).st_size
        self._most = most
        self._pieces = _unpacked(blob)
        self._piece = b""
        self._at = 0
        self._count = 0
        self._hash = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        if self._at >= len(self._piece):
            self._piece, self._at = next(self._pieces, b""), 0
            self._counted(self._piece)
        piece = self._piece[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def finish(self) -> str:
        """Read to the end, and say the digest of all of it."""
        self._at = len(self._piece)
        while self.read(PIECE):
            pass
        return f"sha256:{self._hash.hexdigest()}"

    def _counted(self, piece: bytes) -> None:
        self._hash.update(piece)
        self._count += len(piece)
        if self._count > self._most:
            raise BlobError(f"it unpacks to more than {self._most >> 20} MiB")
        if self._count > SUSPICIOUS and self._count > MOST_RATIO * self._packed:
            raise BlobError(f"it unpacks to more than {MOST_RATIO} times its size")


def _unpacked(blob: FileIO) -> Iterator[bytes]:
    """By what the content begins with: media types do not always say how it is packed."""
    start = blob.read(6)
    blob.seek(0)
    for magic, name in OTHERS.items():
        if start.startswith(magic):
            raise BlobError(f"it is compressed with {name}; only gzip and zstd are supported")
    if start.startswith(GZIP):
        return _gunzipped(blob)
    if start.startswith(ZSTD):
        return _by_program(blob, ["zstd", "-dcq", f"--memory={ZSTD_MEMORY}"])
    return _pieces(blob.read)


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(PIECE):
        yield piece


def _gunzipped(blob: FileIO) -> Iterator[bytes]:
    """Of all members (RFC 1952), with zeros after them, as gzip(1). Raises BlobError."""
    member = zlib.decompressobj(31)
    try:
        for packed in _pieces(blob.read):
            left = packed
            while left:
                if member.eof:
                    left = left.lstrip(b"\0")
                    if not left:
                        break
                    member = zlib.decompressobj(31)
                if piece := member.decompress(left, PIECE):
                    yield piece
                left = member.unused_data if member.eof else member.unconsumed_tail
        if not member.eof and (piece := member.flush()):
            yield piece
    except zlib.error as error:
        raise BlobError("the gzip data is damaged") from error
    if not member.eof:
        raise BlobError("the gzip data is truncated")


def _by_program(blob: FileIO, argv: list[str]) -> Iterator[bytes]:
    """Raises BlobError; it runs without what fakeroot puts into every program."""
    reading, writing = os.pipe()
    try:
        environ = {"PATH": os.environ.get("PATH", os.defpath)}
        actions = [(os.POSIX_SPAWN_DUP2, blob.fileno(), 0), (os.POSIX_SPAWN_DUP2, writing, 1)]
        child = os.posix_spawnp(argv[0], argv, environ, file_actions=actions)
    except OSError as error:
        os.close(reading)
        raise BlobError(f"it needs {argv[0]}, which is not installed") from error
    finally:
        os.close(writing)
    status = None
    try:
        while piece := os.read(reading, PIECE):
            yield piece
        _, status = os.waitpid(child, 0)
    finally:
        os.close(reading)
        if status is None:  # nobody wants the rest
            with contextlib.suppress(OSError):
                os.waitpid(child, 0)
    if status:
        raise BlobError(f"the {argv[0]} data is damaged")
