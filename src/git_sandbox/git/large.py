"""Files that a snapshot need not hold: large ones that git does not have and that are unlikely to change.

They are in the copy like all others. In the snapshot they are as the index has them, in the guest as well as long as
nobody touches them there: nobody reads, packs or sends them. What they were is known by their stamps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from git_sandbox.guest.stage import Choose

LARGE = 1 << 20  # bytes of an untracked file
TOGETHER = 8 << 20  # bytes of all untracked files that are not; the smallest come first
FILES = 2000  # of them
CHANGED = 16 << 20  # bytes of a file that git has, and that is not as git has it

Stamp = tuple[int, int, int, int]


def chooser(top: Path, *, changed: bool) -> Choose:
    """What to leave as the index has it. `changed`: also large files that git has; not where an edit of the user's
    could be overlooked that way.
    """

    def choose(untracked: Sequence[bytes], modified: Sequence[bytes]) -> Collection[bytes]:
        large = [path for path, size in _sizes(top, modified) if size > CHANGED] if changed else []
        return [*large, *_beyond(_sizes(top, untracked))]

    return choose


def _beyond(sizes: Iterable[tuple[bytes, int]]) -> Iterator[bytes]:
    total = 0
    for number, (path, size) in enumerate(sorted(sizes, key=lambda row: (row[1], row[0]))):
        total += size
        if size > LARGE or total > TOGETHER or number >= FILES:
            yield path


def _sizes(top: Path, paths: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    place = os.fsencode(top) + b"/"
    for path in paths:
        try:
            seen = os.lstat(place + path)
        except OSError:
            continue
        yield path, seen.st_size


def stamps(top: Path, paths: Iterable[str]) -> dict[str, Stamp]:
    return {path: state for path in paths if (state := stamp(top / path))}


def stamp(path: Path) -> Stamp | None:
    """Of a file that nobody has touched it stays the same."""
    try:
        seen = path.lstat()
    except OSError:
        return None
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino


def untouched(top: Path, known: Mapping[str, Stamp]) -> Callable[[bytes], bool]:
    """Whether a path is one of `known`, and still as it was."""

    def same(path: bytes) -> bool:
        name = os.fsdecode(path)
        return name in known and stamp(top / name) == known[name]

    return same
