"""Objects of git's that were there at the start and that git only marked as still used, by their time (it does so
whenever it would have written one again). They are named by their content: whether they are whole can be proved.
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
MOST = 8 << 20  # bytes of a loose object that is read
SHA1 = 40  # hexadecimal digits
AT_FDCWD, AT_SYMLINK_NOFOLLOW, STATX_BTIME = -100, 0x100, 0x800  # statx(2)
MASK_AT, BIRTH_AT, STATX_BYTES = 0, 80, 256
PLAIN = stat.S_IFREG | 0o444


def only_marked(repo: Path, git_dirs: Iterable[str], touched: Iterable[bytes], since: int) -> set[bytes]:
    """Those of the touched paths that are objects as their names say, and older than `since` (nanoseconds)."""
    stores = [os.fsencode(name) + b"/objects/" for name in git_dirs]
    found = set()
    for path in touched:
        store = next((each for each in stores if path.startswith(each)), None)
        place = os.path.join(os.fsencode(repo), path)  # noqa: PTH118 - bytes
        if store is not None and 0 < birth(place) <= since and _whole(place, path[len(store) :]):
            found.add(path)
    return found


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
    try:
        seen = os.lstat(place)
        if seen.st_mode != PLAIN or seen.st_nlink != 1 or os.listxattr(place, follow_symlinks=False):
            return False
        if loose := LOOSE.fullmatch(name):
            return seen.st_size <= MOST and _is_object(place, b"".join(loose.groups()).decode())
        pack = PACK.fullmatch(name)
        return pack is not None and _ends_with(place, bytes.fromhex(pack[1].decode()))
    except (OSError, zlib.error):
        return False


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
