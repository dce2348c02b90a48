"""Drops sandboxes, and recovers the work of crashed ones."""

from __future__ import annotations

import os
from pathlib import Path

from git_sandbox import store
from git_sandbox.errors import SandboxError, StateError
from git_sandbox.git.names import Oid, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import operation, review
from git_sandbox.integrate.overview import beyond_stash
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.sandbox import everywhere, lfs, lookup, nested_refs, ondisk, retrieve, trashed, uncommitted
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.lookup import base_of
from git_sandbox.sandbox.nested_refs import Holding
from git_sandbox.store import Entry, Record, SandboxHandle, State
from git_sandbox.text import one_line
from git_sandbox.trash.note import DROPPED

SHOWN = 5  # commits named in a refusal


@dataclass(frozen=True)
class Dropped:
    """`tips`: what the refs pointed at. `expires`: until when it can be restored, in seconds since 1970, or None."""

    id: str
    tips: dict[str, Oid]
    unmerged: tuple[Oid, ...]
    expires: float | None = None
    disk: str = ""  # what only its disk has, safe to print
    restorable: bool = True  # False: the settings leave the trash no time, or no room for it


def drop(repo: Repository, name: str, *, force: bool) -> Dropped:
    """Move a sandbox that does not run to the trash, with its refs.

    Raises StateError without `force` when commits or uncommitted work exist nowhere else.
    """
    with store.open_existing(repo, name) as (handle, entry):
        record = lookup.record_of(repo, entry)
        lost = _unmerged(repo, entry, force=force)
        if not force:
            _refuse(repo, name, (handle, entry, record), lost)
        noted = trashed.put(handle, record, DROPPED)
        tips = {str(ref): value for ref, value in entry.refs.items()}
        disk = ondisk.sentence(record.changes) if record else ""
        return Dropped(entry.id, tips, lost, trashed.until(noted), disk, trashed.stays(noted))


def _refuse(repo: Repository, name: str, of: tuple[SandboxHandle, Entry, Record | None], lost: tuple[Oid, ...]) -> None:
    handle, entry, record = of
    _refuse_recoverable(name, entry)
    inside = nested_refs.holdings(repo, handle, record)
    _refuse_commits(repo, name, lost)
    _refuse_nested(repo, name, inside)
    _refuse_operation(repo, entry)
    _refuse_work(repo, entry)
    _refuse_lfs(repo, entry, record, inside)
    _refuse_partly(name, entry, record)
    _refuse_disk(name, entry, record)


def obstacle(repo: Repository, name: str) -> SandboxError | None:
    """Why it would not be dropped without `force`; None where it would."""
    try:
        with store.open_existing(repo, name) as (handle, entry):
            record = lookup.record_of(repo, entry)
            _refuse(repo, name, (handle, entry, record), _unmerged(repo, entry, force=False))
    except SandboxError as error:
        return error
    return None


def drop_orphan(name: str, *, force: bool) -> Dropped:
    """The same for a sandbox whose repository is gone; `name` as in `everywhere.find`.

    Without `force` always a StateError: its disk may be the only place with its work.
    """
    sandbox = everywhere.find(name, None)
    if sandbox.common_dir is not None:
        raise StateError(
            f"the repository of sandbox `{sandbox.entry.id}` exists", hint=f"run the command in {sandbox.common_dir}"
        )
    if not force:
        raise StateError(
            f"the repository of sandbox `{sandbox.entry.id}` is gone, and its disk may have the only copy of the work",
            hint=f"`sandbox recover {sandbox.name} --into REPOSITORY`, or `sandbox drop --force {sandbox.name}`",
        )
    noted = store.trash_directory(sandbox.entry.directory, DROPPED)
    disk = ondisk.sentence(sandbox.entry.record.changes) if sandbox.entry.record else ""
    return Dropped(sandbox.name, {}, (), trashed.until(noted), disk, trashed.stays(noted))


def _unmerged(repo: Repository, entry: Entry, *, force: bool) -> tuple[Oid, ...]:
    """With `force` a damaged history is no obstacle: it goes to the trash as it is."""
    try:
        return tuple(review.unmerged(repo, lookup.tips(entry)))
    except SandboxError:
        if force:
            return ()
        raise


def _refuse_recoverable(name: str, entry: Entry) -> None:
    """What a damaged record says nobody knows: where there is a disk, it may be the only place with the work."""
    if entry.state is State.AWAY:
        raise StateError(
            f"another machine has the job of sandbox `{name}`, and its result has not been collected",
            hint=f"`sandbox collect FILE`, `sandbox recover --on HOST {name}`, or `sandbox drop --force {name}`",
        )
    if entry.state is State.RECOVERABLE or (entry.state is State.BROKEN and entry.directory.has_disk()):
        raise StateError(
            f"the work on the disk of sandbox `{name}` has not been brought home",
            hint=f"`sandbox recover {name}` does that; `sandbox drop --force {name}` drops it anyway",
        )


def _refuse_partly(name: str, entry: Entry, record: Record | None) -> None:
    """Its disk may be on another machine, which keeps it as long as `SandboxDir.dispatch` is here."""
    elsewhere = entry.directory.dispatch.exists()
    if record is not None and record.partly and (elsewhere or entry.directory.has_disk()):
        shown = "\n".join(record.partly[:SHOWN]) + (" …" if len(record.partly) > SHOWN else "")
        ways = (
            f"`sandbox recover --on HOST {name}` asks the machine that ran it for the rest"
            if elsewhere
            else f"`sandbox recover {name} --bundle FILE` exports what git has of it, `sandbox shell {name}` shows "
            "the rest"
        )
        raise StateError(
            f"sandbox `{name}` is only partly home: {len(record.partly)} thing(s) are on its disk only",
            cause=shown,
            hint=f"{ways}; `sandbox drop --force {name}` drops it anyway",
        )


