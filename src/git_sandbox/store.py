"""One sandbox: created, opened, moved to the trash, with its lock held. `entries` lists them.

A sandbox is a directory (`SandboxDir`) and refs in the repository; each of the two can exist without the other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from git_sandbox import claims, files, registry
from git_sandbox import record as noted
from git_sandbox.entries import (
    Entry,
    State,
    directory,
    entries,
    entries_and_starts,
    entries_in,
    find,
    names,
    ref_ids,
    refs_by_id,
    starts,
    state_directory,
)
from git_sandbox.errors import RepositoryError, StateError
from git_sandbox.git.anchor import Anchor
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs, sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.guest.protocol import WORKSPACE
from git_sandbox.record import NestedRecord, Record, decode, load
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.trash import note as trashed

if TYPE_CHECKING:
    from git_sandbox.trash.note import Note
    from git_sandbox.trash.objects import Holder

# Beside what is defined here: the sandboxes there are, and what is noted of each.
__all__ = [
    "WORKSPACE", "Entry", "NestedRecord", "Record", "State", "decode", "directory", "entries", "entries_and_starts",
    "entries_in", "find", "load", "names", "ref_ids", "refs_by_id", "starts", "state_directory",
]  # fmt: skip


class SandboxHandle(msgspec.Struct):
    """A sandbox of ours: its directory with the lock held. `visiting`: that belongs to another repository."""

    begun: Repository
    id: SandboxId
    directory: SandboxDir
    visiting: bool = False
    elsewhere: bool = False  # another machine has its job, or may have it, or had it: it stays without a disk
    anchor: Anchor | None = None  # while the block of `create` or `open_existing` lasts

    @property
    def repo(self) -> Repository:
        """The repository, where it is now. Raises RepositoryError when it is gone."""
        if self.anchor is not None:
            try:
                self.begun = self.anchor.repository()
            except RepositoryError as error:
                name = f"{self.directory.root.parent.name}/{self.id}"
                hint = f"its work stays on its disk: `sandbox recover {name} --into REPO` recovers it into another one"
                raise RepositoryError(error.message, hint=hint) from None
        return self.begun

    @property
    def homeless(self) -> bool:
        """Whether the repository is gone."""
        try:
            return not self.repo.common_dir.is_dir()
        except RepositoryError:
            return True

    @contextlib.contextmanager
    def anchored(self) -> Iterator[SandboxHandle]:
        """Follow the repository wherever it is moved while the block lasts."""
        self.anchor = Anchor(self.begun, lambda: registry.whereabouts(self.directory.root.parent))
        try:
            yield self
            with contextlib.suppress(RepositoryError):
                self.begun = self.repo
        finally:
            self.anchor.close()
            self.anchor = None

    @property
    def refs(self) -> SandboxRefs:
        return SandboxRefs(self.id)

    def save(self, record: Record, refs: Mapping[RefName, Oid] | None = None) -> Record:
        """Write the record durably, with the refs that the sandbox has here now; git says which when none are given."""
        if self.visiting or (refs is None and self.homeless):
            refs = {}
        elif refs is None:
            refs = self.repo.refs(*self.refs.patterns)
        return noted.save(self.directory, record, refs)

    def remember(self, refs: Mapping[RefName, Oid], inner: Mapping[str, Mapping[RefName, Oid]] | None = None) -> None:
        """Note what came home: the sandbox's `refs` here; `inner`: into the user's repositories inside."""
        if not self.visiting:
            noted.remember(self.directory, refs, inner)


@contextlib.contextmanager
def reopened(handle: SandboxHandle, entry: Entry) -> Iterator[Record]:
    """Note that a stopped sandbox runs again, by us: its machine starts after the block. When that is left by an error
    nothing ran, and the record is what it was. Raises StateError when it is damaged.
    """
    before = entry.record
    if before is None:
        raise unreadable(entry)
    try:
        yield handle.save(
            msgspec.structs.replace(before, pid=os.getpid(), brought_home=None, exit_code=None, terminal=False)
        )
    except BaseException:
        handle.save(before)
        raise


def unreadable(entry: Entry) -> StateError:
    """A spawn that was killed at once leaves no record; anything else has damaged it."""
    name = entry.id
    hint = f"`sandbox recover {name}`" if entry.directory.has_disk() else f"nothing ran: `sandbox drop {name}`"
    return StateError(f"the record of sandbox `{name}` cannot be read", cause=f"in {entry.directory.root}", hint=hint)


@contextlib.contextmanager
def followed(repo: Repository) -> Iterator[Callable[[], Repository]]:
    """Says where the repository is now, for whoever waits for long while it may be moved. Raises RepositoryError then
    when it is gone.
    """
    root = registry.find(repo)
    anchor = Anchor(repo, lambda: registry.whereabouts(root) if root else None)
    try:
        yield anchor.repository
    finally:
        anchor.close()


@contextlib.contextmanager
def create(repo: Repository, name: str | None) -> Iterator[SandboxHandle]:
    """A new sandbox with its lock held. The directory is removed again unless it has a disk when the block ends, or
    another machine has its job.
    """
    root = registry.claim(repo)
    names(repo, root)
    own = SandboxRefs(sandbox_id(name)) if name is not None else None  # of thousands one is looked at
    taken = ({own.name} if repo.refs(*own.patterns) else set()) if own else ref_ids(repo)
    directory = SandboxDir(claims.claim(root, name, taken))
    handle = SandboxHandle(repo, SandboxId(directory.root.name), directory)
    with claims.lock(directory), handle.anchored():
        try:
            yield handle
        finally:
            if not (directory.has_disk() or handle.elsewhere):
                _delete(directory)


def trash(handle: SandboxHandle, why: str, holders: Sequence[Holder]) -> Note:
    """Remove a sandbox from sight, whole: the one way for what may have something of the user's in it.

    `why`: as in `trash.note.EXPIRES`. `holders`: the repositories with refs of it (`sandbox/parts`). Raises StateError
    or HostResourceError: nothing has changed then.
    """
    from git_sandbox.trash import expiry, moving

    directory = SandboxDir(registry.claim(handle.repo) / handle.id)  # of a sandbox that is only refs there may be none
    noted_in_trash = moving.put(directory, holders, why)
    expiry.add(noted_in_trash)
    return noted_in_trash


def trash_directory(directory: SandboxDir, why: str) -> Note:
    """The same for a sandbox whose repository is gone: a directory is all there is of it. Takes its lock."""
    from git_sandbox.trash import expiry, moving

    with claims.lock(directory):
        noted_in_trash = moving.put(directory, (), why)
    expiry.add(noted_in_trash)
    return noted_in_trash


def delete(handle: SandboxHandle, *, name_too: bool = True) -> None:
    """Delete a sandbox in which no session was ever open, so that nothing of the user's is in it, with its refs.

    `name_too` False: its directory and lock stay ours, for another attempt.
    """
    from git_sandbox.trash import moving, objects

    objects.forget(handle.repo.git, handle.repo.refs(*handle.refs.patterns))
    if name_too:
        _delete(handle.directory)
    else:
        moving.reset(handle.directory)


def _delete(directory: SandboxDir) -> None:
    from git_sandbox.trash import moving

    if directory.root.is_dir():
        with trashed.locked(directory.root.parent):
            moving.delete(directory)
        directory.forget_sockets()


@contextlib.contextmanager
def open_existing(repo: Repository, name: str) -> Iterator[tuple[SandboxHandle, Entry]]:
    """An existing sandbox with its lock held. Raises StateError when it runs, or does not exist."""
    entry = find(repo, name)
    if not entry.directory.root.is_dir():
        yield SandboxHandle(repo, entry.id, entry.directory), entry
        return
    with claims.lock(entry.directory), SandboxHandle(repo, entry.id, entry.directory).anchored() as handle:
        yield handle, entry


def remember(repo: Repository, name: str) -> None:
    """Note the refs that a sandbox has now: a merge has made one, say."""
    place = directory(repo, name)
    if place.root.is_dir():
        noted.remember(place, repo.refs(*SandboxRefs(sandbox_id(name)).patterns))


@contextlib.contextmanager
def reserved(repo: Repository, ident: SandboxId) -> Iterator[Path]:
    """An empty directory for another repository's sandbox in this one's, named `ident` if that is free. It goes again
    unless something has taken its place.
    """
    root, taken = registry.claim(repo), set(ref_ids(repo))
    free = ident not in taken and ident not in trashed.ids(root) and claims.make(root / ident)
    place = root / ident if free else claims.claim(root, None, taken)
    try:
        yield place
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()


@contextlib.contextmanager
def opened(repo: Repository, entry: Entry, name: str) -> Iterator[SandboxHandle]:
    """A sandbox of another repository, with its lock held, as one of `repo` that is called `name`."""
    with (
        claims.lock(entry.directory),
        SandboxHandle(repo, SandboxId(name), entry.directory, visiting=True).anchored() as handle,
    ):
        yield handle


@contextlib.contextmanager
def recovering(directory: SandboxDir) -> Iterator[None]:
    """While the block runs, whoever looks at the sandbox sees that its disk is being read. Its lock must be held."""
    with contextlib.suppress(OSError):  # only for show, and the disk may be full
        files.write(directory.recovering, b"")
    try:
        yield
    finally:
        directory.recovering.unlink(missing_ok=True)


def pin(handle: SandboxHandle, record: Record, base: Oid) -> dict[RefName, Oid]:
    """Put base (`refs/sandbox-base`) and JSON record (`refs/sandbox-meta`, a tag object) into the repository; these
    refs.
    """
    git = handle.repo.git
    meta = noted.tag(git, record, base)
    lines = f"update {handle.refs.base} {base}\nupdate {handle.refs.meta} {meta}\n"
    git.run("update-ref", "--stdin", input=lines.encode())
    return {handle.refs.base: base, handle.refs.meta: meta}
