"""Packs and objects made by hand, the way no git would make them (gitformat-pack(5))."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}
REF_DELTA = 7
WHO = b"A U Thor <author@example.com> 1700000000 +0000"


@dataclass(frozen=True)
class Object:
    kind: str
    data: bytes

    @property
    def oid(self) -> str:
        return hashlib.sha1(f"{self.kind} {len(self.data)}\0".encode() + self.data, usedforsecurity=False).hexdigest()

    def entry(self) -> bytes:
        return _head(KINDS[self.kind], len(self.data)) + zlib.compress(self.data)


@dataclass(frozen=True)
class Delta:
    base: str
    instructions: bytes

    def entry(self) -> bytes:
        return _head(REF_DELTA, len(self.instructions)) + bytes.fromhex(self.base) + zlib.compress(self.instructions)


def blob(data: bytes) -> Object:
    return Object("blob", data)


def tree(*entries: tuple[bytes, bytes, Object | str]) -> Object:
    """Entries (mode, name, object) exactly as given: no sorting, no checking."""
    raw = b"".join(
        mode + b" " + name + b"\0" + bytes.fromhex(what if isinstance(what, str) else what.oid)
        for mode, name, what in entries
    )
    return Object("tree", raw)


def commit(
    of: Object | str, parents: Iterable[str] = (), *, who: bytes = WHO, message: bytes = b"made by hand\n"
) -> Object:
    lines = [b"tree " + (of if isinstance(of, str) else of.oid).encode()]
    lines += [b"parent " + parent.encode() for parent in parents]
    lines += [b"author " + who, b"committer " + who]
    return Object("commit", b"\n".join(lines) + b"\n\n" + message)


def tag(target: str, kind: str = "commit") -> Object:
    return Object("tag", f"object {target}\ntype {kind}\ntag t\ntagger ".encode() + WHO + b"\n\nby hand\n")


def pack(*objects: Object | Delta, count: int | None = None) -> bytes:
    """`count`: what the header claims, when that is to be a lie."""
    said = len(objects) if count is None else count
    body = struct.pack(">4sII", b"PACK", 2, said) + b"".join(each.entry() for each in objects)
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def delta_bomb(base: Object, result: int) -> Delta:
    """A few bytes that stand for `result` bytes: the base copied again and again."""
    size = len(base.data)
    copy = bytes([0x80 | 0x70]) + struct.pack("<I", size)[:3]
    return Delta(base.oid, _varint(size) + _varint(result // size * size) + copy * (result // size))


def tree_bomb(levels: int, width: int) -> list[Object]:
    """Objects of a tree with width ** levels paths; the last is the top."""
    made = [blob(b"leaf\n")]
    mode = b"100644"
    for _ in range(levels):
        made.append(tree(*((mode, b"%05d" % number, made[-1]) for number in range(width))))
        mode = b"40000"
    return made


def _head(kind: int, size: int) -> bytes:
    first, size = (kind << 4) | (size & 15), size >> 4
    return bytes([first]) if not size else bytes([first | 0x80]) + _varint(size)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
