"""Disk space on the host while data of unknown size arrives from a guest."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from git_sandbox.errors import HostResourceError

SMALL = 16 << 20  # bytes; what is smaller comes also when the disk is nearly full
SPARE = 1 << 30  # bytes that stay free


def watched(chunks: Iterable[bytes], *places: Path) -> Iterator[bytes]:
    """Pass `chunks` on. Raises HostResourceError when they are more than SMALL and one of `places` has no room left."""
    total = looked = 0
    for chunk in chunks:
        total += len(chunk)
        if total - looked >= SMALL:
            looked = total
            require(0, *places)
        yield chunk


def require(size: int, *places: Path) -> None:
    """Raises HostResourceError unless each of `places` has room for `size` bytes and SPARE more."""
    for place in places:
        free = shutil.disk_usage(place).free
        if free < size + SPARE:
            raise HostResourceError(
                f"this host's disk is too small for the work in the sandbox: {free >> 20} MiB are free",
                cause=f"at {place}; {(size + SPARE) >> 20} MiB are needed",
                hint="free some space, then try again: the sandbox's disk is kept",
            )
