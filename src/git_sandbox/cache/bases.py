"""Images of repositories that later sandboxes of the same repository start from. A cache: everything in it can be
rebuilt.

A base is a directory that is complete or absent and never changes. Sandboxes hold hard links to its image, so it can be
removed at any time. Left-overs and bases of repositories that are gone are removed whenever one is made.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from git_sandbox import jsontext, paths
from git_sandbox.cache import entries
from git_sandbox.cache.entries import Entries
from git_sandbox.later import dataclass

SCHEMA = 5
_INFO = "base.json"


class BaseInfo(msgspec.Struct, frozen=True):
    """`base.json`. Its time of modification is when the base was last used."""

    key: str
    worktree: str
    bytes: int  # of the repository
    built: float  # seconds since the epoch
    schema: int = SCHEMA


@dataclass(frozen=True)
class Base:
    root: Path

    @property
    def image(self) -> Path:
        """A raw ext4 image, never written to."""
        return self.root / "image.ext4"

    @property
    def known(self) -> Path:
        """What is in it (`workspace/incremental.Known`)."""
        return self.root / "known"

    @property
    def info(self) -> BaseInfo:
        """Raises OSError or ValueError."""
        return jsontext.load(self.root / _INFO, BaseInfo)

    @property
    def used(self) -> float:
        """Seconds since the epoch; 0 for one that is being removed."""
        with contextlib.suppress(OSError):
            return (self.root / _INFO).stat().st_mtime
        return 0.0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        with contextlib.suppress(OSError):
            return entries.size(self.root)
        return 0


def bases_root() -> Path:
    return paths.cache_root() / "bases"


def find(repository: str, key: str) -> Base | None:
    """The newest base of that key, noted as used. `repository`: the name of its state directory."""
    fitting = [base for base in _of(bases_root() / repository) if base.root.name.startswith(f"{key}-")]
    for candidate in sorted(fitting, key=lambda base: base.root.name, reverse=True):
        with contextlib.suppress(OSError, ValueError):
            if candidate.info.schema == SCHEMA:
                os.utime(candidate.root / _INFO)
                return candidate
    return None


def every() -> list[Base]:
    root = bases_root()
    return [base for path in sorted(root.iterdir()) for base in _of(path)] if root.is_dir() else []


def _entries(directory: Path) -> Entries:
    return Entries(directory, _INFO)


def _of(directory: Path) -> list[Base]:
    return [Base(path) for path in _entries(directory).every()]


@contextlib.contextmanager
def building(repository: str) -> Iterator[Path]:
    """A private directory to build in. Others may build at the same time."""
    with _entries(bases_root() / repository).building() as place:
        yield place


def publish(place: Path, info: BaseInfo, limit: int) -> Base:
    """Make what was built in `place` the newest base of its key, then keep to `limit` bytes (least used goes first)."""
    base = Base(
        _entries(place.parent).publish(place, f"{info.key}-{time.time_ns():020}", lambda: msgspec.json.encode(info))
    )
    for other in _of(place.parent):
        if other.root.name.startswith(f"{info.key}-") and other.root.name < base.root.name:
            remove(other)
    tidy(limit)
    return base


def tidy(limit: int) -> None:
    """Remove what dead builds left, bases whose worktree is gone, and the least used ones beyond `limit` bytes."""
    for directory in bases_root().glob("*"):
        _entries(directory).sweep()
    total = 0
    for base in sorted(every(), key=lambda candidate: candidate.used, reverse=True):
        total += base.size
        if total > limit or not _needed(base):
            total -= base.size
            remove(base)
    for directory in bases_root().glob("*"):
        with contextlib.suppress(OSError):
            directory.rmdir()  # when it is empty


def _needed(base: Base) -> bool:
    try:
        return Path(base.info.worktree).is_dir()
    except (OSError, ValueError):
        return False


def remove(base: Base) -> bool:
    """Machines that run from it keep their link. False where nothing can be removed."""
    return _entries(base.root.parent).remove(base.root)


def prune() -> int:
    """Remove all that are there, as far as that is possible; how many went."""
    gone = sum(remove(base) for base in every())
    tidy(0)
    return gone
