"""A sandbox's lock: held with flock(2) by the process that supervises it, or changes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def taken(handle: IO[str]) -> bool:
    """Take the lock, if nobody has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def there(handle: IO[str], path: Path) -> bool:
    """Whether the lock is still where it was opened: its sandbox may have gone to the trash meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    return False


def held(path: Path) -> bool:
    """Whether somebody has the lock. Who asks has it for an instant, too."""
    with contextlib.suppress(FileNotFoundError), path.open("r") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextlib.contextmanager
def tried(path: Path) -> Iterator[bool]:
    """Have the lock while the block lasts; False when somebody else has it, or it is gone."""
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(path.open("r"))
        except OSError:
            yield False
            return
        yield taken(handle) and there(handle, path)
