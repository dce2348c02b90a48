"""Whether another user of this host can replace files in a directory of ours. Standard library only: ssh runs this as a
program, `python -I -S places.py DIRECTORY…`, before it uses a socket there.

A directory is safe when nobody but its user can open it and nobody but its user and root can put another one in its
place: every directory above belongs to one of these two and is not writable by others, or sticky (/tmp), where only
the owner of an entry renames it. What is sticky is good as long as the entry is there, not for a name that is written
down: after a reboot anybody can make it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator

OTHERS = 0o002
EVERYBODY_ELSE = 0o077
_ALL_IDS = "4294967295"  # in uid_map(7): no user namespace leaves an owner without a name


def fault(directory: str) -> str:
    """Why the absolute path `directory` is not safe, for a person; empty when it is."""
    try:
        return next(_faults(directory), "") or _own_fault(directory)
    except OSError as error:
        return f"{directory}: {error.strerror}"


def fault_above(directory: str, *, lasting: bool = False) -> str:
    """The same of the directories above alone. `lasting`: for a name that is written down; sticky is not enough then.
    Those that do not exist are made by us, and no fault.
    """
    try:
        return next(_faults(directory, lasting=lasting), "")
    except OSError as error:
        return f"{directory}: {error.strerror}"


def _faults(directory: str, *, lasting: bool = False) -> Iterator[str]:
    if not directory.startswith("/") or os.path.normpath(directory) != directory:
        yield f"{directory} is not an absolute path"
    parts = directory.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        above = "/".join(parts[:count]) or "/"
        try:
            seen = os.lstat(above)
        except FileNotFoundError:
            return
        yield from _fault_of_one(above, seen, lasting=lasting)


def _fault_of_one(above: str, seen: os.stat_result, *, lasting: bool) -> Iterator[str]:
    if not stat.S_ISDIR(seen.st_mode):
        yield f"{above} is not a directory"
    elif seen.st_uid not in _trusted():
        yield f"{above} belongs to user {seen.st_uid}"
    elif _open(seen) and (lasting or not seen.st_mode & stat.S_ISVTX):
        yield f"{above} can be written by others"


def _open(seen: os.stat_result) -> bool:
    """Whether others write in it. A group that is the user's own, by the custom that its number is his, is nobody."""
    own_group = seen.st_gid == 0 or seen.st_gid == os.getgid() == os.getuid()
    return bool(seen.st_mode & OTHERS) or (bool(seen.st_mode & stat.S_IWGRP) and not own_group)


def _trusted() -> tuple[int, ...]:
    """Root and ourselves. In a user namespace all whom it does not know have one number (user_namespaces(7))."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:  # noqa: PTH123 - quicker to load
            whole = _ALL_IDS in file.read().split()
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as file:  # noqa: PTH123
            unknown = int(file.read())
    except (OSError, ValueError):
        return (0, os.getuid())
    return (0, os.getuid()) if whole else (0, os.getuid(), unknown)


def _own_fault(directory: str) -> str:
    seen = os.lstat(directory)
    if not stat.S_ISDIR(seen.st_mode):
        return f"{directory} is not a directory"
    if seen.st_uid != os.getuid():
        return f"{directory} belongs to user {seen.st_uid}"
    return f"{directory} is open to other users" if seen.st_mode & EVERYBODY_ELSE else ""


if __name__ == "__main__":
    sys.exit(any(fault(path) for path in sys.argv[1:]))
