"""The trash of a repository: moving sandboxes there, restoring, listing and expiring them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from git_sandbox import registry, store
from git_sandbox.errors import StateError
from git_sandbox.git.names import sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass, field, replace
from git_sandbox.sandbox import everywhere, parts
from git_sandbox.sandbox.expiring import rule
from git_sandbox.store import Record, SandboxHandle, State
from git_sandbox.trash import expiry, moving, note, objects
from git_sandbox.trash.expiry import Rule
from git_sandbox.trash.note import Note, Trashed

if TYPE_CHECKING:
    from git_sandbox.sandbox.listing import Row


def put(handle: SandboxHandle, record: Record | None, why: str) -> Note:
    """Move a sandbox to the trash, with its refs here and in repositories inside the worktree. See `store.trash`."""
    return store.trash(handle, why, parts.holders(handle, record))


def until(trashed: Trashed | Note) -> float | None:
    """When it expires by age, seconds since the epoch; None for what does not."""
    if isinstance(trashed, Trashed):
        return expiry.until(trashed, rule())
    age = rule().age
    return None if age is None else trashed.when + age


def stays(trashed: Trashed | Note) -> bool:
    """Whether it is still there after this command: a setting of nothing deletes at once."""
    limit = rule()
    return limit.age != 0 and trashed.size <= limit.room


def find(repo: Repository, name: str) -> Trashed | None:
    return note.read(store.state_directory(repo), sandbox_id(name))


def rows(repo: Repository) -> list[Row]:
    """What is in the trash of the repository, as `ls --all` shows it, oldest first."""
    limit = rule()
    return [_row(trashed, limit) for trashed in note.listed(store.state_directory(repo))]


def _row(trashed: Trashed, limit: Rule) -> Row:
    from git_sandbox.sandbox.listing import Row  # late: at the end of a sandbox nobody looks

    record = store.load(trashed.directory)
    return Row(
        trashed.id,
        State.TRASH,
        record.created if record else trashed.when,
        record.base if record else None,
        (record.base_symref or "").removeprefix("refs/heads/") or None if record else None,
        None,
        uncommitted=False,
        merged=False,
        disk_bytes=trashed.size,
        command=record.command if record else (),
        origin=record.origin if record else None,
        why=trashed.note.why if trashed.note else None,
        expires=expiry.until(trashed, limit),
    )


@dataclass(frozen=True)
class Restored:
    """`state` as in `ls`. `missing`: refs of which objects are not in the repository any more."""

    id: str
    state: State
    refs: dict[str, str]
    missing: dict[str, str]


def damage(repo: Repository) -> tuple[str, ...]:
    """What of the trash of the repository cannot be brought back whole, a line each. Every pack is read."""
    trashed = note.listed(store.state_directory(repo))
    return tuple(f"{item.id}: {why}" for item in trashed for why in _faults(repo, item))


def _faults(repo: Repository, trashed: Trashed) -> Iterator[str]:
    record = store.load(trashed.directory)
    if trashed.note is None:
        yield f"{trashed.directory.trash_note.name} is damaged: its disk can be restored, but not its refs"
    elif trashed.note.directory and record is None:
        yield "its record is damaged or missing"
    for part in trashed.note.parts if trashed.note else ():
        if record is not None and parts.repository(repo, trashed.id, record, part) is None:
            why = "which is gone, or has another sandbox of that name"
            yield f"{len(part.refs)} of its refs belong to a repository inside the worktree, {why}"
        if part.pack and not objects.sound(trashed.directory.trash_packs / part.pack, repo.object_format):
            yield f"its pack {part.pack} is damaged or missing: of {len(part.refs)} ref(s) the disk has what is left"
        if part.unpacked:
            yield f"objects of {len(part.unpacked)} of its refs were missing or damaged before it went there"


def restore(repo: Repository, name: str) -> Restored:
    """Bring a sandbox back from the trash, with its refs.

    Where their objects are gone it is `recoverable`: the disk has all that it ever had. Raises StateError when there is
    no such sandbox in the trash, or its name is in use.
    """
    ident, root = sandbox_id(name), store.state_directory(repo)
    trashed = note.read(root, ident)
    record = store.load(trashed.directory) if trashed else None
    back = moving.restore(root, ident, lambda part: parts.repository(repo, ident, record, part))
    if back.missing and record is not None:
        with store.open_existing(repo, name) as (handle, _):
            handle.save(msgspec.structs.replace(record, brought_home=None))
    expiry.summarise()
    return Restored(ident, store.find(repo, name).state, back.refs, back.missing)


def restore_anywhere(name: str) -> Restored:
    """The same for `KEY/ID`, as `drop` and `prune` name it. Where its repository is gone its refs stay in its note."""
    key, _, sandbox_name = name.rpartition("/")
    root = next((path for path in note.everywhere() if path.name == key), None)
    if root is None:
        raise StateError(f"no sandbox named `{name}` in any trash", hint="`sandbox prune --everywhere --all --dry-run`")
    if (place := registry.whereabouts(root)) is not None:
        trashed = note.read(root, sandbox_id(sandbox_name))
        record = store.load(trashed.directory) if trashed else None
        repo = everywhere.checkout(place, [Path(record.worktree)] if record else [])
        return replace(restore(repo, sandbox_name), id=name)
    back = moving.restore(root, sandbox_id(sandbox_name), lambda _part: None)
    expiry.summarise()
    state = next(entry.state for entry in store.entries_in(root) if entry.id == back.id)
    return Restored(name, state, back.refs, back.missing)


@dataclass(frozen=True)
class Freed:
    """`repository`: the directory below the state directory. `size`: bytes."""

    id: str
    repository: str
    why: str
    when: float
    size: int


@dataclass(frozen=True)
class Pruned:
    """`freed` in bytes. `sandboxes`: what was deleted, or would be. `kept`: what is still in the trash."""

    freed: int
    sandboxes: list[Freed] = field(default_factory=list)
    kept: list[Freed] = field(default_factory=list)
    dry_run: bool = False


def prune(
    roots: Iterable[Path], names: Iterable[str] = (), *, everything: bool = False, dry_run: bool = False
) -> Pruned:
    """Delete for good what has expired in the trashes of these repositories (their state directories); `everything`:
    all that may ever expire; with `names` only these, whatever they are. Raises StateError for one that is not there.
    """
    chosen = [trashed for root in dict.fromkeys(roots) for trashed in note.listed(root)]
    idents = list(names)
    for name in idents:
        sandbox_id(name.rpartition("/")[2])
        if not any(_meant(trashed, name) for trashed in chosen):
            raise StateError(f"no sandbox named `{name}` in the trash", hint="`sandbox ls --all` lists what is there")
    late = {trashed.directory for trashed in expiry.due(expiry.every(), rule())}
    gone = [
        trashed
        for trashed in chosen
        if (
            any(_meant(trashed, name) for name in idents)
            if idents
            else trashed.expires and (everything or trashed.directory in late)
        )
    ]
    if not dry_run:
        gone = expiry.remove(gone, patience=note.PATIENCE)
    left = [_freed(trashed) for trashed in chosen if trashed not in gone]
    return Pruned(sum(trashed.size for trashed in gone), [_freed(trashed) for trashed in gone], left, dry_run)


def _meant(trashed: Trashed, name: str) -> bool:
    """Whether `name` is its ID, or KEY/ID."""
    key, _, sandbox_name = name.rpartition("/")
    return trashed.id == sandbox_name and key in ("", trashed.repository.name)


def _freed(trashed: Trashed) -> Freed:
    why = trashed.note.why if trashed.note else "damaged"
    return Freed(trashed.id, trashed.repository.name, why, trashed.when, trashed.size)


def finish(repo: Repository) -> None:
    """Remove refs that a process that was killed while it dropped a sandbox has left."""
    root = store.state_directory(repo)
    if note.ids(root):
        moving.finish(root, repo.git, store.refs_by_id(repo))
