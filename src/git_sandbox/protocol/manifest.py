"""The manifest of a guest. Everything in it was written by the guest and is checked before use.

Checked means: well-formed, bounded, in the repository's object format, without duplicates. It does not mean true:
whether the named objects exist and are what they should be is for `collect` to find out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from git_sandbox.errors import CollectError
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass, replace
from git_sandbox.protocol import wire as raw_wire
from git_sandbox.protocol.changes import Changes, Tally
from git_sandbox.protocol.wire import MAX_NAME, MAX_REFS, Operation, WipState, Wire
from git_sandbox.text import one_line

MAX_JSON = 32 << 20  # bytes
# Every ref and every stash entry is one JSON object. More brackets than this only serve to fill our memory.
_MAX_CONTAINERS = 4 * MAX_REFS
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]|\.\.|//|/\Z")
_NOT_SENT = re.compile(r"refs/(?:stash\Z|(?:remotes|sandbox(?:-[a-z]+)?)/)")  # other people's work, or other ways home
_HEX_DIGITS = {"sha1": 40, "sha256": 64}


@dataclass(frozen=True)
class GuestRef:
    """`name` is the full name in the guest; bytes that are not UTF-8 are in it as surrogate escapes."""

    name: str
    oid: str


@dataclass(frozen=True)
class GuestHead:
    """`symref` unless detached, `oid` unless unborn."""

    symref: str | None
    oid: str | None


@dataclass(frozen=True)
class StashEntry:
    oid: str
    message: str


@dataclass(frozen=True)
class Wip:
    """Uncommitted work as a commit. With a HEAD: parents HEAD and (if the index could be written) a commit of it."""

    oid: str
    tree: str
    index_tree: str | None


@dataclass(frozen=True)
class GuestNested:
    """A repository inside the worktree: git directory and checkout relative to it. Names to compare, never to open.

    `path` is None for a submodule that is not checked out. `state` is a digest of all that is committed in it, None
    when it has uncommitted work.
    """

    git_dir: str
    path: str | None
    state: str | None


@dataclass(frozen=True)
class SetAside:
    """Something of the guest's (a ref, a tree, a part of a list) that does not come home, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        """Safe to print."""
        return one_line(f"{self.name}: {self.reason}", limit=500)


