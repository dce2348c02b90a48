"""The sandboxes of a repository and their states. A state is derived, never stored."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from git_sandbox import claims, locks, paths, reconcile, registry
from git_sandbox import record as noted
from git_sandbox.errors import StateError
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs, is_sandbox_id, sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.record import Record, load
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.trash import note as trashed


class State(StrEnum):
    RUNNING = "running"  # somebody holds its lock
    RECOVERING = "recovering"  # its machine died, and a rescue machine reads its disk now
    RECOVERABLE = "recoverable"  # a disk whose content has not been brought home
    AWAY = "away"  # another machine has its job, or may have it; no result is here
    STOPPED = "stopped"  # brought home; the disk is kept until `drop`
    REFS = "refs"  # only refs are left
    BROKEN = "broken"  # a directory whose record cannot be read
    TRASH = "trash"  # dropped, or ended unchanged: out of sight until it is restored or expires


class Entry(msgspec.Struct, frozen=True):
    id: SandboxId
    state: State
    record: Record | None
    directory: SandboxDir
    refs: dict[RefName, Oid]

    @property
    def disk_bytes(self) -> int:
        with contextlib.suppress(OSError):
            return self.directory.disk.stat().st_blocks * 512
        return 0


def state_directory(repo: Repository) -> Path:
    """What is kept of the sandboxes of the repository; one that does not exist when there are none."""
    return registry.find(repo) or paths.nowhere()


def directory(repo: Repository, name: str) -> SandboxDir:
    """Where the sandbox `name` is, or would be."""
    return SandboxDir(state_directory(repo) / sandbox_id(name))


def find(repo: Repository, name: str) -> Entry:
    """The sandbox `name`, without a look at others: there may be thousands. Raises StateError."""
    ident = sandbox_id(name)
    entry = _alone(repo, ident)
    if entry is not None:
        full = noted.complete(entry.directory, entry.record) if entry.record else None
        return msgspec.structs.replace(entry, record=full)
    claims.require_not_trashed(state_directory(repo), ident)
    known = ", ".join(entry.id for entry in entries(repo))
    hint = f"there are: {known}" if known else "there are none yet; `sandbox` starts one"
    raise StateError(f"no sandbox named `{name}` in this repository", hint=hint)


def _alone(repo: Repository, name: SandboxId) -> Entry | None:
    root = state_directory(repo)
    _finish_renaming(repo, root)
    directory = SandboxDir(root / name)
    there, refs = directory.root.is_dir(), repo.refs(*SandboxRefs(name).patterns)
    if not there and (not refs or _left_over(root, name, refs)):
        return None
    return _looked_at(repo, directory, load(directory) if there else None, refs)


def _left_over(root: Path, name: SandboxId, refs: dict[RefName, Oid]) -> bool:
    """Whether these are refs of a process that was killed while it moved the sandbox to the trash."""
    gone = trashed.read(root, name)
    return gone is not None and trashed.leftover(gone, refs)


def entries(repo: Repository) -> list[Entry]:
    """Every sandbox of the repository, oldest first. A damaged one is listed as broken and disturbs no other."""
    return entries_and_starts(repo)[0]


def entries_and_starts(repo: Repository) -> tuple[list[Entry], dict[RefName, Oid]]:
    """The same, and where the refs that the sandboxes started from point now: git is asked once for all of it."""
    root = state_directory(repo)
    listed = [root / name for name in names(repo, root) if is_sandbox_id(name)]
    places = [place for place in listed if place.is_dir()]
    records = {SandboxId(path.name): load(SandboxDir(path)) for path in places}
    everything = repo.refs(*_ROOTS, *starts(records.values()))
    refs = _by_id(everything)
    for name in trashed.ids(root) & (refs.keys() - records.keys()):
        if (gone := trashed.read(root, name)) and trashed.leftover(gone, refs[name]):
            del refs[name]  # of a process that was killed while it moved the sandbox to the trash
    every = [
        _looked_at(repo, SandboxDir(root / name), records.get(name), refs.get(name, {})) for name in {*records, *refs}
    ]
    every.sort(key=lambda entry: (entry.record.created if entry.record else 0.0, entry.id))
    return every, {name: value for name, value in everything.items() if not name.startswith(SandboxRefs.ROOTS)}


def names(repo: Repository, root: Path) -> list[str]:
    """What is in a state directory, once a sandbox that was being renamed has one name."""
    _finish_renaming(repo, root)
    return os.listdir(root) if root.is_dir() else []  # noqa: PTH208 - names are ident


def _finish_renaming(repo: Repository, root: Path) -> None:
    if os.path.lexists(root / paths.RENAMING):
        from git_sandbox import renaming

        renaming.finish(root, repo)


def starts(records: Iterable[Record | None]) -> list[str]:
    """The refs that these sandboxes started from."""
    named = {record.base_symref for record in records if record and record.base_symref}
    return sorted(name for name in named if name.startswith("refs/"))  # a record can be anybody's: no option for git


def _entry(directory: SandboxDir, name: SandboxId, record: Record | None, refs: dict[RefName, Oid]) -> Entry:
    return Entry(name, state_of(directory, record), record, directory, refs)


def _looked_at(repo: Repository, directory: SandboxDir, record: Record | None, refs: dict[RefName, Oid]) -> Entry:
    if record is not None:
        record, refs = reconcile.settled(repo, directory, record, refs)
    return _entry(directory, SandboxId(directory.root.name), record, refs)


def entries_in(root: Path) -> list[Entry]:
    """What a state directory knows by itself, without a repository: no refs."""
    places = [SandboxDir(path) for path in root.iterdir() if path.is_dir() and is_sandbox_id(path.name)]
    listed = [_entry(directory, SandboxId(directory.root.name), load(directory), {}) for directory in places]
    return sorted(listed, key=lambda entry: (entry.record.created if entry.record else 0.0, entry.id))


def state_of(directory: SandboxDir, record: Record | None) -> State:
    if not directory.root.is_dir():
        return State.REFS
    if locks.held(directory.lock):
        return State.RECOVERING if directory.recovering.exists() else State.RUNNING
    if record is None:
        return State.BROKEN
    if record.brought_home is not None:
        return State.STOPPED
    return State.AWAY if directory.dispatch.exists() else State.RECOVERABLE


def ref_ids(repo: Repository) -> set[SandboxId]:
    return set(refs_by_id(repo))


def refs_by_id(repo: Repository) -> dict[SandboxId, dict[RefName, Oid]]:
    """All refs that are sandboxes', by sandbox."""
    return _by_id(repo.refs(*_ROOTS))


_ROOTS = tuple(root.rstrip("/") for root in SandboxRefs.ROOTS)


def _by_id(refs: Mapping[RefName, Oid]) -> dict[SandboxId, dict[RefName, Oid]]:
    by_id: dict[SandboxId, dict[RefName, Oid]] = {}
    for name, value in refs.items():
        ident = name.split("/")[2] if name.startswith(SandboxRefs.ROOTS) else ""
        if is_sandbox_id(ident):  # else not ours: a ref can hold text that a shell or a terminal would obey
            by_id.setdefault(SandboxId(ident), {})[name] = value
    return by_id
