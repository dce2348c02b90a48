"""Whether two index files hold the same entries. `git status` rewrites an index to refresh the cached time stamps of
files; that is no change.
"""

from __future__ import annotations

from hashlib import sha1, sha256
from pathlib import Path

HEADER, STAT, FLAGS = 12, 40, 2  # bytes: the header, the stamps before an object's name, the flags behind it
PREFIXED = 4  # version of an index whose paths begin with a part of the one before
EXTENDED, KEPT, LENGTH = 0x40, 0xB0, 0x0FFF  # of the flags: more follow; assume-valid and stage; length of the path
DERIVED = (b"TREE", b"REUC", b"UNTR", b"FSMN", b"EOIE", b"IEOT")  # extensions without which nothing is lost


def same(one: Path, other: Path) -> bool:
    """False as well when either cannot be read, or says that not all of it is in this file (a split index)."""
    try:
        before, after = one.read_bytes(), other.read_bytes()
        return before == after or entries(before) == entries(after)
    except (OSError, ValueError, IndexError):
        return False


def entries(data: bytes) -> list[tuple[bytes, bytes]]:
    """Of each its mode, object, flags and stage in one, and its path. Raises ValueError or IndexError for no index."""
    version, count = int.from_bytes(data[4:8], "big"), int.from_bytes(data[8:12], "big")
    if data[:4] != b"DIRC" or version not in (2, 3, PREFIXED):
        raise ValueError("not an index")
    for digest in (sha1, sha256):  # an object's name is as wide as the file's own checksum, which may be zeros
        width = digest().digest_size
        if data[-width:] in (digest(data[:-width]).digest(), bytes(width)):
            return _read(data, version, count, width)
    raise ValueError("a damaged index")


def _read(data: bytes, version: int, count: int, width: int) -> list[tuple[bytes, bytes]]:
    entries, at, path = [], HEADER, b""
    for _ in range(count):
        flags = at + STAT + width
        high, low = data[flags], data[flags + 1]
        start = flags + FLAGS
        more = data[start : start + FLAGS] if high & EXTENDED else b""
        start += len(more)
        if version == PREFIXED:
            strip, start = _number(data, start)
            end = data.index(b"\0", start)
            path = path[: len(path) - strip] + data[start:end]
            following = end + 1
        else:
            length = (high << 8 | low) & LENGTH
            end = start + length if length < LENGTH else data.index(b"\0", start + length)
            path = data[start:end]
            following = at + ((end - at + 8) & ~7)
        entries.append((data[at + 24 : at + 28] + data[at + STAT : flags] + bytes((high & KEPT,)) + more, path))
        at = following
    _require_derived(data, at, len(data) - width)
    return entries


def _number(data: bytes, at: int) -> tuple[int, int]:
    """How much of the path before is cut off (an offset as in packs), and where what follows begins."""
    value = data[at] & 127
    while data[at] & 128:
        at += 1
        value = (value + 1 << 7) | data[at] & 127
    return value, at + 1


def _require_derived(data: bytes, at: int, end: int) -> None:
    while at < end:
        if data[at : at + 4] not in DERIVED:
            raise ValueError("an index with more than entries")
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "big")
