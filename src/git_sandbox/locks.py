"""A sandbox's lock: held with flock(2) by the process that supervises or changes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from git_sandbox.errors import StateError

BRIEFLY = 60.0  # seconds for a lock that is held while a file is written
_FIRST_PAUSE = 0.005  # seconds between two looks; twice as long each time
_LONGEST_PAUSE = 0.25


def taken(handle: IO[str]) -> bool:
    """Take the lock, if nobody has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def awaited(
    handle: IO[str] | IO[bytes] | int,
    *,
    within: float,
    what: str,
    shared: bool = False,
    say: Callable[[str], None] | None = None,
) -> None:
    """Take the lock as soon as nobody has it; `say` hears of it when that is not at once.

    `what` it is for ends the sentence "another command …". Raises StateError after `within` seconds: whoever has it may
    be held up by a guest.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    end, pause = time.monotonic() + within, _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(handle, operation)
        except BlockingIOError:
            if time.monotonic() >= end:
                hint = "wait for it, or end it; then try again"
                raise StateError(
                    f"another command {what}", cause=f"it has not ended for {within:g} s", hint=hint
                ) from None
        else:
            return
        if say is not None and pause >= _LONGEST_PAUSE:
            say(f"Waiting: another command {what}")
            say = None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


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
