"""Taking back the last merge, as long as nothing was built on it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.errors import IntegrateError
from git_sandbox.git import snapshot
from git_sandbox.git.names import Oid, RefName, SandboxId
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import host
from git_sandbox.integrate.advance import Move, execute, locked
from git_sandbox.integrate.backup import Backup, saved
from git_sandbox.integrate.decide import current
from git_sandbox.integrate.trees import GITLINK, Change, Entry, changes, empty_tree, shown, staged, text, tree_of
from git_sandbox.text import printable


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
        name, old = _last(repo, sandbox)
        move = _move_back(repo, sandbox, name, old, Path(place))
        execute(repo, move, Path(place))
        return Undone(old.result, old.before.commit, shown(move.disk), name)


def _last(repo: Repository, sandbox: SandboxId) -> tuple[RefName, Backup]:
    found, head = saved(repo, sandbox), repo.head()
    if not found:
        raise IntegrateError(f"nothing of `{sandbox}` was merged here", hint="`sandbox log` shows what it holds")
    for name, old in found:
        if old.result == head.commit and old.before.symref == head.symref:
            return name, old
    raise IntegrateError(
        "HEAD is no longer where the merge left it",
        hint=f"`{found[0][0]}` holds the checkout before it: `git diff {found[0][0]}` compares",
    )


def _move_back(repo: Repository, sandbox: SandboxId, name: RefName, old: Backup, scratch: Path) -> Move:
    git, nothing = repo.git, empty_tree(repo.git)
    before = tree_of(git, old.before.commit)
    paths = changes(git, tree_of(git, old.result), before)
    left = {path: _at(changes(git, nothing, old.left), path, None) for path in paths}
    disk = _unedited(repo, name, paths, left, result=old.result, scratch=scratch)
    worktree, index = (
        {path: _at(delta, path, change.after) for path, change in paths.items()}
        for delta in (changes(git, before, old.disk), changes(git, before, old.index))
    )
    # A submodule's checkout was not touched by the merge and is not touched now.
    worktree |= {path: entry for path, entry in disk.items() if entry and entry.mode == GITLINK and worktree[path]}
    head = repo.head()
    return Move(head, old.before.commit, disk, worktree, index, f"sandbox undo {sandbox}", name)


def _at(delta: Mapping[bytes, Change], path: bytes, otherwise: Entry | None) -> Entry | None:
    return delta[path].after if path in delta else otherwise


def _unedited(
    repo: Repository,
    name: RefName,
    paths: Mapping[bytes, Change],
    left: Mapping[bytes, Entry | None],
    *,
    result: Oid,
    scratch: Path,
) -> dict[bytes, Entry | None]:
    """What is on disk at `paths`. Raises IntegrateError unless the merge left it so."""
    git = repo.git
    state = snapshot.take(git, repo.git_dir / "index", scratch)
    now, index = changes(git, result, state.tree), staged(git, tree_of(git, result))
    checkout = host.Checkout.of(git)
    found = {path: current(checkout, paths, now, path, (left[path],)) for path in paths}
    disk = {path: entry for path, entry in found.items() if not isinstance(entry, host.Obstacle)}
    edited = {path for path in paths if path not in disk or not _same(disk[path], left[path])}
    edited |= {path for path in paths if path in index and index[path].after not in (disk.get(path), left[path])}
    if edited:
        raise IntegrateError(
            f"{len(edited)} path(s) of the merge were edited since",
            cause="\n".join(printable(text(path)) for path in sorted(edited)[:10]),
            hint=f"nothing was changed; `{name}` holds the checkout before the merge",
        )
    return disk


def _same(now: Entry | None, left: Entry | None) -> bool:
    return now == left or (now is not None and left is not None and now.mode == left.mode == GITLINK)
