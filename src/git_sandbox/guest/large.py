"""Files too large to export: one of them must not hold back everything else.

The host takes no file above 4 GiB, and hashing one without end takes for ever. A live machine does not look for them,
that costs time at every way home; but one that has failed is followed by a rescue machine, and that one does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from git_sandbox.guest import protocol

MOST = protocol.MAX_BLOB  # bytes of all uncommitted files together


def careful() -> bool:
    """Whether this is a rescue machine, which has seen nobody but us."""
    return f"{protocol.MODE}={protocol.RESCUE}" in Path("/proc/cmdline").read_text("utf-8", "replace").split()


def beyond(top: str, paths: Iterable[bytes], most: int = MOST) -> list[tuple[bytes, int]]:
    """Which files below `top` have to stay so that the others are no more than `most` bytes, with their sizes; the
    largest last.
    """
    sizes = []
    for path in paths:
        try:
            sizes.append((os.lstat(os.path.join(os.fsencode(top), path)).st_size, path))  # noqa: PTH118 - bytes
        except OSError:
            continue  # deleted
    total = 0
    out = []
    for size, path in sorted(sizes):
        total += size
        if total > most:
            out.append((path, size))
    return out
