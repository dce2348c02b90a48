"""The trash of a repository: what goes there, comes back, is listed, and expires."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from git_sandbox import registry, store
from git_sandbox.errors import StateError
from git_sandbox.git.command import Git
from git_sandbox.git.names import SandboxId, SandboxRefs, sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import everywhere, nested_refs
from git_sandbox.sandbox.expiring import rule
from git_sandbox.store import Box, Record, State
from git_sandbox.trash import expiry, moving, note, objects
from git_sandbox.trash.expiry import Rule
from git_sandbox.trash.note import Note, Part, Trashed
from git_sandbox.trash.objects import Holder

if TYPE_CHECKING:
    from git_sandbox.sandbox.listing import Row


def put(box: Box, record: Record | None, why: str) -> Note:
    """Move a sandbox to the trash, with its refs here and in repositories inside the worktree. See `store.trash`."""
    held = nested_refs.borrowed(box.repo, box, record)
    return store.trash(box, record, why, [_holder(each.repo, each) for each in held])


def _holder(repo: Repository, held: nested_refs.Holding) -> Holder:
    known = held.known
    start = [*([known.base] if known.base else []), *known.refs.values()] if known else []
    return Holder(repo.git, repo.common_dir, held.refs, start, known.git_dir if known else "")


def until(found: Trashed | Note) -> float | None:
    """When it expires by age, seconds since the epoch; None for what does not."""
    if isinstance(found, Trashed):
        return expiry.until(found, rule())
    age = rule().age
    return None if age is None else found.when + age


def stays(found: Trashed | Note) -> bool:
    """Whether it is still there after this command: a setting of nothing deletes at once."""
    limit = rule()
    return limit.age != 0 and found.size <= limit.room


def find(repo: Repository, name: str) -> Trashed | None:
    return note.read(store.state_directory(repo), sandbox_id(name))


def rows(repo: Repository) -> list[Row]:
    """What is in the trash of the repository, as `ls --all` shows it, oldest first."""
    limit = rule()
    return [_row(each, limit) for each in note.listed(store.state_directory(repo))]


def _row(found: Trashed, limit: Rule) -> Row:
    from git_sandbox.sandbox.listing import Row  # late: at the end of a sandbox nobody looks

    record = store.load(found.directory)
    return Row(
        found.id,
        State.TRASH,
        record.created if record else found.when,
        record.base if record else None,
        (record.base_symref or "").removeprefix("refs/heads/") or None if record else None,
        None,
        uncommitted=False,
        merged=False,
        disk_bytes=found.size,
        command=record.command if record else (),
        origin=record.origin if record else None,
        why=found.note.why if found.note else None,
        expires=expiry.until(found, limit),
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
    found = note.listed(store.state_directory(repo))
    return tuple(f"{each.id}: {why}" for each in found for why in _faults(repo, each))


def _faults(repo: Repository, found: Trashed) -> Iterator[str]:
    if found.note is None:
        yield f"{found.directory.trash_note.name} is damaged: its disk can be restored, without its refs"
    elif found.note.directory and store.load(found.directory) is None:
        yield "its record is damaged or missing"
    for part in found.note.parts if found.note else ():
        if part.pack and not objects.sound(found.directory.trash_packs / part.pack, repo.object_format):
            yield f"its pack {part.pack} is damaged or missing: of {len(part.refs)} ref(s) the disk has what is left"
        if part.unpacked:
            yield f"objects of {len(part.unpacked)} of its refs were missing or damaged before it went there"


def restore(repo: Repository, name: str) -> Restored:
    """Bring a sandbox back from the trash, with its refs.

    Where their objects are gone it is `recoverable`: the disk has all that it ever had. Raises StateError when there is
    no such sandbox in the trash, or its name is in use.
    """
    wanted, root = sandbox_id(name), store.state_directory(repo)
    found = note.read(root, wanted)
    record = store.load(found.directory) if found else None
    back = moving.restore(root, wanted, lambda part: _repository(repo, wanted, record, part))
    if back.missing and record is not None:
        with store.open_existing(repo, name) as (box, _):
            box.save(msgspec.structs.replace(record, brought_home=None))
    expiry.summarise()
    return Restored(wanted, store.find(repo, name).state, back.refs, back.missing)


def restore_anywhere(name: str) -> Restored:
    """The same for `KEY/ID`, as `drop` and `prune` name it. Where its repository is gone its refs stay in its note."""
    key, _, wanted = name.rpartition("/")
    root = next((each for each in note.everywhere() if each.name == key), None)
    if root is None:
        raise StateError(f"no sandbox named `{name}` in any trash", hint="`sandbox prune --everywhere --all --dry-run`")
    if (place := registry.whereabouts(root)) is not None:
        found = note.read(root, sandbox_id(wanted))
        record = store.load(found.directory) if found else None
        repo = everywhere.checkout(place, [Path(record.worktree)] if record else [])
        return replace(restore(repo, wanted), id=name)
    back = moving.restore(root, sandbox_id(wanted), lambda _part: None)
    expiry.summarise()
    state = next(each.state for each in store.entries_in(root) if each.id == back.id)
    return Restored(name, state, back.refs, back.missing)


def _repository(repo: Repository, name: SandboxId, record: Record | None, part: Part) -> Git | None:
    """Where a part belongs: by what was recorded when the sandbox began, not by a path that was written down."""
    if not part.key:
        return repo.git
    known = next((each for each in record.nested if each.git_dir == part.key), None) if record else None
    at_home = nested_refs.host_repository(repo, SandboxRefs(name), record, known) if record and known else None
    return at_home.git if at_home else None


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
    chosen = [each for root in dict.fromkeys(roots) for each in note.listed(root)]
    wanted = list(names)
    for name in wanted:
        sandbox_id(name.rpartition("/")[2])
        if not any(_meant(each, name) for each in chosen):
            raise StateError(f"no sandbox named `{name}` in the trash", hint="`sandbox ls --all` lists what is there")
    late = {each.directory for each in expiry.due(expiry.every(), rule())}
    gone = [
        each
        for each in chosen
        if (
            any(_meant(each, name) for name in wanted)
            if wanted
            else each.expires and (everything or each.directory in late)
        )
    ]
    if not dry_run:
        gone = expiry.remove(gone, patience=note.PATIENCE)
    left = [_freed(each) for each in chosen if each not in gone]
    return Pruned(sum(each.size for each in gone), [_freed(each) for each in gone], left, dry_run)


def _meant(found: Trashed, name: str) -> bool:
    """Whether `name` is its ID, or KEY/ID."""
    key, _, wanted = name.rpartition("/")
    return found.id == wanted and key in ("", found.repository.name)


def _freed(found: Trashed) -> Freed:
    why = found.note.why if found.note else "damaged"
    return Freed(found.id, found.repository.name, why, found.when, found.size)


def finish(repo: Repository) -> None:
    """Remove refs that a process that was killed while it dropped a sandbox has left."""
    root = store.state_directory(repo)
    if note.ids(root):
        moving.finish(root, repo.git, store.refs_by_id(repo))
