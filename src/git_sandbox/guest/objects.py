"""Files of the object store that existed at the start, and whose time git only refreshed to mark them as used.

It does so with an object whenever it would have written it again, and with the shared part of a split index whenever it
reads one (git-update-index(1)). They are named by their content: whether they are whole can be proved.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import stat
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

LOOSE = re.compile(rb"([0-9a-f]{2})/([0-9a-f]{38}|[0-9a-f]{62})")
PACK = re.compile(rb"pack/pack-([0-9a-f]{40}|[0-9a-f]{64})\.pack")
SHARED_INDEX = re.compile(rb"sharedindex\.([0-9a-f]{40}|[0-9a-f]{64})")
LARGEST_INDEX = 128 << 20  # bytes
MOST = 8 << 20  # bytes of a loose object that is read
SHA1, SHA256 = 40, 64  # hexadecimal digits
OBJECTS = b"objects/"
AT_FDCWD, AT_SYMLINK_NOFOLLOW, STATX_BTIME = -100, 0x100, 0x800  # statx(2)
MASK_AT, BIRTH_AT, STATX_BYTES = 0, 80, 256
PLAIN = stat.S_IFREG | 0o444
MORE_THAN_READ_AND_WRITTEN = 0o7111


def only_marked(repo: Path, git_dirs: Iterable[str], touched: Iterable[bytes], since: int) -> set[bytes]:
    """Those of the touched paths that are objects as their names say, and older than `since` (nanoseconds)."""
    oids = set()
    for path in touched:
        place = os.path.join(os.fsencode(repo), path)  # noqa: PTH118 - bytes
        inside = (path.removeprefix(name) for name in map(_prefix, git_dirs) if path.startswith(name))
        if any(_whole(place, name) for name in inside) and 0 < birth(place) <= since:
            oids.add(path)
    return oids


def _prefix(git_dir: str) -> bytes:
    return os.fsencode(git_dir) + b"/"


def birth(place: bytes) -> int:
    """When an inode was made, in nanoseconds since 1970; 0 where that is not known. Python has no statx(2)."""
    seen = ctypes.create_string_buffer(STATX_BYTES)
    libc = ctypes.CDLL(None)
    if libc.statx(AT_FDCWD, place, AT_SYMLINK_NOFOLLOW, STATX_BTIME, seen) != 0:
        return 0
    (mask,) = struct.unpack_from("I", seen, MASK_AT)
    seconds, nanoseconds = struct.unpack_from("qI", seen, BIRTH_AT)
    return seconds * 1_000_000_000 + nanoseconds if mask & STATX_BTIME else 0


def _whole(place: bytes, name: bytes) -> bool:
    """`name`: the path in the git directory."""
    try:
        seen = os.lstat(place)
        if not stat.S_ISREG(seen.st_mode) or seen.st_nlink != 1 or os.listxattr(place, follow_symlinks=False):
            return False
        if shared := SHARED_INDEX.fullmatch(name):
            return not seen.st_mode & MORE_THAN_READ_AND_WRITTEN and _is_index(place, shared[1].decode())
        if seen.st_mode != PLAIN or not name.startswith(OBJECTS):
            return False
        if loose := LOOSE.fullmatch(name, len(OBJECTS)):
            return seen.st_size <= MOST and _is_object(place, b"".join(loose.groups()).decode())
        pack = PACK.fullmatch(name, len(OBJECTS))
        return pack is not None and _ends_with(place, bytes.fromhex(pack[1].decode()))
    except (OSError, zlib.error):
        return False


def _is_index(place: bytes, name: str) -> bool:
    with open(place, "rb") as file:  # noqa: PTH123 - bytes
        content = file.read(LARGEST_INDEX)
    digest, size = (hashlib.sha1, SHA1) if len(name) == SHA1 else (hashlib.sha256, SHA256)
    checksum = content[-(size // 2) :]
    return checksum.hex() == name and digest(content[: -(size // 2)]).hexdigest() == name


def _is_object(place: bytes, name: str) -> bool:
    with open(place, "rb") as file:  # noqa: PTH123 - bytes
        unpacking = zlib.decompressobj()
        content = unpacking.decompress(file.read(), 4 * MOST)
    digest = hashlib.sha1 if len(name) == SHA1 else hashlib.sha256
    return unpacking.eof and not unpacking.unused_data and digest(content).hexdigest() == name


def _ends_with(place: bytes, checksum: bytes) -> bool:
    """A pack's name is the checksum at its end. It is too large to be read, and nobody writes work into one."""
    with open(place, "rb") as file:  # noqa: PTH123 - bytes
        file.seek(-len(checksum), os.SEEK_END)
        return file.read() == checksum
