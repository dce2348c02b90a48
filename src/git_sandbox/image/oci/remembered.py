"""The root image that a source resolved to last time, so that a start needs no registry: one small file in the cache.

Losing it costs a look, nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, paths
from git_sandbox.cache import root_images
from git_sandbox.image.oci import manifest
from git_sandbox.image.oci.source import Source

_FILE, _LOCK = "sources.json", "sources.lock"
MOST = 1000  # sources; the oldest go


class Seen(msgspec.Struct, frozen=True):
    """`key`: of the root image. `digest`: what the source's name stands for: of an index, or the manifest's own.

    `stamp`: of the file it came from, before it was read.
    """

    key: str
    digest: str
    when: float  # seconds since the epoch
    stamp: str = ""


def find(source: Source) -> Seen | None:
    """None where it was never seen, and where the file it is in is another one by now."""
    seen = every().get(_name(source))
    return seen if seen and seen.stamp == source.stamp else None


def every() -> dict[str, Seen]:
    """By architecture and source."""
    try:
        return jsontext.load(root_images.images_root() / _FILE, dict[str, Seen])
    except (OSError, ValueError):
        return {}


def keys() -> dict[str, list[str]]:
    """Sources by the key of their root image."""
    names: dict[str, list[str]] = {}
    for name, seen in every().items():
        names.setdefault(seen.key, []).append(name.partition(" ")[2])
    return names


def remember(source: Source, seen: Seen) -> None:
    """Raises OSError."""
    with _locked() as place:
        known = every() | {_name(source): seen}
        newest = sorted(known.items(), key=lambda row: row[1].when)[-MOST:]
        _write(place, dict(newest))


def forget(key: str) -> None:
    """Everything that a root image, which is gone, was known by."""
    with _locked() as place:
        known = every()
        left = {name: seen for name, seen in known.items() if seen.key != key}
        if left != known:
            _write(place, left)


def _write(place: Path, known: dict[str, Seen]) -> None:
    fresh = place / f"{_FILE}.new"
    files.write(fresh, jsontext.encode(known))
    fresh.replace(place / _FILE)


@contextlib.contextmanager
def _locked() -> Iterator[Path]:
    place = paths.private_directory(root_images.images_root())
    with files.opened(place / _LOCK, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield place


def _name(source: Source) -> str:
    return f"{manifest.architecture()} {source.text}"
