"""Which state directory belongs to which repository, wherever the repository is now.

A state directory keeps the name it was made with. `repository.json` in it says whose it is, where that was last seen,
and which directory it was (device and inode). Of two repositories with one identity, one is a copy of the other:
the one that is where, and what, was last seen keeps it, and the other gets an identity of its own at its first use.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from git_sandbox import files, jsontext, locks, paths
from git_sandbox.errors import HostResourceError
from git_sandbox.git import gitdirs, identity
from git_sandbox.git.identity import Place, RepositoryId
from git_sandbox.git.repo import Repository

if TYPE_CHECKING:
    from git_sandbox.projectfile import Consent

FILE = "repository.json"
SCHEMA = 1
_META = "refs/sandbox-meta"
_MOST = 1 << 16  # bytes of a `repository.json`; a path has at most 4096


class Seen(msgspec.Struct, frozen=True):
    """`repository.json`: the repository, and where it was last seen."""

    id: str
    common_dir: str
    device: int
    inode: int
    schema: int = SCHEMA

    @property
    def path(self) -> Path:
        return Path(self.common_dir)

    @property
    def worktree(self) -> Path:
        """What a user calls the repository's place: the main worktree, or else the git directory."""
        return self.path.parent if self.path.name == ".git" else self.path

    def is_at(self, place: Path) -> bool:
        """Whether the directory at `place`, which has this identity, is the very one that was seen."""
        with contextlib.suppress(OSError):
            return Place.of(place) == Place(self.device, self.inode)
        return False

    def holds(self) -> bool:
        """Whether a repository of this identity is still there, of whatever inode: it may have been restored."""
        return identity.read(self.path) == self.id and gitdirs.is_git_dir(self.path)

    def original(self) -> bool:
        """Whether what was seen is still there. Not its device: that can be another one after the host has booted."""
        with contextlib.suppress(OSError):
            return self.holds() and Place.of(self.path).inode == self.inode
        return False


class StateDirectory(msgspec.Struct, frozen=True):
    """What is kept of one repository's sandboxes. `seen` None: from before repositories had an identity."""

    root: Path
    seen: Seen | None

    @property
    def key(self) -> str:
        return self.root.name

    @property
    def record_keys(self) -> list[_RecordKey]:
        """Of each sandbox whose record can be read."""
        repositories = []
        for record in sorted(self.root.glob("*/record.json")):
            with contextlib.suppress(OSError, ValueError):
                repositories.append(_record_key(files.read(record, files.RECORD)))
        return [repository for repository in repositories if repository is not None]


def find(repo: Repository) -> Path | None:
    """The state directory of the repository; None when it has none.

    What is found out on the way is noted: that it was moved, or is a copy, or has one from before identities.
    """
    common = _real(repo.common_dir)
    known = _of(identity.read(common))
    if known is not None and known.seen is not None and known.seen.path == common and known.seen.is_at(common):
        return known.root
    if not paths.state_root().is_dir():
        return None
    with alone():
        return _settled(repo, common)


def claim(repo: Repository) -> Path:
    """The state directory of the repository, made when it has none.

    Raises HostResourceError where its identity or the directory cannot be written.
    """
    directory = find(repo)
    if directory is not None:
        return directory
    common = _real(repo.common_dir)
    paths.private_directory(paths.state_root())
    with alone():
        directory = _settled(repo, common)  # somebody else may have been faster
        if directory is not None:
            return directory
        name = identity.read(common) or identity.give(common)
        root = paths.private_directory(paths.state_root() / f"{_slug(common)}-{name}")
        _note(root, name, common)
        return root


def every() -> list[StateDirectory]:
    """Those of all repositories, by name."""
    root = paths.state_root()
    if not root.is_dir():
        return []
    directories = sorted(
        directory for directory in root.iterdir() if directory.is_dir() and not directory.name.startswith(".")
    )
    return [StateDirectory(directory, _load(directory)) for directory in directories]


def whereabouts(root: Path) -> Path | None:
    """The common git directory of the repository to which the state directory `root` belongs; None when it is gone."""
    seen = _load(root)
    return seen.path if seen is not None and seen.holds() else None


def consent(repo: Repository) -> Consent:
    """Where it is remembered that the user has agreed to this repository's project file."""
    from git_sandbox.projectfile import Consent  # late: `ls` does without

    return Consent(lambda: find(repo), lambda: claim(repo), lambda: identity.read(_real(repo.common_dir)) or "")


