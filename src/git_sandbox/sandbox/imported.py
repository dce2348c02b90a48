"""Imports the export of a guest, read from a channel or from a job's result, into the repository."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Mapping

from git_sandbox.collect import Collected, collect, known_objects
from git_sandbox.errors import DamagedError
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Repository
from git_sandbox.guest import protocol
from git_sandbox.integrate.overview import there
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.protocol import manifest as manifests
from git_sandbox.protocol import stream
from git_sandbox.protocol.changes import Changes
from git_sandbox.protocol.manifest import Manifest
from git_sandbox.sandbox import lfs, nested, nested_refs
from git_sandbox.sandbox.lfs import LfsRetrieval
from git_sandbox.sandbox.nested import NOTHING_NESTED, Nested
from git_sandbox.store import Record, SandboxHandle

RECORDED = ("refs/heads/", "refs/tags/", "refs/notes/")  # what of `Manifest.refs` a record lists as it went in
_LOGS = 100  # reflogs looked at before a sandbox is taken for unchanged
SHOWN = 20  # rows of what is only partly home that are printed
MAX_PARTLY = 1000  # rows of a record
UNSAID = Changes("unknown", "the guest did not report what changed")


@dataclass(frozen=True)
class Retrieval:
    """What a sandbox brought back. `changed` is False when the guest has proved that it ended exactly as it began, and
    nothing that came home says otherwise.

    `reason`: why a rescue machine was needed. `away`: how many commits are all that changed, and nothing leads to them
    any more: only the disk has them.
    """

    collected: Collected
    manifest: Manifest
    changed: bool
    rescued: bool = False
    reason: str = ""
    nested: Nested = NOTHING_NESTED
    away: int = 0
    lfs: LfsRetrieval = lfs.NOTHING
    refs: Mapping[RefName, Oid] | None = None

    @property
    def changes(self) -> Changes:
        """What differs from the start, safe to print. A guest that does not say so does not know."""
        return self.manifest.changes.safe() if self.manifest.changes else UNSAID

    @property
    def partly(self) -> tuple[str, ...]:
        """What is on the sandbox's disk only, a name and a reason each, safe to print: empty when all is home."""
        rows = [str(item) for item in (*self.collected.set_aside, *self.manifest.left_out)]
        if self.manifest.wip_state == "failed":
            rows.append("the uncommitted files: they could not be written as a tree")
        rows += [f"Git LFS content of {row}" for row in self.lfs.missing]
        for home in self.nested.homes:
            rows += [f"{home.path}: {row}" for row in home.collected.set_aside]
            rows += [f"{home.path}: Git LFS content of {row}" for row in home.lfs.missing]
        return (*rows[:MAX_PARTLY], *([f"and {len(rows) - MAX_PARTLY} more"] if len(rows) > MAX_PARTLY else []))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Safe to print."""
        text = f"{self.away} commit(s) are no longer on any ref (reset): they stay on the sandbox's disk"
        return (
            *self.collected.warnings,
            *self.nested.warnings,
            *([text] if self.away else []),
            *(f"still on the sandbox's disk only: {row}" for row in self.partly[:SHOWN]),
            *([f"{len(self.partly)} in all: `sandbox ls --json` has them"] if len(self.partly) > SHOWN else []),
        )


def from_channel(
    handle: SandboxHandle,
    record: Record,
    channel: socket.socket,
    progress: Progress,
    *,
    alive: float | None = None,
    end: bool = False,
    limits: stream.StreamLimits = stream.DEFAULT_LIMITS,
) -> Retrieval:
    """Export from the guest at `channel`, and collect: what is sound, with the content of Git LFS objects and the
    repositories inside. Raises CollectError.
    """
    progress("Collecting commits and uncommitted work")
    known = known_to(handle, record)
    extra = {"object_format": record.object_format, "end": end, "time": time.time()}

    def taken(**more: object) -> tuple[Manifest, Collected]:
        reply = stream.request(channel, protocol.EXPORT, known=known, extra=extra | more, alive=alive, limits=limits)
        return _taken(handle, record, reply.header, reply.chunks)

    try:
        manifest, took = taken()
    except DamagedError as error:
        progress(f"Retrying without damaged objects: {error.cause}")
        manifest, took = taken(careful=True)
    refs = handle.repo.refs(*handle.refs.patterns)
    handle.remember(refs)
    content = lfs.bring_home(handle.repo, handle.refs, record, channel, there=refs)
    inner = nested.bring_home(handle, record, channel, manifest.nested)
    if any(home.borrowed for home in inner.homes):
        handle.remember(refs, nested_refs.noted(handle, record))
    return _home(handle, record, (manifest, took), inner, content, refs=refs)


def from_export(handle: SandboxHandle, record: Record, manifest: bytes, pack: Iterable[bytes]) -> Retrieval:
    """The same of an export that somebody else asked for. What he was not asked for, or could not be (repositories
    inside, Git LFS objects), is `partly`. Raises CollectError, or what reading `pack` does; nothing is imported then.
    """
    listed, took = _taken(handle, record, manifest, pack)
    refs = handle.repo.refs(*handle.refs.patterns)
    handle.remember(refs)
    inner, content = nested.left(record, listed.nested), lfs.left(handle.repo, refs, record, handle.refs)
    return _home(handle, record, (listed, took), inner, content, refs=refs)


def known_to(handle: SandboxHandle, record: Record) -> list[Oid]:
    """Names of objects that an export may leave out."""
    return [*known_objects(handle.repo, handle.refs), *there(handle.repo, record.stash)]


def _taken(handle: SandboxHandle, record: Record, header: bytes, chunks: Iterable[bytes]) -> tuple[Manifest, Collected]:
    manifest = manifests.parse(header, object_format=record.object_format).since(record.refs)
    if manifest.unchanged:  # what is in progress is in progress here as well
        manifest = manifest.without_operation()
    new, place = _without_what_went_in(manifest, record), handle.directory.quarantine
    return manifest, collect(handle.repo, handle.refs, new, chunks, quarantine=place, given=record.refs)


def _home(
    handle: SandboxHandle,
    record: Record,
    came: tuple[Manifest, Collected],
    inner: Nested,
    content: LfsRetrieval,
    *,
    refs: Mapping[RefName, Oid],
) -> Retrieval:
    """`refs`: the sandbox's in its repository, now."""
    manifest, took = came
    changed = (
        _changed(took, manifest, record)
        or bool(inner.homes or inner.missing)
        or _kept_before(handle, record, took, refs)
    )
    changed |= not manifest.unchanged
    changed |= took.set_aside != () or manifest.left_out != () or manifest.wip_state in ("partial", "failed")
    # Of amended ones nobody needs to hear where the work itself came home.
    away = 0 if changed else _unknown(handle.repo, manifest.away)
    return Retrieval(took, manifest, changed or away > 0, nested=inner, away=away, lfs=content, refs=refs)


