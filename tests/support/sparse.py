"""Files of gigabytes that are mostly holes: what is in them, without reading zeros."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


def extents(path: Path) -> Iterator[tuple[int, bytes]]:
    """Where data begins, and the data, to the next hole."""
    at, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # only a hole is left
                return
            end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            yield at, os.pread(file.fileno(), end - at, at)
            at = end
