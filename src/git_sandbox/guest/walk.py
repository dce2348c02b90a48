"""Everything in a tree that was touched since a moment: every inode is checked, whatever git sees of it.

The kernel stamps an inode (ctime) with whatever happens to its content, name, mode, owner, attributes or links, and a
directory with whatever comes into it or goes. Nobody can set that stamp but by setting the clock.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from git_sandbox.guest.common import ENVIRONMENT

FIND = "/usr/bin/find"
SECOND = 1_000_000_000  # nanoseconds
MAX_PROBLEMS = 10  # that are told


@dataclass(frozen=True)
class Touched:
    """Paths below the root (`b""` is the root itself), and what could not be looked at."""

    directories: frozenset[bytes]
    others: frozenset[bytes]
    problems: tuple[str, ...] = ()


def touched(root: bytes, since: int, without: Iterable[bytes] = ()) -> Touched:
    """What below `root`, on its own file system, has a ctime after `since` (nanoseconds since 1970).

    `without`: directories right below it, by their paths, that are not looked at. `find` needs a second for 60 000
    files where this process would need several; it says less about what it cannot read, so then we look ourselves.
    """
    left_out = tuple(without)
    return _found(root, since, left_out) or _scanned(root, since, left_out)


def _found(root: bytes, since: int, without: tuple[bytes, ...]) -> Touched | None:
    moment = f"@{since // SECOND}.{since % SECOND:09d}"
    pruned = [word for path in without for word in (b"-path", b"./" + path, b"-prune", b"-o")]
    words: list[str | bytes] = [FIND, ".", "-xdev", *pruned, "-newerct", moment, "-printf", r"%y%P\0"]
    try:
        done = subprocess.run(words, cwd=root, env=ENVIRONMENT, capture_output=True, check=False)
    except OSError:
        return None
    if done.returncode or done.stderr:
        return None
    rows = done.stdout.split(b"\0")[:-1]
    return Touched(
        frozenset(row[1:] for row in rows if row[:1] == b"d"), frozenset(row[1:] for row in rows if row[:1] != b"d")
    )


def _scanned(root: bytes, since: int, without: tuple[bytes, ...]) -> Touched:
    directories, others, problems = set(), set(), []
    try:
        device = os.lstat(root).st_dev
    except OSError as error:
        return Touched(frozenset(), frozenset(), (_problem(b"", error),))
    todo = [b""]
    while todo:
        place = todo.pop()
        try:
            seen = os.lstat(os.path.join(root, place))  # noqa: PTH118 - bytes
            if seen.st_dev != device or place in without:
                continue
            if seen.st_ctime_ns > since:
                directories.add(place)
            for path, is_directory in _entries(root, place):
                if is_directory:
                    todo.append(path)
                elif os.lstat(os.path.join(root, path)).st_ctime_ns > since:  # noqa: PTH118 - bytes
                    others.add(path)
        except OSError as error:
            problems.append(_problem(place, error))
    return Touched(frozenset(directories), frozenset(others), tuple(problems[:MAX_PROBLEMS]))


def _entries(root: bytes, place: bytes) -> Iterator[tuple[bytes, bool]]:
    with os.scandir(os.path.join(root, place)) as entries:  # noqa: PTH118 - bytes
        for entry in entries:
            yield os.path.join(place, entry.name), entry.is_dir(follow_symlinks=False)  # noqa: PTH118 - bytes


def _problem(place: bytes, error: OSError) -> str:
    return f"{os.fsdecode(place) or '.'}: {error.strerror or error}"