def _unknown(repo: Repository, names: tuple[str, ...]) -> int:
    """How many of `names` the host has not got. What was reset away before it went in is on the host, too."""
    asked = "".join(f"{name}\n" for name in names).encode()
    return repo.git.run("cat-file", "--batch-check", input=asked).count(b" missing\n") if names else 0


def _without_what_went_in(manifest: Manifest, record: Record) -> Manifest:
    return nested.came_along(manifest, record.base, record.snapshot, record.index_tree, record.stash)


def _changed(took: Collected, manifest: Manifest, record: Record) -> bool:
    same_head = manifest.head.oid == record.base and manifest.head.symref == record.base_symref
    # A ref of another kind is told, and took, only when the host had not got what it points to.
    refs = {ref.name: ref.oid for ref in manifest.refs if ref.name.startswith(RECORDED)} != {
        name: value for name, value in record.refs.items() if name.startswith(RECORDED)
    }
    refs |= any(not name.startswith(RECORDED) for name in took.names)
    stash = tuple(entry.oid for entry in manifest.stash) != record.stash
    return not same_head or refs or stash or took.wip is not None


def _kept_before(handle: SandboxHandle, record: Record, took: Collected, there: Mapping[RefName, Oid]) -> bool:
    """Whether something is here, from an earlier import or a merge, that must not go because the guest now says that
    nothing ever happened. What a ref pointed at before counts, too; of one that was made just now there is nothing.
    """
    own = {handle.refs.base, handle.refs.meta}
    refs = {name: value for name, value in there.items() if name not in own}
    if any(value != record.base for value in refs.values()) or nested_refs.holdings(handle.repo, handle, record):
        return True
    older = [name for name in refs if took.updated.get(name, ("", ""))[0] is not None]
    logs = [handle.repo.git.try_run("rev-list", "-g", name, "--").text.split() for name in older[:_LOGS]]
    return any(value != record.base for log in logs for value in log)
