"""Parts of a copy that are moved out of it for a while."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def aside(copy: Path, roots: Iterable[str], place: Path) -> Iterator[None]:
    """`roots` of `copy` are in the new directory `place` meanwhile, on the same file system. The directories they were
    in keep their modes and times, without them and with them again.
    """
    place.mkdir(mode=0o700)
    pairs = [(copy / root, place / str(number)) for number, root in enumerate(roots)]
    parents = {source.parent for source, _ in pairs}
    try:
        with _writable(parents):
            for source, target in pairs:
                _move(source, target)
        yield
    finally:
        with _writable(parents):
            for source, target in pairs:
                if os.path.lexists(target):
                    _move(target, source)


def _move(source: Path, target: Path) -> None:
    seen = source.lstat()
    if not stat.S_ISDIR(seen.st_mode):
        source.rename(target)
        return
    source.chmod(seen.st_mode | stat.S_IRWXU)  # its `..` is written
    source.rename(target)
    _dress(target, seen)


@contextlib.contextmanager
def _writable(directories: Iterable[Path]) -> Iterator[None]:
    before = {path: path.stat() for path in directories}
    try:
        for path, seen in before.items():
            path.chmod(seen.st_mode | stat.S_IRWXU)
        yield
    finally:
        for path, seen in before.items():
            _dress(path, seen)


def _dress(directory: Path, seen: os.stat_result) -> None:
    directory.chmod(stat.S_IMODE(seen.st_mode))
    os.utime(directory, ns=(seen.st_atime_ns, seen.st_mtime_ns))
