"""Writes the metadata in `notes` to the inodes of an ext4 file that `mke2fs -d` has just made, without metadata
checksums.

The layout is that of the kernel's Documentation/filesystems/ext4 (super block, group descriptors, inodes). Extended
attributes are written by debugfs(8), by number of the inode.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import FileIO

from git_sandbox.helpers.notes import Note, Notes

ROOT, FIRST = 2, 11  # inodes: the top, and the first that is not the file system's own (lost+found)
BLOCK = 4096  # bytes, as made
DESCRIPTOR = 64  # bytes, of a group
INCOMPAT_64BIT = 0x80
RO_COMPAT_CHECKSUM = 0x400 | 0x10  # metadata_csum, uninit_bg
_LINKS, _LOW, _HIGH = 0x1A, 0xFFFF, 16
_PLAIN = Note(0o755, 0, 0, 0)


class InodeError(ValueError):
    """The file system is not as it was to be made."""


class _Super:
    def __init__(self, file: FileIO) -> None:
        raw = os.pread(file.fileno(), 1024, 1024)
        (magic,) = struct.unpack_from("<H", raw, 0x38)
        (self.inodes,) = struct.unpack_from("<I", raw, 0)
        (self.per_group,) = struct.unpack_from("<I", raw, 0x28)
        (self.size,) = struct.unpack_from("<H", raw, 0x58)
        incompat, read_only = struct.unpack_from("<II", raw, 0x60)
        block = 1024 << struct.unpack_from("<I", raw, 0x18)[0]
        usable = block == BLOCK and self.per_group and self.size >= 0x80  # noqa: PLR2004 - the fields of the first ext2
        if magic != 0xEF53 or not usable or read_only & RO_COMPAT_CHECKSUM:  # noqa: PLR2004 - linux/magic.h
            raise InodeError("mke2fs made an unexpected file system")
        self.descriptor = DESCRIPTOR if incompat & INCOMPAT_64BIT else DESCRIPTOR // 2


def write(file: FileIO, notes: Notes) -> dict[int, int]:
    """Owner, mode and time of every file: what its note says, else root's. Inodes with extended attributes, by note."""
    layout = _Super(file)
    inodes: dict[int, int] = {}
    for first, offset, count in _tables(file, layout):
        table = bytearray(os.pread(file.fileno(), count * layout.size, offset))
        for index in range(count):
            at = index * layout.size
            if table[at + _LINKS] or table[at + _LINKS + 1]:
                number = _patch(table, at, first + index, notes)
                if number in notes.xattrs:
                    inodes[number] = first + index
        _rewrite(file, table, offset)
    return inodes


def _rewrite(file: FileIO, table: bytearray, offset: int) -> None:
    view = memoryview(table)
    while view:
        done = os.pwrite(file.fileno(), view, offset)
        view, offset = view[done:], offset + done


def _tables(file: FileIO, layout: _Super) -> Iterator[tuple[int, int, int]]:
    """(first inode, place in the file, inodes) of each group."""
    groups = -(-layout.inodes // layout.per_group)
    descriptors = os.pread(file.fileno(), groups * layout.descriptor, BLOCK)
    for group in range(groups):
        at = group * layout.descriptor
        (block,) = struct.unpack_from("<I", descriptors, at + 8)
        if layout.descriptor == DESCRIPTOR:
            block |= struct.unpack_from("<I", descriptors, at + 0x28)[0] << 32
        first = group * layout.per_group + 1
        yield first, block * BLOCK, min(layout.per_group, layout.inodes - first + 1)


def _patch(table: bytearray, at: int, inode: int, notes: Notes) -> int:
    """One inode; the number of its note, 0 for none."""
    if inode < FIRST and inode != ROOT:
        return 0
    (mtime,) = struct.unpack_from("<I", table, at + 0x10)
    number = mtime if 1 <= mtime <= len(notes) and inode != ROOT else 0
    note = notes[number] if number else _top(notes) if inode == ROOT else None
    if note:
        (mode,) = struct.unpack_from("<H", table, at)
        struct.pack_into("<H", table, at, mode & 0o170000 | note.mode)
        for field in (8, 0xC, 0x10):  # atime, ctime, mtime
            struct.pack_into("<I", table, at + field, note.mtime)
    owner = note or _PLAIN
    for low, high, value in ((2, 0x78, owner.uid), (0x18, 0x7A, owner.gid)):
        struct.pack_into("<H", table, at + low, value & _LOW)
        struct.pack_into("<H", table, at + high, value >> _HIGH)
    return number


def _top(notes: Notes) -> Note:
    top = notes.top
    return Note(top.mode, top.uid, top.gid, top.mtime) if top else _PLAIN


def attribute_commands(inodes: dict[int, int], notes: Notes, place: str) -> Iterator[str]:
    """For debugfs(8): a line for each attribute, whose value is written to a file of its own in `place`, from 1 on."""
    count = 0
    for number, inode in inodes.items():
        for key, value in notes.xattrs[number].items():
            count += 1
            name = f"{place}/{count}"
            with open(name, "wb") as file:  # noqa: PTH123
                file.write(value)
            yield f'ea_set -f {name} <{inode}> "{key}"\n'
