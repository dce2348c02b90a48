"""The lstat(2) data of an entry, as proof that it was not touched: no program can set the change time.

An entry is one *row* of bytes, its stamp and its path, as find(1) prints it: sets of rows are compared in milliseconds,
where making as many objects takes longer than the looking.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from git_sandbox import process
from git_sandbox.background import Beside
from git_sandbox.later import dataclass
from git_sandbox.workspace.filecopy import chunks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SETTLED = 2_000_000_000  # ns; a younger change time can hide a second change (FAT counts in two seconds)
MOST_FINDS = 4  # at once; more wait for each other
FEW = 500  # entries; to look at so many takes as long as to start a find
# Kind, mode, inode, size, modification and change time, links, owner, group. Not the device: its number can be another
# one after the next boot of the host.
_FORMAT = "%y %m %i %s %T@ %C@ %n %U %G {below}//%p\\0"
_FIELDS = 9
_GONE = re.compile(rb"(?:No such file or directory|Not a directory)$")
_KINDS = {
    stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFSOCK: "s", stat.S_IFBLK: "b",
    stat.S_IFCHR: "c",
}  # fmt: skip
Rows = frozenset[bytes]


class Unseen(Exception):  # noqa: N818 - a reason, as those of the tracker
    """Something could not be looked at."""


@dataclass(frozen=True)
class Entry:
    """A row, taken apart. `kind`: a letter as find(1) has it: f, d, l, p, s, b or c."""

    kind: str
    inode: bytes
    size: int
    changed: int  # ns since the epoch
    links: int
    path: str

    @property
    def is_directory(self) -> bool:
        return self.kind == "d"


def entry_of(row: bytes) -> Entry:
    kind, _, inode, size, _, changed, links, _, _, path = row.split(b" ", _FIELDS)
    seconds, _, fraction = changed.partition(b".")
    nanoseconds = int(seconds) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
    return Entry(kind.decode(), inode, int(size), nanoseconds, int(links), os.fsdecode(path))


def path_of(row: bytes) -> str:
    """Raises ValueError for what is no row."""
    *_, path = row.split(b" ", _FIELDS)
    return os.fsdecode(path)


def row(seen: os.stat_result, path: str) -> bytes:
    """As find(1) would print it."""
    words = (
        _KINDS.get(stat.S_IFMT(seen.st_mode), "U"), f"{stat.S_IMODE(seen.st_mode):o}", seen.st_ino, seen.st_size,
        _time(seen.st_mtime_ns), _time(seen.st_ctime_ns), seen.st_nlink, seen.st_uid, seen.st_gid,
    )  # fmt: skip
    return b" ".join(str(word).encode() for word in words) + b" " + os.fsencode(path)


def _time(ns: int) -> str:
    return f"{ns // 1_000_000_000}.{ns % 1_000_000_000:09}0"


def settled(entry: Entry, now: int) -> bool:
    """Whether any later change must show: `now` (ns since the epoch) is when the row was taken, or earlier."""
    return entry.changed < now - SETTLED


def look(root: Path, entries: Sequence[str], bare: Iterable[str] = (), below: str = "") -> Rows:
    """`entries` of `root`, the directories above them, and everything below them; of `bare` nothing below.

    Paths in the rows begin with `below`. What vanishes meanwhile is left out. Raises Unseen.
    """
    prefix = f"{below}/" if below else ""
    data, wide = _spread(root, entries, prefix)
    lots = [wide[number::MOST_FINDS] for number in range(MOST_FINDS)]
    finds = [Beside(partial(_find, root, lot, below)) for lot in lots if lot]
    data.update(_lstat(root, {*bare, *parents((*entries, *bare))}, prefix))
    return frozenset(data.union(*(beside.result() for beside in finds)))


def _spread(root: Path, entries: Sequence[str], prefix: str) -> tuple[set[bytes], list[str]]:
    """Rows of what was looked at here, `FEW` of them or some more, and start points for several finds, which are
    quicker where there is more.
    """
    data: set[bytes] = set()
    left: list[str] = []
    todo = deque(entries)
    while todo:
        path = todo.popleft()
        if len(data) >= FEW:
            left.append(path)
            continue
        try:
            seen = os.lstat(f"{root}/{path}")
            if stat.S_ISDIR(seen.st_mode):
                todo.extend(f"{path}/{name}" for name in os.listdir(f"{root}/{path}"))  # noqa: PTH208 - names are wanted
            data.add(row(seen, prefix + path))
        except OSError:
            left.append(path)  # find(1) says whether that matters
    return data, left


def _find(root: Path, entries: Sequence[str], below: str) -> set[bytes]:
    data: set[bytes] = set()
    shown = _FORMAT.format(below=below.replace("\\", "\\\\").replace("%", "%%"))
    for chunk in chunks([f"./{entry}" for entry in entries]):
        done = process.run(["find", "-P", *chunk, "-printf", shown], cwd=root, env=process.environment({"LC_ALL": "C"}))
        if any(not _GONE.search(line) for line in done.stderr.splitlines()):
            raise Unseen(done.complaint)
        # Two slashes are in no path: what is replaced can be nothing else.
        data.update(done.stdout.replace(b"//./", b"/" if below else b"").split(b"\0"))
    data.discard(b"")
    return data


def _lstat(root: Path, paths: Iterable[str], prefix: str) -> Iterator[bytes]:
    for path in paths:
        with contextlib.suppress(OSError):
            yield row(os.lstat(f"{root}/{path}"), prefix + path)


def parents(paths: Iterable[str]) -> set[str]:
    """Every directory above one of `paths`, which are relative."""
    directories: set[str] = set()
    for path in paths:
        parent = os.path.dirname(path)  # noqa: PTH120 - hot
        while parent and parent not in directories:
            directories.add(parent)
            parent = os.path.dirname(parent)  # noqa: PTH120
    return directories


def glance(root: Path) -> dict[str, Entry]:
    """Everything below `root`, a small tree of ours, by path."""
    top = f"{root}/"
    by_path: dict[str, Entry] = {}
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            full = os.path.join(directory, name)  # noqa: PTH118 - hot
            path = full.removeprefix(top)
            by_path[path] = entry_of(row(os.lstat(full), path))
    return by_path