def _refuse_disk(name: str, entry: Entry, record: Record | None) -> None:
    """What git does not bring home is on the disk only: ignored files, packages, what is outside the workspace."""
    changes = record.changes if record and entry.directory.has_disk() else None
    changed = ondisk.sentence(changes)
    if changes is not None and (changed or changes.state == "unknown"):
        raise StateError(
            f"the disk of sandbox `{name}` has work that exists nowhere else",
            cause=changed or f"other changes on it are unknown: {changes.reason}",
            hint=f"`sandbox shell {name}` shows it; `sandbox drop --force {name}` drops it anyway",
        )


def _refuse_commits(repo: Repository, name: str, lost: tuple[Oid, ...]) -> None:
    if lost:
        shown = ", ".join(oid[:12] for oid in lost[:SHOWN]) + (" …" if len(lost) > SHOWN else "")
        stash = "" if beyond_stash(repo, lost[:1]) else ", only in your stash"
        raise StateError(
            f"{len(lost)} commit(s) of sandbox `{name}` are on none of your branches{stash}: {shown}",
            hint=f"`sandbox merge {name}`, or keep them with `git branch NAME sandbox/{name}`, or `drop --force`",
        )


def _refuse_nested(repo: Repository, name: str, inside: list[Holding]) -> None:
    for holding in inside:
        if holding.gone:
            place = one_line(str(holding.repo.git_dir), limit=300)
            raise StateError(
                f"what came home from sandbox `{name}` into {place} no longer exists there",
                hint=f"`sandbox recover {name}` imports it again, or `drop --force`",
            )
        if lost := nested_refs.lost(repo, holding):
            shown = ", ".join(oid[:12] for oid in lost[:SHOWN]) + (" …" if len(lost) > SHOWN else "")
            where = holding.repo.git_dir
            raise StateError(
                f"{len(lost)} commit(s) of sandbox `{name}` in {where} are nowhere else: {shown}",
                hint=f"`git fetch {where} refs/sandbox/{name}` where you want them, merge that, or `drop --force`",
            )


def _refuse_work(repo: Repository, entry: Entry) -> None:
    record, refs = lookup.record_of(repo, entry), SandboxRefs(entry.id)
    head, wip = entry.refs.get(refs.head), entry.refs.get(refs.wip)
    if wip and wip != head and (record is None or uncommitted.lost(repo, base_of(repo, record), head, wip)):
        where = "nowhere else" if beyond_stash(repo, [wip]) else "only in your stash"
        raise StateError(
            f"sandbox `{entry.id}` has uncommitted work that is {where}: {wip[:12]}",
            hint=f"look at `sandbox diff --wip {entry.id}`; keep it: `git branch NAME {wip[:12]}`; or `drop --force`",
        )


def _refuse_operation(repo: Repository, entry: Entry) -> None:
    """A merge that waits can have all files as HEAD has them, and yet be work."""
    refs = SandboxRefs(entry.id)
    head, wip = entry.refs.get(refs.head), entry.refs.get(refs.wip)
    waiting = operation.load(repo, refs, head, wip) if refs.other("operation/state") in entry.refs else None
    if waiting and waiting.kind != "bisect":
        what = operation.in_progress(waiting.kind)
        hint = f"continue it: `sandbox shell {entry.id}`; or `sandbox drop --force {entry.id}`"
        raise StateError(f"{what} in sandbox `{entry.id}`", hint=hint)


def _refuse_lfs(repo: Repository, entry: Entry, record: Record | None, inside: list[Holding]) -> None:
    """Content that commits only point to may be on the disk alone."""
    if not entry.directory.has_disk():
        return
    name = SandboxRefs(entry.id)
    left = lfs.lacking(repo, entry.refs, record, name)
    for holding in inside:
        went_in = record.nested if record and holding.borrowed else ()
        known = next((row for row in went_in if row.host == os.fspath(holding.repo.git_dir)), None)
        left |= lfs.lacking(holding.repo, holding.refs, known, name)
    if left:
        shown = ", ".join(one_line(path, limit=80) for path in list(left.values())[:SHOWN])
        more = " …" if len(left) > SHOWN else ""
        raise StateError(
            f"the content of {len(left)} Git LFS file(s) of sandbox `{entry.id}` is not here: {shown}{more}",
            hint=f"`sandbox recover {entry.id}` gets it from its disk; `sandbox drop --force {entry.id}` discards it",
        )


@dataclass(frozen=True)
class Recovered:
    id: str
    record: Record
    home: Retrieval


def recover(repo: Repository, name: str, progress: Progress) -> Recovered:
    """Bring home what is on the disk of a sandbox that does not run (any more), even if that was done before."""
    with store.open_existing(repo, name) as (handle, entry):
        record = lookup.record_of(repo, entry)  # the copy in the repository, where the record is damaged
        if record is None:
            raise store.unreadable(entry)
        brought = retrieve.rescue(handle, record, progress)
        # Unlike a normal end this never removes the sandbox: whoever recovers wants to look at it.
        retrieve.note(handle, record, record.exit_code, brought)
        return Recovered(entry.id, record, brought)


def hand_out(repo: Repository, name: str, target: Path, progress: Progress) -> list[Path]:
    """The raw work of a sandbox that does not run, as files; see `retrieve.hand_out`. The sandbox stays as it is."""
    with store.open_existing(repo, name) as (handle, entry):
        record = lookup.record_of(repo, entry)
        if record is None:
            raise store.unreadable(entry)
        return retrieve.hand_out(handle, record, target, progress)


def recoverable(repo: Repository) -> list[str]:
    return [entry.id for entry in store.entries(repo) if entry.state is State.RECOVERABLE]
