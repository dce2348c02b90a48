"""Temporary space for an export: on the disk, or in memory if the disk is full."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

MEMORY = Path("/dev/shm")
ROOM = 32 << 20  # bytes free that a disk must have to be written to
INODES = 1000  # the same for files
SHARE = 2  # of what memory is free, one part in so many may be used


def roomy(place: Path, room: int = ROOM) -> bool:
    """Whether there is a directory with room for objects and an index, as far as its file system says."""
    try:
        seen = os.statvfs(place)
    except OSError:
        return False
    files = seen.f_files == 0 or seen.f_favail >= INODES  # some file systems have as many as they like
    return seen.f_bavail * seen.f_frsize >= room and files and os.access(place, os.W_OK)


def memory_left() -> int:
    """Bytes that files in memory may take without costing programs theirs."""
    try:
        rows = dict(row.split(":", 1) for row in Path("/proc/meminfo").read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) << 10
        shared = os.statvfs(MEMORY)
    except (OSError, KeyError, ValueError):
        return 0
    return min(free, shared.f_bavail * shared.f_frsize) // SHARE


def usual() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # Python proves one by writing to it
        return MEMORY


def in_memory(place: Path) -> bool:
    return place.is_relative_to(MEMORY)


class Scratch:
    """Directories that go at the end of the block. `given`: one on the disk, for this export alone."""

    def __init__(self, given: str | None = None) -> None:
        self._given = Path(given) if given else None
        self._made: list[Path] = []

    def directory(self, name: str, *, memory: bool = False) -> Path:
        """A new and empty one; in memory when that is asked for, or when the disk has no room."""
        disk = self._given or usual()
        parent = MEMORY if memory or not roomy(disk) else disk
        place = Path(tempfile.mkdtemp(prefix=f"git-sandbox-{name}-", dir=parent))
        self._made.append(place)
        return place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for place in self._made:
            with contextlib.suppress(OSError):
                shutil.rmtree(place, ignore_errors=True)
