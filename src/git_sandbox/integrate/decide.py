"""The paths that a move from HEAD to its successor touches, and whether each may be touched.

A path may move when the worktree holds what the target has (nothing to do), what the sandbox saw at spawn (the
sandbox knew this content, so the target is built on it), or what HEAD has (the user never edited it). Anything
else is the user's own later work: it is merged by content if that goes without conflict, or it blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from git_sandbox.git import large
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.host import Checkout, Obstacle
from git_sandbox.integrate.trees import (
    GITLINK,
    Change,
    Entry,
    both_gitlinks,
    changes,
    empty_tree,
    merge_trees,
    overlay,
    staged,
)
from git_sandbox.later import dataclass

LATE = "edited here since the sandbox started, in conflict with the sandbox's change"
STAGED = "staged here since the sandbox started"
IGNORED = "an ignored or large local file that differs from the sandbox's copy is in the way"


@dataclass(frozen=True)
class Decision:
    """For every touched path: what git history does (`paths`), what is on disk (`disk`), what shall be on disk
    (`worktree`: the target, except where a `late` edit of the user stays on top of it).
    """

    paths: Mapping[bytes, Change]
    disk: Mapping[bytes, Entry | None]
    worktree: Mapping[bytes, Entry | None]
    late: tuple[bytes, ...]
    blocked: Mapping[bytes, str]


@dataclass(frozen=True)
class _View:
    """The four states of a path that count, each looked up relative to HEAD's tree."""

    paths: Mapping[bytes, Change]
    spawn: Mapping[bytes, Change]
    now: Mapping[bytes, Change]
    base: Mapping[bytes, Change]

    def head(self, path: bytes) -> Entry | None:
        return self.paths[path].before

    def target(self, path: bytes) -> Entry | None:
        return self.paths[path].after

    def at(self, states: Mapping[bytes, Change], path: bytes) -> Entry | None:
        return states[path].after if path in states else self.head(path)

    def accepted(self, path: bytes) -> tuple[Entry | None, ...]:
        return self.target(path), self.at(self.spawn, path), self.head(path)


def decide(git: Git, base: BaseRecord, snapshot: Snapshot, *, head_tree: Oid, target: Oid, scratch: Path) -> Decision:
    """Compare the host as `snapshot` has it with a move from `head_tree` to `target`; writes objects only."""
    view = _View(
        changes(git, head_tree, target),
        changes(base.seen_by(git), head_tree, base.snapshot),
        changes(git, head_tree, snapshot.tree),
        changes(git, head_tree, base.commit or empty_tree(git)),
    )
    checkout = Checkout.of(git)
    as_it_went_in = large.untouched(checkout.root, base.apart)
    disk: dict[bytes, Entry | None] = {}
    blocked: dict[bytes, str] = {}
    late: list[bytes] = []
    for path in view.paths:
        state = checkout.current(
            path,
            captured=view.at(view.now, path),
            expected=view.target(path),
            touched=view.paths.keys(),
            candidates=view.accepted(path),
        )
        if isinstance(state, Obstacle):
            blocked[path] = state.reason
            continue
        disk[path] = state
        if state in view.accepted(path) or both_gitlinks(state, view.target(path)) or as_it_went_in(path):
            continue
        if state is not None and view.at(view.now, path) is None:
            blocked[path] = IGNORED
        else:
            late.append(path)
    blocked |= _staged_since(git, base, view, head_tree, disk)
    _bring(base.seen_by(git), git, [view.at(view.spawn, path) for path in late])
    merged, conflicts = _merge_late(git, view, disk, late, scratch)
    blocked |= dict.fromkeys(conflicts, LATE)
    keep = {path: disk[path] for path in disk if both_gitlinks(disk[path], view.target(path))}
    worktree = {path: change.after for path, change in view.paths.items()} | keep | merged
    return Decision(view.paths, disk, worktree, tuple(late), blocked)


def _staged_since(
    git: Git, base: BaseRecord, view: _View, head_tree: Oid, disk: Mapping[bytes, Entry | None]
) -> dict[bytes, str]:
    """Staged content that only the index has would vanish with the index entry."""
    if base.index_tree is None:
        return {}
    index, then = staged(git, head_tree), changes(base.seen_by(git), head_tree, base.index_tree)
    return {
        path: STAGED
        for path, change in index.items()
        if path in disk
        and change.after not in (*view.accepted(path), disk[path], view.at(then, path))
        and not both_gitlinks(change.after, view.target(path))
        and not _intent_to_add(change.after, disk[path])
    }


def _intent_to_add(entry: Entry | None, disk: Entry | None) -> bool:
    return entry is not None and entry.empty and disk is not None


def _bring(source: Git, target: Git, entries: Iterable[Entry | None]) -> None:
    """Have in `target` what files were at the start, to merge with."""
    for entry in {side for side in entries if side and side.mode != GITLINK}:
        if target.try_run("cat-file", "-e", entry.oid).returncode:
            target.run("hash-object", "-w", "--stdin", input=source.run("cat-file", "blob", entry.oid))


def _merge_late(
    git: Git, view: _View, disk: Mapping[bytes, Entry | None], late: list[bytes], scratch: Path
) -> tuple[dict[bytes, Entry | None], tuple[bytes, ...]]:
    """The user's late edits merged with the target, and those that conflict with it."""
    if not late:
        return {}, ()
    nothing = empty_tree(git)
    # What the user's edit started from: HEAD's content, unless the file was already dirty at spawn.
    clean = {path: view.at(view.spawn, path) == view.at(view.base, path) for path in late}
    start = {path: view.head(path) if clean[path] else view.at(view.spawn, path) for path in late}
    base, ours, theirs = (
        overlay(git, nothing, entries, scratch)
        for entries in (start, {path: disk[path] for path in late}, {path: view.target(path) for path in late})
    )
    merge = merge_trees(git, base, ours, theirs, renames=False)
    result = changes(git, nothing, merge.tree)
    if merge.conflicts or not result.keys() <= set(late):
        # A file that became a directory is reported under a made-up name: then nobody can tell which one it was.
        return {}, tuple(path for path in late if path in merge.conflicts) or tuple(late)
    return {path: result[path].after if path in result else None for path in late}, ()
