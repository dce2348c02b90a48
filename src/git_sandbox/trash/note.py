"""The contents of a repository's trash, and the note about each sandbox there.

The trash is `.trash` beside the sandboxes: a sandbox goes there by one rename, so it never crosses a file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, paths
from git_sandbox.errors import HostResourceError, StateError
from git_sandbox.git.names import Oid, RefName, SandboxId, is_sandbox_id
from git_sandbox.sandbox_dir import SandboxDir

SCHEMA = 1
UNCHANGED, DROPPED = "unchanged", "dropped"
DELIVERED = "delivered"  # a job of another machine, which has acknowledged the result
EXPIRES = (
    UNCHANGED,
    DROPPED,
    DELIVERED,
)  # why something may be deleted without being named; whatever else is there stays
REMNANT = ".remnant-"  # before the id of what is being deleted
FRESH = ".fresh-"  # before the id of what is being made
PATIENCE = 60.0  # seconds to wait for another process that changes the same trash


class Part(msgspec.Struct, frozen=True):
    """The refs of a sandbox in one repository. `key`: empty for the one it is a sandbox of, else the git directory of a
    repository inside, as the guest names it. `logs`: what each ref pointed at before, oldest first. `pack`: a file in
    `SandboxDir.trash_packs`. `unpacked`: refs of which objects were missing or damaged by then.
    """

    key: str
    git_dir: str
    refs: dict[str, str]
    logs: dict[str, list[str]] = {}
    pack: str | None = None
    unpacked: tuple[str, ...] = ()


class Note(msgspec.Struct, frozen=True):
    """`trash.json`. `directory` False: nothing but refs was left of the sandbox. `size`: bytes that go with it."""

    id: str
    when: float  # seconds since the epoch
    why: str
    directory: bool
    parts: tuple[Part, ...]
    size: int = 0
    schema: int = SCHEMA


class Trashed(msgspec.Struct, frozen=True):
    """A sandbox in the trash. `note` None: damaged; it never expires, and can be restored without its refs."""

    id: SandboxId
    directory: SandboxDir
    note: Note | None

    @property
    def repository(self) -> Path:
        """The state directory of the repository it is a sandbox of."""
        return self.directory.root.parent.parent

    @property
    def expires(self) -> bool:
        return self.note is not None and self.note.why in EXPIRES

    @property
    def when(self) -> float:
        return self.note.when if self.note else 0.0

    @property
    def size(self) -> int:
        return self.note.size if self.note else 0


def ids(root: Path) -> set[SandboxId]:
    """Names that are not given out again: of what is in the trash, and of what is on its way out of it."""
    ids_found = set()
    for name in _names(root):
        bare = name.removeprefix(REMNANT)
        if is_sandbox_id(bare):
            ids_found.add(SandboxId(bare))
    return ids_found


def holds(root: Path, name: SandboxId) -> bool:
    """Whether `name` is one of `ids`, without a look at others."""
    trash = paths.trash_root(root)
    return any(place.is_dir() and not place.is_symlink() for place in (trash / name, trash / f"{REMNANT}{name}"))


def _names(root: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(paths.trash_root(root)) as rows:
        return sorted(row.name for row in rows if row.is_dir(follow_symlinks=False))
    return []


def listed(root: Path) -> list[Trashed]:
    """What can be restored, oldest first."""
    trashed = [read(root, SandboxId(name)) for name in _names(root) if is_sandbox_id(name)]
    return sorted((item for item in trashed if item), key=lambda item: (item.when, item.id))


def remnants(root: Path) -> list[Path]:
    """What a process that was killed has not finished deleting, or making."""
    return [paths.trash_root(root) / name for name in _names(root) if name.startswith((REMNANT, FRESH))]


def everywhere() -> list[Path]:
    """The state directories of all repositories that have a trash."""
    return sorted(path.parent for path in paths.state_root().glob("*/.trash") if path.is_dir())


def read(root: Path, name: SandboxId) -> Trashed | None:
    directory = SandboxDir(paths.trash_root(root) / name)
    if not directory.root.is_dir() or directory.root.is_symlink():
        return None
    try:
        return Trashed(name, directory, jsontext.load(directory.trash_note, Note))
    except (OSError, ValueError):
        return Trashed(name, directory, None)


def leftover(trashed: Trashed, refs: Mapping[RefName, Oid] | Mapping[str, str]) -> bool:
    """Whether `refs` are what a process that was killed has not removed: the trash has all of them."""
    part = next((row for row in trashed.note.parts if not row.key), None) if trashed.note else None
    if part is None:
        return False
    return all(value == part.refs.get(name) or value in part.logs.get(name, ()) for name, value in refs.items())


@contextlib.contextmanager
def locked(root: Path, *, patience: float = PATIENCE) -> Iterator[None]:
    """Nobody else changes the trash of that repository meanwhile. StateError when somebody does for too long.

    Who holds this never waits for the lock of a sandbox; who waits for it may hold one.
    """
    paths.private_directory(paths.trash_root(root))
    deadline = time.monotonic() + patience
    with files.opened(paths.trash_root(root) / "lock", "a") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StateError("another process is changing the trash", hint="try again in a moment") from None
                time.sleep(0.02)
        yield


def write(directory: SandboxDir, note: Note) -> None:
    """Durably, or not at all. Raises HostResourceError."""
    fresh = directory.trash_note.with_suffix(".new")
    try:
        with files.opened(fresh, "wb") as out:
            out.write(jsontext.encode(note, indent=2))
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(directory.trash_note)
        sync(directory.root)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise HostResourceError(f"cannot write {directory.trash_note}", cause=str(error)) from error


def sync(*directories: Path) -> None:
    """Names in `directories` are as they are now after a power failure, too."""
    for path in directories:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
