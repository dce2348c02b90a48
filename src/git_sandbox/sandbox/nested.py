"""Repositories inside the worktree: submodules, absorbed or not, and other clones.

Which repository of the host one of the guest's belongs to was noted when the copy was made (`workspace/nested`); the
guest's words are only compared with that. One that is not known comes home into a bare repository in the sandbox's own
directory.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from git_sandbox.collect import Collected, CollectLimits, collect, known_objects
from git_sandbox.errors import CollectError, DamagedError, SandboxError
from git_sandbox.git.repo import Repository
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass, field, replace
from git_sandbox.protocol import manifest, stream
from git_sandbox.protocol.manifest import GuestNested, Manifest
from git_sandbox.protocol.wire import MAX_REFS
from git_sandbox.sandbox import lfs
from git_sandbox.sandbox.lfs import LfsRetrieval
from git_sandbox.sandbox.nested_refs import bare, host_repository, make_bare, own_name
from git_sandbox.store import NestedRecord, Record, SandboxHandle
from git_sandbox.text import one_line

_TOO_MUCH = "nested repositories exceed their limit"
BUDGET = 3600.0  # seconds for all of them together: a hostile guest has 200, and can stall in each
IDLE = 300.0


@dataclass(frozen=True)
class NestedRetrieval:
    """What came home of one. `path` is the guest's word for it, safe to print; `git_dir` is where it is now.

    `borrowed`: in a repository of the user's, not one in the sandbox's directory.
    """

    path: str
    git_dir: Path
    borrowed: bool
    collected: Collected
    lfs: LfsRetrieval = lfs.NOTHING
    operation: str | None = None  # what waits in it (a merge, a rebase)


@dataclass(frozen=True)
class Nested:
    """`missing`: why some did not come; the sandbox's disk has them."""

    homes: tuple[NestedRetrieval, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        texts = [f"{home.path}: {text}" for home in self.homes for text in home.collected.warnings]
        return (*texts, *(f"still on the sandbox's disk only: {why}" for why in self.missing))


NOTHING_NESTED = Nested()


# --- what comes out ---------------------------------------------------------------------------------------------------


def came_along(
    manifest: Manifest, base: str | None, tree: str | None, index: str | None, stash: Sequence[str]
) -> Manifest:
    """`manifest` without stashes and uncommitted work that the host has in the same form: only noise in refs."""
    if manifest.wip and (manifest.head.oid, manifest.worktree_tree, manifest.wip.index_tree) == (base, tree, index):
        manifest = replace(manifest, wip=None, worktree_tree=None)
    return replace(manifest, stash=tuple(entry for entry in manifest.stash if entry.oid not in stash))


@dataclass
class _Budget:
    """What is left for all nested repositories together: seconds, bytes, objects, refs; as many as the outer has."""

    deadline: float = field(default_factory=lambda: time.monotonic() + BUDGET)
    total: int = stream.DEFAULT_LIMITS.total
    objects: int = CollectLimits().objects
    refs: int = MAX_REFS

    def limits(self) -> stream.StreamLimits:
        left = self.deadline - time.monotonic()
        if left <= 0 or self.total <= 0 or self.objects <= 0 or self.refs <= 0:
            raise CollectError(_TOO_MUCH)
        return replace(stream.DEFAULT_LIMITS, idle=min(IDLE, left), overall=left, total=self.total)

    def listed(self, manifest: Manifest, chunks: Iterator[bytes]) -> None:
        """Raises CollectError, at the end of `chunks`, for more refs and stashes than are left."""
        self.refs -= len(manifest.refs) + len(manifest.stash)
        if self.refs < 0:
            for _ in chunks:
                pass
            raise CollectError(_TOO_MUCH)

    def counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.total -= len(chunk)
            yield chunk


def bring_home(handle: SandboxHandle, record: Record, channel: socket.socket, inners: Iterable[GuestNested]) -> Nested:
    """Ask for every repository inside the worktree that is not as it went in, and collect each by itself.

    One that fails holds up no other; it is in `missing`.
    """
    budget = _Budget()
    homes, missing = [], []
    for inner in inners:
        known = _known(record, inner)
        if known and known.state is not None and known.state == inner.state:
            continue
        try:
            at_home = host_repository(handle.repo, handle.refs, record, known) if known else None
            try:
                home = _collected(handle, channel, inner, (known, at_home), budget)
            except DamagedError:  # found out while it was sent: once more, for what is sound
                home = _collected(handle, channel, inner, (known, at_home), budget, careful=True)
        except SandboxError as error:
            if known and known.broken:  # as it was when it went in
                continue
            why = f"{error.message}: {error.cause}" if error.cause else error.message
            missing.append(one_line(f"{inner.path or inner.git_dir}: {why}", limit=500))
            continue
        if home is not None:
            homes.append(home)
    return Nested(tuple(homes), tuple(missing))


def left(record: Record, inners: Iterable[GuestNested]) -> Nested:
    """Those that are not as they went in, where nobody can be asked for them."""
    names = []
    for inner in inners:
        known = _known(record, inner)
        if not (known and (known.broken or (known.state is not None and known.state == inner.state))):
            names.append(one_line(f"{inner.path or inner.git_dir}: it is not part of a job's result", limit=500))
    return Nested(missing=tuple(names))


def _known(record: Record, inner: GuestNested) -> NestedRecord | None:
    """What the guest means, by git directory, or by checkout where that was moved (`git submodule absorbgitdirs`)."""
    same = [part for part in record.nested if part.git_dir == inner.git_dir]
    moved = [part for part in record.nested if part.path is not None and part.path == inner.path]
    return next(iter([*same, *moved]), None)


def _collected(
    handle: SandboxHandle,
    channel: socket.socket,
    inner: GuestNested,
    host: tuple[NestedRecord | None, Repository | None],
    budget: _Budget,
    *,
    careful: bool = False,
) -> NestedRetrieval | None:
    """`host`: what went in, and the repository it came from, as far as these are known."""
    known, at_home = host
    place = handle.directory.nested / own_name(inner.git_dir)
    repo = at_home or (bare(place) if place.is_dir() else None)
    have = [*known_objects(repo, handle.refs), *(known.stash if known and at_home else ())] if repo else []
    extra = {"git_dir": inner.git_dir, "path": inner.path}
    asked = {**extra, "careful": careful}
    reply = stream.request(channel, protocol.EXPORT, known=have, extra=asked, limits=budget.limits())
    chunks = budget.counted(reply.chunks)
    manifest = _parsed(reply.header, repo)
    budget.listed(manifest, chunks)
    if known:
        manifest = came_along(manifest, known.base, known.snapshot, known.index_tree, known.stash)
    if not _anything(manifest, known):
        for _ in chunks:
            pass
        return None
    target = repo or make_bare(place, manifest.object_format)
    given = known.refs if known and at_home else {}
    most = CollectLimits(objects=budget.objects)
    took = collect(
        target, handle.refs, manifest, chunks, quarantine=handle.directory.quarantine, limits=most, given=given
    )
    budget.objects -= took.objects
    content = lfs.bring_home(target, handle.refs, known if at_home else None, channel, place=extra)
    return NestedRetrieval(
        one_line(inner.path or inner.git_dir), target.git_dir, at_home is not None, took, content, manifest.operation
    )


def _parsed(header: bytes, repo: Repository | None) -> Manifest:
    if repo is not None:
        return manifest.parse(header, object_format=repo.object_format)
    try:
        return manifest.parse(header, object_format="sha1")
    except CollectError:
        return manifest.parse(header, object_format="sha256")


def _anything(manifest: Manifest, known: NestedRecord | None) -> bool:
    """Whether there is something that did not simply go in."""
    refs = {ref.name: ref.oid for ref in manifest.refs}  # those of other kinds, too: only what is new is told
    base = (known.base, known.refs) if known else (None, {})
    return (manifest.head.oid, refs) != base or bool(manifest.stash) or manifest.wip is not None


# --- where it is ------------------------------------------------------------------------------------------------------


# --- what would be lost -----------------------------------------------------------------------------------------------
