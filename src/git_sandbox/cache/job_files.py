"""Disks received with jobs, by digest: the next job of the same repository does not send them again.

An entry is complete or absent and never changes; sandboxes hold hard links to it, so it can go at any time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from pathlib import Path

from git_sandbox import paths
from git_sandbox.cache import entries
from git_sandbox.cache.entries import Entries

_NAME, _CONTENT = "entry", "content"


def root() -> Path:
    return paths.cache_root() / "jobs"


def _entries() -> Entries:
    return Entries(root(), _NAME)


def find(digest: str) -> Path | None:
    """The file, noted as used."""
    place = root() / digest
    with contextlib.suppress(OSError):
        os.utime(place / _NAME)
        if (place / _CONTENT).is_file():
            return place / _CONTENT
    return None


@contextlib.contextmanager
def arriving() -> Iterator[Path]:
    """Where a file is written that `keep` keeps; it goes otherwise."""
    with _entries().building() as place:
        yield place / _CONTENT


def keep(content: Path, digest: str) -> Path:
    """Its content was proved to have that digest."""
    content.chmod(0o400)
    return _entries().publish(content.parent, digest, digest.encode) / _CONTENT


def tidy(limit: int, keep: Collection[str] = ()) -> None:
    """Remove what dead arrivals left, and the least used files beyond `limit` bytes; those to `keep` stay."""
    own, total = _entries(), 0
    own.sweep()
    for path in sorted(own.every(), key=_used, reverse=True):
        with contextlib.suppress(OSError):
            total += entries.size(path)
        if total > limit and path.name not in keep:
            own.remove(path)


def _used(entry: Path) -> float:
    with contextlib.suppress(OSError):
        return (entry / _NAME).stat().st_mtime
    return 0.0
