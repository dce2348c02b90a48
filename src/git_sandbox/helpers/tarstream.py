"""Reads an untrusted tar archive as a stream: ustar, GNU and pax (pax(1), tar(5)), with a limit on all it keeps.

Python's `tarfile` reads headers of any size into memory and takes a damaged header for the end; this one refuses both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

BLOCK = 512  # bytes
PIECE = 1 << 20  # bytes read at once
MOST_HEADER = 1 << 20  # bytes of an extended header, as in Go's archive/tar
MOST_HEADERS = 8  # extended ones before one entry
FILE, HARDLINK, SYMLINK, DIRECTORY, FIFO, DEVICE = "file", "hard link", "link", "directory", "FIFO", "device"
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"1": HARDLINK, b"2": SYMLINK, b"3": DEVICE, b"4": DEVICE}
_KINDS |= {b"5": DIRECTORY, b"6": FIFO}
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."


class TarError(ValueError):
    """What is wrong with an archive, in words; names in it are escaped."""


class Source(Protocol):
    """What is read from: `read` gives at most that many bytes, and none at the end only."""

    def read(self, size: int, /) -> bytes: ...


@dataclass
class Entry:
    """`link`: where a link leads. `size`: bytes of content, which only a file has. `mtime`: seconds since the epoch."""

    name: bytes
    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    link: bytes = b""
    xattrs: dict[str, bytes] = field(default_factory=dict)


class TarReader:
    """Iterate over the entries; between two steps `content` gives a file's bytes. What is not read is skipped."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = 0  # bytes of content
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        """Raises TarError."""
        while (entry := self._next()) is not None:
            self._left = entry.size
            self._padding = -entry.size % BLOCK
            yield entry
            for _ in self.content():
                pass
            self._exactly(self._padding)

    def content(self) -> Iterator[bytes]:
        """What is left of the content, in pieces. Raises TarError."""
        while self._left:
            piece = self._source.read(min(self._left, PIECE))
            if not piece:
                raise TarError("it is truncated")
            self._left -= len(piece)
            yield piece

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            piece = self._source.read(min(size, PIECE))
            if not piece:
                raise TarError("it is truncated")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _header(self) -> bytes:
        """The next one; nothing at the end, which is a block of zeros or that of the stream."""
        first = self._source.read(BLOCK)
        if not first:
            return b""
        block = first + self._exactly(BLOCK - len(first))
        return block if block.strip(b"\0") else b""

    def _next(self) -> Entry | None:
        pax: dict[bytes, bytes] = {}
        for _ in range(MOST_HEADERS):
            block = self._header()
            if not block:
                if pax:
                    raise TarError("it is truncated")
                return None
            _check(block)
            kind = block[156:157]
            if kind not in b"xgLK":
                return _entry(block, pax)
            size = _number(block[124:136])
            if size > MOST_HEADER:
                raise TarError(f"an extended header has {size} bytes, more than {MOST_HEADER}")
            body = self._exactly(size)
            self._exactly(-size % BLOCK)
            pax |= _extended(kind, body)
        raise TarError(f"an entry has more than {MOST_HEADERS} extended headers")


def _check(block: bytes) -> None:
    """Its checksum: of unsigned bytes, or of signed ones as some old programs write."""
    stored = _number(block[148:156])
    plain = block[:148] + b" " * 8 + block[156:]
    total = sum(plain)
    if stored not in (total, total - 256 * sum(byte > 127 for byte in plain)):  # noqa: PLR2004 - signed char
        raise TarError("a header is damaged")


def _extended(kind: bytes, body: bytes) -> dict[bytes, bytes]:
    """What an extended header says of the next entry. Global ones say nothing here, as in Docker."""
    if kind == b"x":
        return dict(_records(body))
    name = body.partition(b"\0")[0]
    return {} if kind == b"g" else {b"path" if kind == b"L" else b"linkpath": name}


def _records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Of a pax header: `LENGTH KEY=VALUE` and a line feed each. Raises TarError."""
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 12)
        digits = body[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if not (space < end <= len(body) and equals and key and body[end - 1 : end] == b"\n"):
            raise TarError("a pax header is damaged")
        yield key, value
        at = end


def _entry(block: bytes, pax: dict[bytes, bytes]) -> Entry:
    if any(key.startswith(_SPARSE) for key in pax) or block[156:157] == b"S":
        raise TarError("it has a sparse file, which layers must not contain")
    kind = _KINDS.get(block[156:157])
    if kind is None:
        raise TarError(f"it has an entry of the unknown type {block[156:157]!r}")
    name = pax.get(b"path") or _name(block)
    if kind == FILE and block[156:157] == b"\0" and name.endswith(b"/"):  # as tar programs before POSIX wrote it
        kind = DIRECTORY
    size = _decimal(pax, b"size", _number(block[124:136]))
    return Entry(
        name, kind, _number(block[100:108]) & 0o7777,
        _decimal(pax, b"uid", _number(block[108:116])), _decimal(pax, b"gid", _number(block[116:124])),
        _mtime(pax, block), size if kind == FILE else 0, pax.get(b"linkpath") or block[157:257].partition(b"\0")[0],
        {_text(key[len(_XATTR) :]): value for key, value in pax.items() if key.startswith(_XATTR)},
    )  # fmt: skip


def _name(block: bytes) -> bytes:
    name = block[:100].partition(b"\0")[0]
    prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _number(raw: bytes) -> int:
    """Octal digits, or binary with the first bit set (GNU). Raises TarError, for one below zero, too."""
    if raw[0] & 0x80:
        value = int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
        if raw[0] & 0x40 or value >> 63:
            raise TarError("a number in a header is below zero or too large")
        return value
    digits = raw.replace(b"\0", b" ").strip(b" ")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise TarError("a number in a header is malformed") from None


def _decimal(pax: dict[bytes, bytes], key: bytes, plain: int) -> int:
    digits = pax.get(key, b"")
    if not digits:
        return plain
    if not digits.isdigit() or len(digits) > 18:  # noqa: PLR2004 - below 2^63
        raise TarError("a number in a pax header is malformed")
    return int(digits)


def _mtime(pax: dict[bytes, bytes], block: bytes) -> int:
    """Whole seconds, as far as ext4 keeps them without more bits."""
    text = pax.get(b"mtime", b"").partition(b".")[0]
    if text:
        digits = text.removeprefix(b"-")
        if not digits.isdigit() or len(digits) > 18:  # noqa: PLR2004 - below 2^63
            raise TarError("a time in a pax header is malformed")
        return 0 if text.startswith(b"-") else min(int(text), (1 << 31) - 1)
    if block[136] & 0x80:  # before 1970, or later than 11 octal digits say
        return 0 if block[136] & 0x40 else (1 << 31) - 1
    return min(_number(block[136:148]), (1 << 31) - 1)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
