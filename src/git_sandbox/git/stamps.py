"""What lstat(2) says of an entry, as proof that it was not touched since: no program can set the change time."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# mode, inode, size, modification and change time (ns), links, owner, group. Not the device: its number can be another
# one after the next boot of the host.
Stamp = tuple[int, int, int, int, int, int, int, int]
SETTLED = 2_000_000_000  # ns; a younger change time can hide a second change (FAT counts in two seconds)


def stamp(seen: os.stat_result) -> Stamp:
    return (
        seen.st_mode, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_nlink, seen.st_uid,
        seen.st_gid,
    )  # fmt: skip


def settled(found: Stamp, now: int) -> bool:
    """Whether any later change must show: `now` (ns since the epoch) is when the stamp was taken, or earlier."""
    return found[4] < now - SETTLED


def is_directory(found: Stamp) -> bool:
    return stat.S_ISDIR(found[0])


def look(root: Path, entries: Iterable[str], bare: Iterable[str] = ()) -> dict[str, Stamp]:
    """`entries` of `root`, the directories above them, and everything below them; of `bare` nothing below.

    What vanishes meanwhile is left out.
    """
    found: dict[str, Stamp] = {}
    todo: list[str] = []
    for entry in entries:
        with contextlib.suppress(OSError):
            found[entry] = stamp(os.lstat(root / entry))
            if is_directory(found[entry]):
                todo.append(entry)
            _above(root, entry, found)
    for entry in bare:
        with contextlib.suppress(OSError):
            found[entry] = stamp(os.lstat(root / entry))
            _above(root, entry, found)
    top = os.fspath(root)
    while todo:
        below = todo.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{top}/{below}") as inside:
            for each in inside:
                with contextlib.suppress(FileNotFoundError):
                    path = f"{below}/{each.name}"
                    found[path] = stamp(each.stat(follow_symlinks=False))
                    if stat.S_ISDIR(found[path][0]):
                        todo.append(path)
    return found


def _above(root: Path, entry: str, found: dict[str, Stamp]) -> None:
    above = os.path.dirname(entry)  # noqa: PTH120 - hot
    while above and above not in found:
        found[above] = stamp(os.lstat(root / above))
        above = os.path.dirname(above)  # noqa: PTH120
