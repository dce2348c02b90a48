"""Temporary files that a failed fetch leaves in the object store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def sweep(directory: Path) -> Iterator[None]:
    """When the block fails, remove temporary packs that appeared in `directory` meanwhile and that nobody has open.

    git leaves them when it is killed or the disk is full. Another git of the user's may be writing one right now.
    """
    before = set(_temporaries(directory))
    try:
        yield
    except BaseException:
        left = set(_temporaries(directory)) - before
        for path in left - _open_files() if left else ():
            path.unlink(missing_ok=True)
        raise


def _temporaries(directory: Path) -> Iterator[Path]:
    # Resolved, to be comparable with what /proc says.
    return directory.resolve().glob("tmp_*")


def _open_files() -> set[Path]:
    names = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            names.add(Path(os.readlink(link)))  # noqa: PTH115 - Path.readlink is the same, slower
    return names
