"""Common code of the caches: entries are directories, complete or absent, and can be rebuilt.

An entry has its name only once everything in it is there; its description is the file that says what it is. What a
dead build left has a name with a dot and no lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from git_sandbox import files, locks, paths
from git_sandbox.errors import StateError
from git_sandbox.later import dataclass

BLOCK = 512  # bytes; what st_blocks counts
UNLOCKED = 60.0  # seconds; a build without a lock that is older is dead
_LOCK = ".lock"


@dataclass(frozen=True)
class Entries:
    """The entries below `root`. `description`: name of the file in each that says what it is."""

    root: Path
    description: str

    def every(self) -> list[Path]:
        """All that are complete, by name."""
        try:
            names = sorted(self.root.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [path for path in names if not path.name.startswith(".") and path.is_dir()]

    def find(self, name: str) -> Path | None:
        """The entry of that name, which may be anything."""
        place = self.root / name
        usable = name and "/" not in name and not name.startswith(".")
        return place if usable and os.path.exists(place / self.description) else None  # noqa: PTH110 - pathlib raises

    @contextlib.contextmanager
    def turn(self, *, within: float, what: str) -> Iterator[bool]:
        """The right to build, for one process at a time; False when another one has it for `within` seconds, or at once
        when that is 0. What dead builds left goes first.
        """
        with files.opened(paths.private_directory(self.root) / _LOCK, "w") as handle:
            if within:
                locks.awaited(handle, within=within, what=what)
            elif not locks.taken(handle):
                yield False
                return
            self.sweep(unlocked=0.0)
            yield True

    @contextlib.contextmanager
    def building(self) -> Iterator[Path]:
        """A private directory to build in, on the cache's file system. It goes unless it was published."""
        place = paths.private_directory(self.root) / f".build-{os.getpid()}-{time.time_ns()}"
        place.mkdir(mode=0o700)
        with files.opened(place / _LOCK, "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def publish(self, place: Path, name: str, describe: Callable[[], bytes], *, durable: bool = True) -> Path:
        """Make what was built in `place` the entry `name`; the files of one that is there stay until the next `sweep`.

        `durable`: all of it is on the disk before it is seen.
        """
        for path in place.iterdir() if durable else ():
            _sync(path)  # of gigabytes it takes minutes, in which a `sweep` has to see the lock
        (place / _LOCK).unlink()
        files.write(place / self.description, describe())
        for path in (place / self.description, place) if durable else ():
            _sync(path)
        final = self.root / name
        if final.exists():
            self.hide(final)
        place.rename(final)
        return final

    def hide(self, entry: Path) -> Path | None:
        """Take it out of sight in one step; None when another process has."""
        hidden = self.root / f".gone-{time.time_ns()}"
        with contextlib.suppress(OSError):
            return entry.rename(hidden)
        return None

    def remove(self, entry: Path) -> bool:
        """Who has it open, or a link to it, keeps its files. False where nothing can be removed."""
        if hidden := self.hide(entry):
            shutil.rmtree(hidden, ignore_errors=True)
        return not entry.exists()

    @contextlib.contextmanager
    def used(self, entry: Path, what: str) -> Iterator[None]:
        """Keep it from `remove_unused`. Raises OSError when it is not there, StateError after a while."""
        with (entry / self.description).open("rb") as handle:
            locks.awaited(handle, within=locks.BRIEFLY, what=what, shared=True)
            yield

    def remove_unused(self, entry: Path) -> bool:
        """`remove`, unless something uses it. Raises BlockingIOError then."""
        with contextlib.ExitStack() as stack:
            try:
                handle = stack.enter_context((entry / self.description).open("rb"))
            except OSError:  # half removed already
                return self.remove(entry)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self.remove(entry)

    def remove_image(self, entry: Path) -> None:
        """Raises StateError while a machine runs from it."""
        try:
            self.remove_unused(entry)
        except BlockingIOError:
            raise StateError(
                f"image {entry.name} is in use",
                hint="stop the sandboxes that use it: `sandbox ls` in their repositories",
            ) from None

    def sweep(self, *, unlocked: float = UNLOCKED) -> None:
        """Remove what dead builds and removals left. `unlocked`: seconds that one without a lock may still be alive."""
        for place in self.root.glob(".*/"):
            if not _in_use(place, unlocked):
                shutil.rmtree(place, ignore_errors=True)


def size(entry: Path) -> int:
    """Bytes on disk. Raises OSError."""
    return sum(path.stat().st_blocks * BLOCK for path in entry.iterdir())


def _in_use(place: Path, unlocked: float) -> bool:
    """Whether a build goes on there. Its lock comes an instant after the directory, and goes one before it is done."""
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError), (place / _LOCK).open("r") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
        return place.stat().st_mtime > time.time() - unlocked
    return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