def _of(name: RepositoryId | None) -> StateDirectory | None:
    """The one with that identity; its name says so, unless it is older than identities."""
    if name is None or not paths.state_root().is_dir():
        return None
    for path in paths.state_root().iterdir():
        if path.name.endswith(f"-{name}") and ((seen := _load(path)) is None or seen.id == name):
            return StateDirectory(path, seen)
    return next((state for state in every() if state.seen and state.seen.id == name), None)


def _settled(repo: Repository, common: Path) -> Path | None:
    """Decide who `repo` is; nobody else does so meanwhile."""
    name = identity.read(common)
    known = _of(name)
    if name is not None and known is not None:
        if not _copied(known.seen, common):
            with contextlib.suppress(HostResourceError):  # then it is found out once more
                _note(known.root, name, common)
            return known.root
        name = None
        with contextlib.suppress(HostResourceError):  # nothing can be written there: it is only looked at
            name = identity.give(common)
    left = _of_this_repository(repo, common)
    if left is None:
        return None
    with contextlib.suppress(HostResourceError):
        _note(left.root, name or identity.give(common), common)
    return left.root


def _copied(seen: Seen | None, common: Path) -> bool:
    """Whether `common` has its identity from another directory, which is still where it was seen."""
    return seen is not None and not seen.is_at(common) and seen.path != common and seen.original()


def _of_this_repository(repo: Repository, common: Path) -> StateDirectory | None:
    """A state directory that nobody else has and that is this repository's, as something in the repository proves.

    From before there were identities, or of one whose identity was lost. Another repository at the same path has to
    bring more than its path: the copies of the records (`refs/sandbox-meta`), or files as old as the sandboxes.
    """
    former = paths.former_key(common)
    free = [state for state in every() if state.seen is None or not state.seen.holds()]
    pinned: set[str] | None = None
    for state in free:
        if state.seen is None and state.key == former and _older(common, state):
            return state
        if pinned is None:
            pinned = _pinned(repo)
        if pinned and _unclaimed(state, common) and any(repository.mark in pinned for repository in state.record_keys):
            return state
    return None


def _unclaimed(state: StateDirectory, common: Path) -> bool:
    """Whether no other repository can come and ask for it: one from before identities may still be where it was."""
    if state.seen is not None:
        return True
    places = {Path(repository.common_dir) for repository in state.record_keys}
    return all(place == common or not gitdirs.is_git_dir(place) for place in places)


class _RecordKey(msgspec.Struct, frozen=True):
    """What tells one record from all others, and where its repository was."""

    id: str
    created: float
    snapshot: str
    common_dir: str

    @property
    def mark(self) -> str:
        return f"{self.id} {self.created!r} {self.snapshot}"


def _record_key(encoded: bytes) -> _RecordKey | None:
    with contextlib.suppress(ValueError):
        return jsontext.decode(encoded, _RecordKey)
    return None


def _pinned(repo: Repository) -> set[str]:
    """The marks of the records of which a copy is in the repository."""
    tags = [repo.git.run("cat-file", "tag", value, ok=(0, 1, 128)) for value in repo.refs(_META).values()]
    return {repository.mark for tag in tags if (repository := _record_key(tag.partition(b"\n\n")[2]))}


def _older(common: Path, state: StateDirectory) -> bool:
    """Whether something in the git directory was there before the first sandbox was made."""
    with contextlib.suppress(OSError, ValueError):
        first = min(repository.created for repository in state.record_keys)
        return min(entry.lstat().st_mtime for entry in common.iterdir()) < first
    return False


def _slug(common: Path) -> str:
    worktree = common.parent if common.name == ".git" else common
    return re.sub(r"[^a-z0-9]+", "-", worktree.name.lower()).strip("-")[:24] or "repo"


def _load(root: Path) -> Seen | None:
    with contextlib.suppress(OSError, ValueError):
        known = jsontext.load(root / FILE, Seen, _MOST)
        return known if identity.is_id(known.id) else None
    return None


def _note(root: Path, name: RepositoryId, common: Path) -> None:
    """Write down where it is now."""
    place = Place.of(common)
    fresh = root / f"{FILE}.new"
    try:
        with files.opened(fresh, "wb") as out:
            out.write(jsontext.encode(Seen(name, os.fspath(common), place.device, place.inode), indent=2))
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(root / FILE)
    except OSError as error:
        raise HostResourceError(f"cannot write {root / FILE}", cause=error.strerror or str(error)) from error


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """One process of this user's at a time decides."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # where nothing can be written, nobody does
            lock = stack.enter_context(files.opened(paths.state_root() / ".registry.lock", "a"))
            locks.awaited(lock, within=locks.BRIEFLY, what="looks for repositories")
        yield


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
