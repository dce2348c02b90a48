"""Recovers the work of a sandbox into a repository other than its own, which may be gone.

Of a repository that is gone the sandbox itself goes along, with its disk: it is one of the other repository's from then
on. Where its repository is still there it stays, and the other one gets its refs.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from git_sandbox import record as noted
from git_sandbox import registry, store
from git_sandbox.errors import RepositoryError
from git_sandbox.git import snapshot
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.overview import peeled
from git_sandbox.integrate.trees import empty_tree
from git_sandbox.later import dataclass, replace
from git_sandbox.progress import Progress
from git_sandbox.sandbox import remove, retrieve
from git_sandbox.sandbox.everywhere import Located
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.remove import Recovered
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Record, SandboxHandle


@dataclass(frozen=True)
class Transferred:
    """`moved`: the sandbox itself is now one of the other repository's. `warnings` are safe to print."""

    recovered: Recovered
    moved: bool


def into(target: Repository, sandbox: Located, progress: Progress) -> Transferred:
    """Bring home to `target` what is on the disk of a sandbox that does not run.

    Raises RepositoryError when `target` cannot take it, and what `retrieve.rescue` does; then nothing has changed.
    """
    if registry.find(target) == sandbox.of.root:
        return Transferred(remove.recover(target, sandbox.entry.id, progress), moved=False)
    if sandbox.entry.record is None:
        raise store.unreadable(sandbox.entry)
    record = noted.complete(sandbox.entry.directory, sandbox.entry.record)
    if record.object_format != target.object_format:
        raise RepositoryError(
            f"the sandbox has {record.object_format} objects, and {target.worktree} has {target.object_format}",
            hint=f"make one: `git init --object-format={record.object_format} DIRECTORY`",
        )
    with store.reserved(target, sandbox.entry.id) as place, store.opened(target, sandbox.entry, place.name) as handle:
        brought = retrieve.rescue(handle, _unfounded(record, handle), progress)
        founded = _founded(target, record, handle)
        store.pin(handle, founded, _base(target, founded))
        moved = sandbox.common_dir is None
        if moved:
            brought = _along(brought, handle.directory.root, place)
            _move(handle, place, founded)
            retrieve.note(handle, founded, record.exit_code, brought)
        return Transferred(Recovered(str(handle.id), founded, brought), moved)


def _along(brought: Retrieval, old: Path, new: Path) -> Retrieval:
    """What is said of repositories that came into the sandbox's directory, after that has moved."""
    homes = [
        replace(home, git_dir=new / home.git_dir.relative_to(old)) if home.git_dir.is_relative_to(old) else home
        for home in brought.nested.homes
    ]
    return replace(brought, nested=replace(brought.nested, homes=tuple(homes)))


def _unfounded(record: Record, handle: SandboxHandle) -> Record:
    """As if nothing had gone in: nothing of that need be in the other repository. Refs that are there need not come."""
    known = peeled(handle.repo.git, [(Oid(value), "commit") for value in record.refs.values()])
    refs = {name: value for name, value in record.refs.items() if (Oid(value), "commit") in known}
    return msgspec.structs.replace(
        record, id=handle.id, base=None, base_symref=None, index_tree=None, refs=refs, refs_apart=False,
        stash=(), nested=(),
    )  # fmt: skip


def _founded(target: Repository, record: Record, handle: SandboxHandle) -> Record:
    """The record for the other repository, after the import: as much of the start as is there now."""
    objects = [(Oid(value), "commit") for value in (record.base, *record.refs.values()) if value]
    known = {name for name, _ in peeled(target.git, objects)}
    return msgspec.structs.replace(
        record, id=handle.id, worktree=os.fspath(target.worktree), git_dir=os.fspath(target.git_dir),
        common_dir=os.fspath(target.common_dir), base=record.base if record.base in known else None,
        refs={name: value for name, value in record.refs.items() if value in known},
        refs_apart=False, stash=(), nested=(), origin=None, home={},
    )  # fmt: skip


def _base(target: Repository, record: Record) -> Oid:
    if record.base:
        return Oid(record.base)
    return snapshot.commit_tree(target.git, empty_tree(target.git), (), "a sandbox of another repository\n")


def _move(handle: SandboxHandle, place: Path, record: Record) -> None:
    """`place` is an empty directory, which a directory can replace."""
    former = handle.directory
    former.root.rename(place)
    former.forget_sockets()
    handle.directory, handle.visiting = SandboxDir(place), False
    handle.directory.start_refs.unlink(missing_ok=True)
    noted.write(handle.directory, record)  # with nothing of what it had in the other repository
