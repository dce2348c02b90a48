"""Counts what a copy will need, and finds unreadable files: one lstat(2) per entry, no file is read."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox.later import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 4096  # bytes; what ext4 allocates at a time
FAST_SYMLINK = 60  # bytes of a link's target that ext4 keeps in the inode
REPLACED = 5  # times that something may have been replaced while it was looked at
SMALL = 64 * 1024  # bytes; not worth asking a file system where the holes of such a file are


def _always(_path: str, _seen: os.stat_result) -> bool:
    return True


@dataclass
class Census:
    """Bytes and inodes below the directories walked so far, on a file system with blocks of 4 KiB."""

    bytes: int = 0
    inodes: int = 0
    unreadable: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)  # directories that cannot be looked into by their whole path
    mounts: list[str] = field(default_factory=list)
    _linked: set[tuple[int, int]] = field(default_factory=set)

    def walk(self, root: Path, start: str = "", *, counts: Callable[[str, os.stat_result], bool] = _always) -> None:
        """Count `start` (relative to `root`) and everything below it for which `counts(path, lstat)` holds.

        `counts` hears of a directory before anything inside it. Entries that vanish meanwhile do not count.
        """
        try:
            seen = os.lstat(root / start)
        except OSError:
            return
        todo = [(start, seen)]
        while todo:
            path, seen = todo.pop()
            if self._count(root, path, seen):
                todo.extend(reversed([child for child in self._children(root, path, seen) if counts(*child)]))

    def _children(self, root: Path, path: str, parent: os.stat_result) -> list[tuple[str, os.stat_result]]:
        children: list[tuple[str, os.stat_result]] = []
        try:
            with os.scandir(root / path) as entries:
                for entry in sorted(entries, key=lambda item: item.name):
                    with contextlib.suppress(FileNotFoundError):
                        children.append(
                            (f"{path}/{entry.name}" if path else entry.name, entry.stat(follow_symlinks=False))
                        )
        except FileNotFoundError:
            return children
        except OSError:  # a name that is too long, a file system that is damaged
            self.beyond.append(path)
            return children
        self.mounts.extend(
            name for name, seen in children if stat.S_ISDIR(seen.st_mode) and seen.st_dev != parent.st_dev
        )
        return children

    def _count(self, root: Path, path: str, seen: os.stat_result) -> bool:
        """Count one entry; True for a directory whose children can be seen."""
        kind = stat.S_IFMT(seen.st_mode)
        full = f"{root}/{path}"  # pathlib would take longer than everything else here
        if kind in (stat.S_IFBLK, stat.S_IFCHR):
            self.devices.append(path)
            return False
        if kind in (stat.S_IFREG, stat.S_IFDIR) and not readable(full, seen):
            self.unreadable.append(path)
            return False
        if kind == stat.S_IFREG and seen.st_nlink > 1:
            if (seen.st_dev, seen.st_ino) in self._linked:
                return False
            self._linked.add((seen.st_dev, seen.st_ino))
        self.inodes += 1
        self.bytes += _blocks(full, seen)
        return kind == stat.S_IFDIR


def readable(path: str, seen: os.stat_result) -> bool:
    """What is gone, or is another one by now, is not unreadable. `seen`: its lstat(2)."""
    mode = os.R_OK | (os.X_OK if stat.S_ISDIR(seen.st_mode) else 0)
    for _ in range(REPLACED):
        if os.access(path, mode, effective_ids=True):
            return True
        try:
            now = os.lstat(path)
        except OSError:
            return True
        if (now.st_ino, now.st_ctime_ns) == (seen.st_ino, seen.st_ctime_ns):
            return False
        seen = now
    return True  # whoever copies it will know


def _blocks(path: str, seen: os.stat_result) -> int:
    if stat.S_ISLNK(seen.st_mode):
        return BLOCK if seen.st_size >= FAST_SYMLINK else 0
    if stat.S_ISREG(seen.st_mode):
        holes = seen.st_size > SMALL and seen.st_blocks * 512 < seen.st_size
        return _data(path, seen.st_size) if holes else _round(seen.st_size)
    return max(BLOCK, _round(seen.st_size)) if stat.S_ISDIR(seen.st_mode) else 0


def _data(path: str, size: int) -> int:
    """Bytes of `path` outside its holes: fewer blocks than bytes can also mean that its file system compresses."""
    total = position = 0
    try:
        with Path(path).open("rb") as file:
            while position < size:
                start = os.lseek(file.fileno(), position, os.SEEK_DATA)
                position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                total += _round(position - start)
    except OSError:  # ENXIO: nothing but a hole from here on
        return total
    return total


def _round(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