@dataclass(frozen=True)
class Manifest:
    """`stash` is newest first; all oids have the right length.

    `away`: commits that HEAD was at once and that nothing leads to any more. They are not in the pack.
    `wip` is None when index and worktree equal HEAD, but also when their state could not be written: `wip_state` tells,
    None where the guest does not say. `left_out`: files that are not in the wip. `set_aside`: what the guest could not
    read or pack, and what is not well-formed in its lists. `changes` is None where the guest does not say.
    `removed`: then `refs` lists only what differs from the start, and these were there then and are no more; None where
    the guest does not know the start, and `refs` are all.
    `unmerged`: paths in conflict; their stages, and the files of the operation in progress, are the tree of the ref
    `refs/operation/state`.
    """

    object_format: Literal["sha1", "sha256"]
    head: GuestHead
    refs: tuple[GuestRef, ...]
    stash: tuple[StashEntry, ...]
    worktree_tree: str | None
    wip: Wip | None
    operation: Operation | None
    warnings: tuple[str, ...]
    nested: tuple[GuestNested, ...] = ()
    away: tuple[str, ...] = ()
    changes: Changes | None = None
    wip_state: WipState | None = None
    left_out: tuple[SetAside, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    unmerged: tuple[str, ...] = ()
    removed: tuple[str, ...] | None = None

    def since(self, start: Mapping[str, str]) -> Manifest:
        """The same with all refs; `start` are those the guest began with (full name to object)."""
        if self.removed is None:
            return self
        changed = {*self.removed, *(ref.name for ref in self.refs)}
        same = (GuestRef(name, oid) for name, oid in start.items() if name not in changed)
        return replace(self, refs=(*self.refs, *same), removed=None)

    @property
    def unchanged(self) -> bool:
        """Whether the guest has proved that nothing changed."""
        return self.changes is not None and self.changes.state == "unchanged"

    def without_operation(self) -> Manifest:
        """The same without what is in progress."""
        refs = tuple(ref for ref in self.refs if not ref.name.startswith("refs/operation/"))
        return replace(self, refs=refs, operation=None, unmerged=())


def parse(data: bytes, *, object_format: str) -> Manifest:
    """The manifest of a guest whose repository uses `object_format`.

    Raises CollectError when the guest reports an error, or when anything in `data` is not as the protocol says.
    """
    raw = _decode(data)
    if isinstance(raw, dict) and isinstance(raw.get("error"), str):
        raise CollectError("the guest could not export the repository", cause=one_line(raw["error"]))
    try:
        wire = msgspec.convert(raw, Wire, strict=True)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _refused(str(error)) from None
    if wire.object_format != object_format:
        raise _refused(f"its object format is {wire.object_format}, here it is {object_format}")
    _check_oids(wire)
    if wire.head.symref is not None and (why := _unfit(wire.head.symref)):
        raise _refused(f"HEAD: {why}")
    return _build(wire)


def _refused(why: str) -> CollectError:
    return CollectError(
        "the guest's list of refs was refused",
        cause=one_line(why),
        hint="nothing was imported; the sandbox's disk is kept",
    )


def _decode(data: bytes) -> Any:
    # Not msgspec.json: it refuses lone surrogates, which is how bytes that are not UTF-8 travel.
    if len(data) > MAX_JSON:
        raise _refused(f"it is longer than {MAX_JSON} bytes")
    if data.count(b"{") + data.count(b"[") > _MAX_CONTAINERS:
        raise _refused("it has too many entries")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _refused(f"it is not JSON ({error})") from None


def _check_oids(wire: Wire) -> None:
    wip = (wire.wip.oid, wire.wip.tree, wire.wip.index_tree) if wire.wip else ()
    rows = (*(ref.oid for ref in wire.refs), *(entry.oid for entry in wire.stash))
    digits = _HEX_DIGITS[wire.object_format]
    for value in (wire.head.oid, wire.worktree_tree, *wip, *rows, *wire.away):
        if value is not None and len(value) != digits:
            raise _refused(f"{value} is not a {wire.object_format} object name")


def _unfit(name: str) -> str:
    """Why `name` cannot be that of a ref; empty when it can."""
    if not name.startswith("refs/") or name in {"refs/", "refs/heads/", "refs/tags/", "refs/notes/"}:
        return "it is not a ref"
    return "it is not a ref name" if _FORBIDDEN.search(name) else _no_text(name)


def _no_text(name: str) -> str:
    try:
        too_long = len(name.encode("utf-8", "surrogateescape")) > MAX_NAME
    except UnicodeEncodeError:
        return "its name is not text"
    return f"its name is longer than {MAX_NAME} bytes" if too_long else ""


Row = TypeVar("Row")


class _Lists:
    """The lists of a manifest without what is unfit in them, which is set aside by name."""

    def __init__(self, asides: Iterable[raw_wire.Aside]) -> None:
        self._aside = [SetAside(_cut(aside.name), _cut(aside.reason)) for aside in asides]

    @property
    def aside(self) -> tuple[SetAside, ...]:
        shown = self._aside[: protocol.MAX_ROWS]
        more = len(self._aside) - len(shown)
        return (*shown, *([SetAside("others", f"{more} more are set aside")] if more else []))

    def first(self, rows: list[Row], most: int, what: str) -> list[Row]:
        if len(rows) > most:
            self._aside.insert(0, SetAside(what, f"{most} of {len(rows)} are examined"))
        return rows[:most]

    def refs(self, rows: list[raw_wire.Ref]) -> tuple[GuestRef, ...]:
        by_name: dict[str, GuestRef] = {}
        for ref in self.first(rows, MAX_REFS, "refs"):
            why = _unfit(ref.name)
            why = why or ("it is listed twice" if ref.name in by_name else "")
            why = why or ("refs of this kind are not imported" if _NOT_SENT.match(ref.name) else "")
            if why:
                self._aside.append(SetAside(_cut(ref.name), why))
            else:
                by_name[ref.name] = GuestRef(ref.name, ref.oid)
        return tuple(by_name.values())

    def nested(self, rows: list[raw_wire.Nested]) -> tuple[GuestNested, ...]:
        repositories: dict[str, GuestNested] = {}
        for row in self.first(rows, protocol.MAX_NESTED, "repositories inside"):
            why = _no_text(row.git_dir) or _no_text(row.path or "")
            why = why or ("it is listed twice" if row.git_dir in repositories else "")
            if why:
                self._aside.append(SetAside(_cut(row.path or row.git_dir), why))
            else:
                repositories[row.git_dir] = GuestNested(row.git_dir, row.path, row.state)
        return tuple(repositories.values())


def _cut(text: str) -> str:
    return text[: raw_wire.MAX_MESSAGE]


def _build(wire: Wire) -> Manifest:
    lists = _Lists(wire.set_aside)
    refs, nested = lists.refs(wire.refs), lists.nested(wire.nested)
    stash = lists.first(wire.stash, MAX_REFS, "stashes")
    left_out = lists.first(wire.left_out, protocol.MAX_ROWS, "files left out")
    return Manifest(
        object_format=wire.object_format,
        head=GuestHead(wire.head.symref, wire.head.oid),
        refs=refs,
        stash=tuple(StashEntry(entry.oid, _cut(entry.message)) for entry in stash),
        worktree_tree=wire.worktree_tree,
        wip=Wip(wire.wip.oid, wire.wip.tree, wire.wip.index_tree) if wire.wip else None,
        operation=wire.operation,
        warnings=tuple(_cut(warning) for warning in wire.warnings[: raw_wire.MAX_WARNINGS]),
        nested=nested,
        away=tuple(wire.away),
        changes=_changes(wire.changes),
        wip_state=wire.wip_state,
        left_out=tuple(SetAside(_cut(file.path), _cut(file.reason)) for file in left_out),
        set_aside=lists.aside,
        unmerged=tuple(_cut(row) for row in wire.unmerged[: protocol.MAX_ROWS]),
        removed=None if wire.removed is None else tuple(wire.removed),
    )


def _changes(changes: raw_wire.Changes | None) -> Changes | None:
    if changes is None:
        return None

    def tally(raw: raw_wire.Tally | None) -> Tally | None:
        return Tally(raw.count, tuple(raw.names)) if raw else None

    counts = (changes.uncommitted, changes.ignored, changes.nested, changes.git, changes.outside)
    return Changes(changes.state, changes.reason, *map(tally, counts))
