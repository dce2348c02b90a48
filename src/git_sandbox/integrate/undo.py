"""Undoes the last merge, as long as nothing was built on it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from git_sandbox.errors import IntegrateError
from git_sandbox.git import snapshot
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, SandboxId
from git_sandbox.git.repo import Repository
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.integrate import host
from git_sandbox.integrate.advance import Move, execute, locked
from git_sandbox.integrate.backup import Backup, saved
from git_sandbox.integrate.trees import (
    Change,
    Entries,
    Entry,
    both_gitlinks,
    changes,
    empty_tree,
    shown,
    staged,
    tree_of,
)
from git_sandbox.later import dataclass
from git_sandbox.text import one_line


@dataclass(frozen=True)
class Undone:
    before: Oid
    after: Oid | None  # None: HEAD is unborn again
    restored: tuple[str, ...]
    backup: RefName


def undo(repo: Repository, sandbox: SandboxId) -> Undone:
    """Put HEAD, index and worktree back to what they were before the last merge of `sandbox`.

    Files the merge did not touch stay as they are now. Raises IntegrateError, with nothing changed, when HEAD has
    moved on or a path of the merge was edited or staged since; the backup ref named in the hint still has everything.
    """
    with locked(repo), tempfile.TemporaryDirectory(prefix="git-sandbox-") as place:
        host.refuse_if_busy(repo)
        name, old = last(repo, sandbox)
        move = _move_back(repo, sandbox, name, old, Path(place))
        execute(repo, move, Path(place))
        return Undone(old.result, old.before.commit, shown(move.disk), name)


def last(repo: Repository, sandbox: SandboxId) -> tuple[RefName, Backup]:
    """The merge that `undo` takes back. Raises IntegrateError where there is none."""
    backup, head = saved(repo, sandbox), repo.head()
    if not backup:
        raise IntegrateError(f"nothing of `{sandbox}` was merged here", hint="`sandbox log` shows what it holds")
    for name, old in backup:
        if old.result == head.commit and old.before.symref == head.symref:
            return name, old
    raise IntegrateError(
        "HEAD has moved since the merge",
        hint=f"`{backup[0][0]}` holds the checkout before it: `git diff {backup[0][0]}` compares",
    )


@dataclass(frozen=True)
class _States:
    """The touched paths: as the merge left them, and as worktree and index had them before it."""

    paths: Mapping[bytes, Change]  # from the merge's result back to what HEAD was
    left: Entries
    worktree: Entries
    index: Entries


def _states(git: Git, old: Backup) -> _States:
    before = tree_of(git, old.before.commit)
    paths = changes(git, tree_of(git, old.result), before)
    left = changes(git, empty_tree(git), old.left)
    worktree, index = changes(git, before, old.disk), changes(git, before, old.index)
    return _States(
        paths,
        {path: _at(left, path, None) for path in paths},
        {path: _at(worktree, path, change.after) for path, change in paths.items()},
        {path: _at(index, path, change.after) for path, change in paths.items()},
    )


def _at(delta: Mapping[bytes, Change], path: bytes, otherwise: Entry | None) -> Entry | None:
    return delta[path].after if path in delta else otherwise


def _move_back(repo: Repository, sandbox: SandboxId, name: RefName, old: Backup, scratch: Path) -> Move:
    states = _states(repo.git, old)
    now = snapshot.take(repo.git, repo.git_dir / "index", scratch)
    disk = _unedited(repo.git, name, old, states, now)
    # A submodule's checkout was not touched by the merge and is not touched now.
    keep = {path: entry for path, entry in disk.items() if both_gitlinks(entry, states.worktree[path])}
    log = f"sandbox undo {sandbox}"
    return Move(repo.head(), old.before.commit, disk, {**states.worktree, **keep}, states.index, log, name)


def _unedited(git: Git, name: RefName, old: Backup, states: _States, now: Snapshot) -> dict[bytes, Entry | None]:
    """What is on disk at the touched paths. Raises IntegrateError unless disk and index are as the merge left them."""
    result = tree_of(git, old.result)
    worktree, index = changes(git, result, now.tree), staged(git, result)
    checkout, disk, edited = host.Checkout.of(git), {}, []
    for path, change in states.paths.items():
        left = states.left[path]
        state = checkout.current(
            path,
            captured=_at(worktree, path, change.before),
            expected=states.worktree[path],
            touched=states.paths.keys(),
            candidates=(left,),
        )
        moved = path in index and index[path].after != left
        if isinstance(state, host.Obstacle) or moved or not (state == left or both_gitlinks(state, left)):
            edited.append(path)
        else:
            disk[path] = state
    if edited:
        raise IntegrateError(
            f"{len(edited)} path(s) of the merge were edited since",
            cause="\n".join(one_line(path) for path in edited[:10]),
            hint=f"nothing was changed; `{name}` holds the checkout before the merge",
        )
    return disk
