"""Copies that share their blocks until one of them changes (Btrfs, XFS and others)."""

from __future__ import annotations

import fcntl
from pathlib import Path

FICLONE = 0x40049409  # ioctl of linux/fs.h: all of one file, at once


def clone(source: Path, target: Path) -> None:
    """Make `target`. Raises OSError, and leaves nothing, where blocks cannot be shared."""
    with source.open("rb") as read, target.open("xb") as written:
        try:
            fcntl.ioctl(written.fileno(), FICLONE, read.fileno())
        except BaseException:
            target.unlink()
            raise
