"""Continues a merge, cherry-pick or revert that is in progress inside a sandbox in the user's checkout.

Afterwards it is as if the user had come that far himself: `git status` says what is left, `git commit` ends it.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.errors import IntegrateError
from git_sandbox.git import snapshot
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, SandboxId
from git_sandbox.git.repo import Head, Repository
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.integrate import backup, host
from git_sandbox.integrate.advance import Move, execute, locked
from git_sandbox.integrate.backup import Backup
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.decide import Decision, decide
from git_sandbox.integrate.modes import committer
from git_sandbox.integrate.operation import HEADS, Operation, in_progress
from git_sandbox.integrate.plan import aside
from git_sandbox.integrate.risky import Risk, risks
from git_sandbox.integrate.trees import empty_tree, overlay, set_entries, shown, staged, text, tree_of
from git_sandbox.later import dataclass, replace
from git_sandbox.text import one_line

_NAMED = 10  # paths named in an error message
_FRESH = ".sandbox"  # ends the name of a file that is being written
_INDEX = "sandbox-index"  # beside the real one: the rename must not cross file systems


@dataclass(frozen=True)
class Resumed:
    """`kind`: merge, cherry-pick or revert. `conflicts`: what there is to resolve; guest text. `later`: commits that a
    pick of several has still to take. `backup`: the checkout before.
    """

    kind: str
    head: Oid | None
    conflicts: tuple[str, ...]
    changed: tuple[str, ...]
    later: tuple[Oid, ...]
    backup: RefName


@dataclass(frozen=True)
class Waiting:
    """An operation that waits in a sandbox, on its HEAD `head`. `base`: what the sandbox started from."""

    sandbox: SandboxId
    base: BaseRecord
    head: Oid | None
    operation: Operation


def look(repo: Repository, waiting: Waiting) -> tuple[Risk, ...]:
    """What is risky in the files that `resume` would bring. Raises IntegrateError where it would."""
    with aside(repo) as (git, scratch):
        return risks(git, _decided(repo, git, waiting, scratch)[2].paths, waiting.operation.worktree)


def resume(repo: Repository, waiting: Waiting) -> Resumed:
    """Set up what waits in the sandbox in the user's checkout.

    Raises IntegrateError, with nothing changed, when the user's HEAD is elsewhere, when something is in progress or
    staged there, and when a file of his is in the way.
    """
    with locked(repo), tempfile.TemporaryDirectory(prefix="git-sandbox-") as place:
        scratch, operation, name = Path(place), waiting.operation, waiting.sandbox
        before, state, decision = _decided(repo, repo.git, waiting, scratch)
        disk = overlay(repo.git, state.tree, decision.disk, scratch)
        nothing = empty_tree(repo.git)
        saved = Backup(before, operation.heads[0], disk, state.index_tree or nothing, nothing)
        ref = backup.save(repo, name, saved)
        index = {path: change.after for path, change in decision.paths.items()}
        log = f"sandbox merge --resume {name}"
        move = Move(before, before.commit, decision.disk, decision.worktree, index, log, ref)
        with _all_or_nothing(repo, operation, move, scratch):
            execute(repo, move, scratch)
            _set_index(repo, operation)
            _set_files(repo, operation)
        return Resumed(operation.kind, before.commit, operation.unmerged, shown(decision.paths), operation.later, ref)


def _decided(repo: Repository, git: Git, waiting: Waiting, scratch: Path) -> tuple[Head, Snapshot, Decision]:
    operation, name, head = waiting.operation, waiting.sandbox, waiting.head
    host.refuse_if_busy(repo)
    if operation.kind not in HEADS or not operation.heads:
        what = f"{in_progress(operation.kind)} there, and it"
        raise IntegrateError(f"{what} can only be continued inside", hint=f"`sandbox shell {name}`")
    before = repo.head()
    if before.commit != head or head is None:
        hint = f"`sandbox merge {name}` brings it there; or continue inside: `sandbox shell {name}`"
        raise IntegrateError("your HEAD is not the commit on which it waits in the sandbox", hint=hint)
    committer(git)
    state = snapshot.take(git, repo.git_dir / "index", scratch)
    start = tree_of(git, head)
    decision = decide(git, waiting.base, state, head_tree=start, target=operation.worktree, scratch=scratch)
    bad = dict.fromkeys(decision.late, "changed here as well") | dict(decision.blocked)
    if state.index_tree != waiting.base.index_tree:
        bad |= dict.fromkeys(staged(git, start), "staged here")
    _refuse(bad)
    return before, state, decision


def _refuse(bad: dict[bytes, str]) -> None:
    if bad:
        lines = [one_line(f"{text(path)}: {why}") for path, why in sorted(bad.items())]
        more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
        raise IntegrateError(
            f"{len(bad)} local file(s) would be overwritten",
            cause="\n".join(lines[:_NAMED] + more),
            hint="nothing was changed; commit or stash them and retry",
        )


@contextlib.contextmanager
def _all_or_nothing(repo: Repository, operation: Operation, move: Move, scratch: Path) -> Iterator[None]:
    """Put files and index back when the block fails after the files were moved (a full disk)."""
    index, old = repo.git_dir / "index", scratch / "index-before"
    if index.exists():
        shutil.copy2(index, old)
    try:
        yield
    except BaseException:
        for name in _written(operation):
            for file in (name, f"{name}{_FRESH}"):
                repo.git_dir.joinpath(file).unlink(missing_ok=True)
        if index.exists() and not (old.exists() and index.read_bytes() == old.read_bytes()):
            back = replace(move, disk=move.worktree, worktree=move.disk, index=move.disk)
            execute(repo, back, scratch)
            _put_back(repo, old)
        raise


def _put_back(repo: Repository, old: Path) -> None:
    if not old.exists():
        repo.git_dir.joinpath("index").unlink()
        return
    private = repo.git_dir / _INDEX
    shutil.copy2(old, private)
    private.replace(repo.git_dir / "index")


def _set_index(repo: Repository, operation: Operation) -> None:
    """The index that the guest has: what is staged, and the stages of what is in conflict."""
    private = repo.git_dir / _INDEX
    shutil.copy2(repo.git_dir / "index", private)
    git = repo.git.with_env(GIT_INDEX_FILE=str(private))
    width = len(operation.state)
    set_entries(git, {path: change.before for path, change in staged(git, operation.index).items()}, width)
    gone = [b"0 %s\t%s\0" % (b"0" * width, path) for path in operation.stages]
    rows = [
        b"%s %s %s\t%s\0" % (entry.mode.encode(), entry.oid.encode(), stage.encode(), path)
        for path, entries in operation.stages.items()
        for stage, entry in entries.items()
    ]
    git.run("update-index", "-z", "--index-info", input=b"".join(gone + rows))
    git.run("update-index", "-q", "--refresh", ok=(0, 1))
    private.replace(repo.git_dir / "index")


def _written(operation: Operation) -> tuple[str, ...]:
    """The operation's own files; the one that counts last."""
    return ("MERGE_MSG", *(["MERGE_MODE"] if operation.kind == "merge" else []), HEADS[operation.kind])


def _set_files(repo: Repository, operation: Operation) -> None:
    """Those by which git knows that it waits."""
    files = dict.fromkeys(_written(operation), b"") | {"MERGE_MSG": operation.message}
    if operation.kind == "merge":
        files["MERGE_MODE"] = b"no-ff" if operation.mode.strip() == b"no-ff" else b""
    files[HEADS[operation.kind]] = "".join(f"{oid}\n" for oid in operation.heads).encode()
    for name, content in files.items():
        fresh = repo.git_dir / f"{name}{_FRESH}"
        fresh.write_bytes(content)
        fresh.replace(repo.git_dir / name)
