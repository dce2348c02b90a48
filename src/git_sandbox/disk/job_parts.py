"""The parts of a workspace disk that another machine assembles: the base, and what the guest applies to it.

They stay raw: who gets them decides how to lay one over the other (`workspace_disk.lay`), and no header of an image
format is ever taken from somebody else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from git_sandbox import files
from git_sandbox.disk import ext4
from git_sandbox.disk.delta_archive import Tail
from git_sandbox.later import dataclass

BASE, TAIL = "base.ext4", "tail"
_CHUNK = 1 << 20


def fresh(place: Path) -> Path:
    """Where a base is made that nothing is laid over."""
    place.mkdir(mode=0o700, exist_ok=True)
    for name in (BASE, TAIL):
        (place / name).unlink(missing_ok=True)
    return place / BASE


def keep(place: Path, image: Path, tail: Tail) -> None:
    """Raises FileNotFoundError when the image has gone, OSError for a full disk."""
    share(image, fresh(place))
    with files.opened(place / TAIL, "wb") as out:
        for chunk in tail.chunks():
            out.write(chunk)


def share(image: Path, target: Path) -> None:
    """Another name of an image that is only read, or a copy. Raises FileNotFoundError when it has gone."""
    try:
        os.link(image, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system
        ext4.copy(image, target)


@dataclass(frozen=True)
class StoredTail:
    """A difference that came as a file: what `workspace_disk.lay` needs of a `Tail`."""

    path: Path

    @property
    def size(self) -> int:
        return self.path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
