"""Owners, modes, times and extended attributes of an image's files, recorded because an unprivileged user cannot set
them while unpacking.

A file with a note has the note's number for its time, which `mke2fs -d` copies; there `inodes` finds it again.
Times as small as a number are noted, too, so none is mistaken for one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from git_sandbox.helpers.rooted import shown
from git_sandbox.helpers.tarstream import Entry

PLAIN_FROM = 1 << 21  # seconds since the epoch (January 1970): as a time of its own; more notes than that are not taken
MOST_ID = (1 << 32) - 2
MOST_XATTRS = 3500  # bytes of all of one file, names included: ext4 has an inode and one block for them
MOST_XATTR_NAME = 255  # bytes, see xattr(7)
KEPT = ("user.", "security.capability")  # extended attributes; others are of the host that made the layer
_ROW = struct.Struct("<HIII")


class LayerError(ValueError):
    """What is wrong with a layer, in words."""


@dataclass(frozen=True)
class Note:
    mode: int  # without the kind of file
    uid: int
    gid: int
    mtime: int


@dataclass
class Notes:
    """`top`: what the tree itself is to be. `xattrs`: by the number of their note."""

    top: Entry | None = None
    xattrs: dict[int, dict[str, bytes]] = field(default_factory=dict)
    _rows: bytearray = field(default_factory=bytearray)

    def time(self, entry: Entry, mode: int) -> int:
        """The time for a file that is made with `mode`: its own, or the number of its note. Raises LayerError."""
        xattrs = check(entry)
        if entry.mode == mode and not (entry.uid or entry.gid or xattrs) and entry.mtime >= PLAIN_FROM:
            return entry.mtime
        self._rows += _ROW.pack(entry.mode, entry.uid, entry.gid, entry.mtime)
        number = len(self)
        if number >= PLAIN_FROM:
            raise LayerError(f"more than {PLAIN_FROM} files have owners, modes or times of their own")
        if xattrs:
            self.xattrs[number] = xattrs
        return number

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    def __getitem__(self, number: int) -> Note:
        """Numbers begin at 1."""
        if not 1 <= number <= len(self):
            raise IndexError(number)
        return Note(*_ROW.unpack_from(self._rows, (number - 1) * _ROW.size))

    def __iter__(self) -> Iterator[Note]:
        return (self[number] for number in range(1, len(self) + 1))


def check(entry: Entry) -> dict[str, bytes]:
    """The extended attributes that stay. Raises LayerError for an owner or attributes that no file system takes."""
    if max(entry.uid, entry.gid) > MOST_ID:
        raise LayerError(f"{shown(entry.name)} belongs to a user or group above {MOST_ID}")
    kept = {key: value for key, value in entry.xattrs.items() if key.startswith(KEPT) and key.isprintable()}
    if any(len(os.fsencode(key)) > MOST_XATTR_NAME for key in kept):
        raise LayerError(
            f"{shown(entry.name)} has an extended attribute whose name has more than {MOST_XATTR_NAME} bytes"
        )
    if sum(len(os.fsencode(key)) + len(value) + 16 for key, value in kept.items()) > MOST_XATTRS:
        raise LayerError(f"{shown(entry.name)} has more than {MOST_XATTRS} bytes of extended attributes")
    return {key: value for key, value in kept.items() if not set(key) & set(" \"'")}
