"""Updates the index to the inodes of this machine, so that git trusts every entry in it.

A copied file has another inode and change time than the index says. With `core.checkStat=minimal` git does not mind,
but an edit of the same size and time then passes for none. Here every entry whose file is as it went in gets the stamps
that file has; then the setting is git's own default again, and such an edit shows. Entries, their order and flags stay
as they are, and so does the index's own time, by which git tells files that are as young as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from pathlib import Path

from git_sandbox.guest import protocol
from git_sandbox.guest.stage import whole_index

STAMPS = struct.Struct(">10I")  # ctime, mtime (seconds and nanoseconds each), device, inode, mode, user, group, size
HEADER, LOW = 12, 0xFFFFFFFF
EXTENDED, LENGTH = 0x4000, 0x0FFF  # of an entry's flags
AT_ONCE = 2000  # entries that are looked at before a session begins; more of them beside it
LARGEST = 128 << 20  # bytes of an index
INCLUDED = Path(protocol.HERE, "stat.gitconfig")
BELIEVE = "[core]\n\tcheckStat = default\n\ttrustctime = true\n"


def entries(index: Path) -> int:
    """How many there are, as the index says; 0 for what is none."""
    with contextlib.suppress(OSError, struct.error), index.open("rb") as file:
        signature, _, count = struct.unpack(">4sII", file.read(HEADER))
        return int(count) if signature == b"DIRC" else 0
    return 0


def refresh(worktree: Path, since: int) -> bool:
    """False where nothing can be said for sure. `since`: what has a later change time (nanoseconds) is not as it was.

    Run as the owner of the repository. Raises OSError.
    """
    index = worktree / ".git/index"
    before = index.lstat()
    if not stat.S_ISREG(before.st_mode) or before.st_size > LARGEST or not whole_index(index):
        return False
    data = bytearray(index.read_bytes())
    width = 20 if hashlib.sha1(data[:-20], usedforsecurity=False).digest() == data[-20:] else 32
    if not any(data[-20:]) or not _patch(data, os.fsencode(worktree), width, since):
        return False  # without a checksum its width is not known
    kind = "sha1" if width == 20 else "sha256"  # noqa: PLR2004 - bytes
    data[-width:] = hashlib.new(kind, data[:-width], usedforsecurity=False).digest()
    return _install(index, data, before)


def _patch(data: bytearray, top: bytes, width: int, since: int) -> bool:
    """Walk the entries as gitformat-index(5) has them. False for a part of a split index."""
    version, count = struct.unpack(">II", data[4:HEADER])
    at, name = HEADER, b""
    for _ in range(count):
        flags_at = at + STAMPS.size + width
        (flags,) = struct.unpack_from(">H", data, flags_at)
        path_at = flags_at + (4 if flags & EXTENDED else 2)
        if version == 4:  # noqa: PLR2004
            strip, path_at = _varint(data, path_at)
            end = data.index(0, path_at)
            name = name[: len(name) - strip] + bytes(data[path_at:end])
            after = end + 1
        else:
            end = data.index(0, path_at + (min(LENGTH, flags & LENGTH)))
            name = bytes(data[path_at:end])
            after = at + ((end - at + 8) & ~7)
        _stamp(data, at, top + b"/" + name, since)
        at = after
    return bytes(data[at : at + 4]) != b"link"


def _varint(data: bytearray, at: int) -> tuple[int, int]:
    value = data[at] & 0x7F
    while data[at] & 0x80:
        at += 1
        value = (value + 1) << 7 | data[at] & 0x7F
    return value, at + 1


def _stamp(data: bytearray, at: int, path: bytes, since: int) -> None:
    was = STAMPS.unpack_from(data, at)
    try:
        seen = os.lstat(path)
    except OSError:
        return
    mtime, moment = divmod(seen.st_mtime_ns, 1_000_000_000)
    if seen.st_ctime_ns > since or (was[2], was[9]) != (mtime & LOW, seen.st_size & LOW) or stat.S_ISDIR(seen.st_mode):
        return
    ctime, later = divmod(seen.st_ctime_ns, 1_000_000_000)
    fields = (
        ctime & LOW,
        later,
        was[2],
        moment,
        seen.st_dev & LOW,
        seen.st_ino & LOW,
        was[6],
        seen.st_uid,
        seen.st_gid,
    )
    STAMPS.pack_into(data, at, *fields, was[9])


def _install(index: Path, data: bytearray, before: os.stat_result) -> bool:
    """In the old one's place unless that is another by now, or somebody works on it."""
    lock = index.with_name("index.lock")
    try:
        with lock.open("xb") as out:
            os.fchmod(out.fileno(), stat.S_IMODE(before.st_mode))
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except FileExistsError:
        return False
    try:
        now = index.lstat()
        if (now.st_ino, now.st_mtime_ns, now.st_size) != (before.st_ino, before.st_mtime_ns, before.st_size):
            return False
        os.utime(lock, ns=(before.st_atime_ns, before.st_mtime_ns))
        lock.replace(index)
    finally:
        lock.unlink(missing_ok=True)
    return True


def included(git_dirs: list[str]) -> str:
    """For the system's configuration: these git directories, at all the places where they are seen, heed INCLUDED."""
    plain = [path for path in git_dirs if not set(path) & set('*?[]"\\\n')]
    return "".join(f'[includeIf "gitdir:{path}"]\n\tpath = {INCLUDED}\n' for path in plain)
