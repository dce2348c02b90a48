"""Resolves untrusted paths below one directory, by descriptor: links are followed as chroot(2) would, `..` stops at the
top, nothing outside can be reached. No other process changes the tree at the same time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

MOST_NAME, MOST_PATH = 255, 4095  # bytes (limits.h)
MOST_DEPTH = 200  # directories in each other: who walks the tree has one open for each
MOST_LINKS = 40  # followed for one name, as in the kernel
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Path = tuple[bytes, ...]  # components from the top


class BadNameError(ValueError):
    """What is wrong with a name, in words."""


@dataclass(frozen=True)
class Place:
    """A directory, open. `path`: without links in it."""

    descriptor: int
    path: Path


def components(name: bytes) -> Path:
    """Of a name, from the top. Raises BadNameError for one that no file may have."""
    parts = tuple(word for word in name.split(b"/") if word not in (b"", b"."))
    if b".." in parts:
        raise BadNameError(f"the name {shown(name)} contains `..`")
    if b"\0" in name or len(name) > MOST_PATH or any(len(part) > MOST_NAME for part in parts):
        raise BadNameError(f"the name {shown(name)} is too long, or none")
    if len(parts) > MOST_DEPTH:
        raise BadNameError(f"directories are nested more than {MOST_DEPTH} deep")
    return parts


def shown(name: bytes) -> str:
    """For a message: short, and nothing that a terminal obeys."""
    text = ascii(name.decode("utf-8", "surrogateescape"))[1:-1]
    return f"`{text[:100]}…`" if len(text) > 100 else f"`{text}`"  # noqa: PLR2004


@contextlib.contextmanager
def opened(name: bytes, at: int) -> Iterator[int]:
    """A directory by its name in another one; a link is none. Raises OSError."""
    descriptor = os.open(name, _DIRECTORY, dir_fd=at)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def walked(root: int, parts: Path) -> Iterator[Place]:
    """`walk` to what is there; closed again. Raises OSError, BadNameError."""
    place = walk(root, parts)
    try:
        yield place
    finally:
        os.close(place.descriptor)


def walk(root: int, parts: Path, make: Callable[[bytes], None] | None = None) -> Place:
    """The directory `parts` lead to, open for the caller to close. `make`: gets the name of each one that is missing,
    which is made then.

    Raises OSError (NotADirectoryError where a file is in the way), BadNameError, and what `make` raises.
    """
    here = [os.dup(root)]
    path: list[bytes] = []
    waiting, links = list(reversed(parts)), 0
    try:
        while waiting:
            name = waiting.pop()
            if name == b"..":  # of a link's target
                _up(here, path)
                continue
            target = _step(here, path, name, make)
            if target is None:
                continue
            links += 1
            if links > MOST_LINKS:
                raise BadNameError(f"more than {MOST_LINKS} symbolic links in a chain")
            while target.startswith(b"/") and path:
                _up(here, path)
            waiting += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
        return Place(here.pop(), tuple(path))
    finally:
        for descriptor in here:
            os.close(descriptor)


def _up(here: list[int], path: list[bytes]) -> None:
    if path:
        path.pop()
        os.close(here.pop())


def _step(here: list[int], path: list[bytes], name: bytes, make: Callable[[bytes], None] | None) -> bytes | None:
    """One component further; the target where it is a link."""
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=here[-1])
    except FileNotFoundError:
        if make is None:
            raise
        make(name)
        os.mkdir(name, 0o755, dir_fd=here[-1])
        descriptor = os.open(name, _DIRECTORY, dir_fd=here[-1])
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP) and stat.S_ISLNK(os.lstat(name, dir_fd=here[-1]).st_mode):
            return os.readlink(name, dir_fd=here[-1])
        raise
    here.append(descriptor)
    path.append(name)
    if len(path) > MOST_DEPTH:
        raise BadNameError(f"directories are nested more than {MOST_DEPTH} deep")
    return None
