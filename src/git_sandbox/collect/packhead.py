"""The headers of a pack and its index (gitformat-pack(5)), and the error for a refused pack."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.errors import CollectError

_PACK_HEADER = struct.Struct(">4sII")  # "PACK", version, number of objects
_PACK_VERSIONS = (2, 3)
IDX_NAMES = 8 + 256 * 4  # where the sorted object names begin in a version 2 index (gitformat-pack(5))
_HINT = "nothing was imported; the sandbox's disk is kept"


def count(index: Path) -> int:
    with index.open("rb") as data:
        data.seek(IDX_NAMES - 4)
        return int.from_bytes(data.read(4), "big")


def refused(why: str, kind: type[CollectError] = CollectError) -> CollectError:
    return kind("what the guest sent was refused", cause=why, hint=_HINT)


def beginning(chunks: Iterator[bytes], most: int) -> bytes:
    """The first bytes of the pack, looked at: how many objects it claims decides how much memory it costs."""
    begin = b""
    while len(begin) < _PACK_HEADER.size and (chunk := next(chunks, b"")):
        begin += chunk
    if not begin:
        return begin
    magic, version, claimed = _PACK_HEADER.unpack_from(begin.ljust(_PACK_HEADER.size, b"\0"))
    if magic != b"PACK" or version not in _PACK_VERSIONS:
        raise refused("not a pack file")
    if claimed > most:
        raise refused(f"the pack claims {claimed} objects, the limit is {most}")
    return begin
