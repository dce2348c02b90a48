"""Applies what is new in the repository since its base image was made: bytes after the disk's file system.

Written by the host (`disk/delta_archive.py` says how they are laid out). Applied before anything of the user's runs,
and again from the beginning when a boot was cut off meanwhile; the header is erased once everything is on the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import struct
from pathlib import Path
from typing import BinaryIO

from git_sandbox.guest.common import REPO
from git_sandbox.guest.protocol import DELTA_HEADER, DELTA_MAGIC
from git_sandbox.guest.system import device

DEVICE, LAID = "vdb", "dm-0"  # the second where `boot.py` lays it over a base
CHUNK = 1 << 20
HOLE = 4096  # bytes of zeros that are not written
BLKDISCARD = 0x1277
Row = list[object]


def apply(source: Path | None = None, root: Path = REPO) -> bool:
    """Bring `root`, on the file system of the device `source`, up to date. False when there is nothing to do."""
    laid = device(LAID)
    with (source or (laid if laid.exists() else device(DEVICE))).open("r+b", buffering=0) as disk:
        start = file_system_size(disk)
        disk.seek(start)
        header = disk.read(struct.calcsize(DELTA_HEADER))
        if not header.startswith(DELTA_MAGIC):
            return False
        _, block, manifest, contents = struct.unpack(DELTA_HEADER, header)
        disk.seek(start + block)
        with open(disk.fileno(), "rb", buffering=CHUNK, closefd=False) as archive:
            apply_archive(archive, manifest, os.fsencode(root))
        os.sync()
        disk.seek(start)
        disk.write(bytes(block))
        os.fsync(disk.fileno())
        with contextlib.suppress(OSError):  # only saves space
            length = (block + manifest + contents) // HOLE * HOLE
            fcntl.ioctl(disk.fileno(), BLKDISCARD, struct.pack("<QQ", start, length))
    return True


def file_system_size(disk: BinaryIO) -> int:
    """Bytes of the ext4 file system on `disk`, as its superblock says."""
    disk.seek(1024)
    superblock = disk.read(1024)
    low, log_size, high = (int.from_bytes(superblock[at : at + 4], "little") for at in (4, 24, 0x150))
    return (high << 32 | low) << (10 + log_size)


def apply_archive(source: BinaryIO, manifest: int, root: bytes) -> None:
    """Apply what `source` holds, from the manifest of that many bytes on. Doing it twice is the same as once."""
    manifest_read = json.loads(read_exactly(source, manifest))
    for name in manifest_read["remove"]:
        clear(os.path.join(root, name.encode("latin-1")))  # noqa: PTH118 - bytes
    directories = []
    for row in manifest_read["write"]:
        path = os.path.join(root, row[1].encode("latin-1")) if row[1] else root  # noqa: PTH118 - bytes
        if row[0] == "directory":
            make_directory(path)
            directories.append((path, row))
        elif row[0] == "link":
            clear(path)
            os.link(os.path.join(root, row[2].encode("latin-1")), path, follow_symlinks=False)  # noqa: PTH118 - bytes
        else:
            clear(path)
            make(path, row, source)
            dress(path, row)
    for path, row in reversed(directories):  # last, and inner ones first: what is written inside changes their times
        dress(path, row)


def clear(path: bytes) -> None:
    try:
        os.unlink(path)  # noqa: PTH108 - bytes
    except IsADirectoryError:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass


def make_directory(path: bytes) -> None:
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            return
        os.unlink(path)  # noqa: PTH108 - bytes
    except FileNotFoundError:
        pass
    os.mkdir(path, 0o700)  # noqa: PTH102 - bytes


def make(path: bytes, row: Row, source: BinaryIO) -> None:
    kind, _, detail, mode = row[:4]
    if kind == "symlink":
        os.symlink(str(detail).encode("latin-1"), path)  # noqa: PTH211 - bytes
    elif kind == "file":
        write(path, int(str(detail)), source)
    else:
        os.mknod(path, int(str(mode)))


def write(path: bytes, size: int, source: BinaryIO) -> None:
    """The next `size` bytes of `source`, with holes where blocks of zeros would be."""
    with open(path, "xb", buffering=0) as target:  # noqa: PTH123 - bytes
        left = size
        while left:
            chunk = read_exactly(source, min(left, CHUNK))
            left -= len(chunk)
            if chunk.count(0) < HOLE:
                write_all(target, chunk)
                continue
            for at in range(0, len(chunk), HOLE):
                piece = chunk[at : at + HOLE]
                if piece.count(0) == len(piece):
                    target.seek(len(piece), os.SEEK_CUR)
                else:
                    write_all(target, piece)
        target.truncate(size)


def write_all(target: BinaryIO, data: bytes) -> None:
    while data:
        data = data[target.write(data) :]


def read_exactly(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) != size:
        raise EOFError("the difference to the repository's base ends too early")
    return data


def dress(path: bytes, row: Row) -> None:
    """Owner before mode (changing it takes set-id bits away), time last."""
    _, _, _, mode, mtime, uid, gid, extended = row
    assert isinstance(extended, dict)  # noqa: S101 - written by our own host side
    number = int(str(mode))
    os.chown(path, int(str(uid)), int(str(gid)), follow_symlinks=False)
    if not stat.S_ISLNK(number):
        os.chmod(path, stat.S_IMODE(number))  # noqa: PTH101 - bytes
    for name in set(os.listxattr(path, follow_symlinks=False)) - set(extended):
        os.removexattr(path, name, follow_symlinks=False)
    for name, value in extended.items():
        os.setxattr(path, name, value.encode("latin-1"), follow_symlinks=False)
    os.utime(path, (int(str(mtime)), int(str(mtime))), follow_symlinks=False)
