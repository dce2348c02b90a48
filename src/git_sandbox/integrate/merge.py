"""Merges a sandbox's commits into the user's checkout, and undoes that."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from git_sandbox.errors import IntegrateError, UsageError
from git_sandbox.git import lfs, snapshot, usercommit
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, SandboxId
from git_sandbox.git.repo import Head, Repository
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.integrate import backup, host
from git_sandbox.integrate.advance import Move, execute, locked
from git_sandbox.integrate.backup import Backup
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.decide import Decision, decide
from git_sandbox.integrate.modes import Mode, Relation, Request, combine, relate
from git_sandbox.integrate.plan import Plan, plan
from git_sandbox.integrate.trees import GITLINK, empty_tree, overlay, shown, text, tree_of
from git_sandbox.later import dataclass
from git_sandbox.text import one_line, printable

_NAMED = 10  # paths named in an error message; the plan has them all


@dataclass(frozen=True)
class Merged:
    """`after` is where HEAD is now (for a dry run: None unless it would not move). `late`: edits of the user that were
    merged by content and are still uncommitted. `backup`: what `undo` goes back to, None when nothing moved.
    `absent`: paths (guest text) whose Git LFS content is not in the user's store. `unsigned`: commits of the sandbox
    without a signature that came in although the user's git signs its own.
    """

    relation: Relation
    mode: Mode
    before: Oid | None
    after: Oid | None
    changed: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    skipped: tuple[Oid, ...] = ()
    backup: RefName | None = None
    dry_run: bool = False
    unsigned: int = 0
    absent: tuple[str, ...] = ()


def merge(repo: Repository, base: BaseRecord, request: Request, *, dry_run: bool = False) -> Merged:
    """Advance HEAD, index and worktree of the user's checkout, all or nothing.

    Raises IntegrateError, with nothing changed, when histories conflict, when a file of the user's is in the way, and
    while a merge, rebase or the like is in progress.
    """
    if dry_run:
        return _dry_run(plan(repo, base, request), request.sandbox)
    with locked(repo), tempfile.TemporaryDirectory(prefix="git-sandbox-") as place:
        host.refuse_if_busy(repo)
        head, scratch = repo.head(), Path(place)
        relation = relate(repo.git, head.commit, base.commit, request.target)
        outcome = combine(repo.git, head, relation, request)
        _refuse_conflicts(outcome.conflicts, outcome.stopped_at, request.sandbox)
        if outcome.commit is None or outcome.commit == head.commit:
            return Merged(relation, request.mode, head.commit, head.commit, skipped=outcome.skipped)
        state = snapshot.take(repo.git, repo.git_dir / "index", scratch)
        start = tree_of(repo.git, head.commit)
        decision = decide(repo.git, base, state, head_tree=start, target=outcome.tree, scratch=scratch)
        _refuse_blocked(decision.blocked)
        name = backup.save(
            repo, request.sandbox, _backup(repo.git, head, state, outcome.commit, decision, scratch=scratch)
        )
        index = {path: change.after for path, change in decision.paths.items()}
        log = f"sandbox merge {request.sandbox}: {relation}"
        absent = _absent(repo, decision)
        with _explained(absent, request.sandbox):
            execute(repo, Move(head, outcome.commit, decision.disk, decision.worktree, index, log, name), scratch)
        return Merged(
            relation,
            request.mode,
            head.commit,
            outcome.commit,
            changed=shown(decision.paths),
            late=shown(decision.late),
            skipped=outcome.skipped,
            backup=name,
            absent=absent,
            unsigned=_unsigned(repo.git, head.commit, outcome.commit, request),
        )


def _absent(repo: Repository, decision: Decision) -> tuple[str, ...]:
    """Paths that come in as pointers of Git LFS to content that the user's store has not got."""
    after = {path: entry.oid for path, (_, entry) in decision.paths.items() if entry and entry.mode != GITLINK}
    store, pointers = lfs.Store.of(repo), lfs.read(repo.git, dict.fromkeys(after.values()))
    return shown(path for path, name in after.items() if name in pointers and not store.has(pointers[name]))


@contextlib.contextmanager
def _explained(absent: tuple[str, ...], sandbox: SandboxId) -> Iterator[None]:
    """Git's filter looks on a server for content that is not in the store, and may fail there."""
    try:
        yield
    except IntegrateError as error:
        if not absent:
            raise
        named = ", ".join(one_line(path) for path in absent[:_NAMED])
        cause = f"{error.cause}\nthe content of these Git LFS files is not in your store: {named}"
        hint = f"nothing was changed; `sandbox recover {sandbox}` gets it from the disk, `--branch NAME` needs none"
        raise IntegrateError(error.message, cause=cause, hint=hint) from error


def _unsigned(git: Git, before: Oid | None, after: Oid, request: Request) -> int:
    return usercommit.unsigned(git, before, after) if request.sign and usercommit.signs(git) else 0


def _dry_run(plan: Plan, sandbox: SandboxId) -> Merged:
    host.refuse(plan.busy)
    _refuse_conflicts(tuple(map(_raw, plan.conflicts)), plan.stopped_at, sandbox)
    _refuse_blocked({_raw(blocked.path): blocked.reason for blocked in plan.blocked})
    return Merged(
        plan.relation,
        plan.mode,
        plan.head.commit,
        None if plan.moves else plan.head.commit,
        changed=plan.changed,
        late=plan.late,
        skipped=plan.skipped,
        dry_run=True,
    )


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _listed(paths: Mapping[bytes, str]) -> str:
    lines = [one_line(f"{text(path)}: {why}" if why else path) for path, why in sorted(paths.items())]
    more = len(lines) - _NAMED
    return "\n".join(lines[:_NAMED] + ([f"and {more} more"] if more > 0 else []))


def _refuse_conflicts(paths: tuple[bytes, ...], at: Oid | None, sandbox: SandboxId) -> None:
    if paths:
        raise IntegrateError(
            f"{len(paths)} conflicting path(s)" + (f" at commit {at[:12]}" if at else ""),
            cause=_listed(dict.fromkeys(paths, "")),
            hint="nothing was changed; resolve them in your checkout with "
            f"`sandbox merge --conflicts {sandbox}`, or put the work on a branch with --branch NAME",
        )


def _refuse_blocked(blocked: Mapping[bytes, str]) -> None:
    if blocked:
        raise IntegrateError(
            f"{len(blocked)} local file(s) would be overwritten",
            cause=_listed(blocked),
            hint="nothing was changed; commit, move or restore them and retry",
        )


def _backup(git: Git, head: Head, state: Snapshot, result: Oid, decision: Decision, *, scratch: Path) -> Backup:
    nothing = empty_tree(git)
    disk = overlay(git, state.tree, decision.disk, scratch)
    left = overlay(git, nothing, decision.worktree, scratch)
    return Backup(head, result, disk, state.index_tree or nothing, left)


def create_branch(repo: Repository, name: str, target: Oid, *, dry_run: bool = False) -> RefName:
    """A new branch at `target`; HEAD, index and worktree stay. Raises UsageError for a name git does not allow,
    IntegrateError when the branch exists elsewhere.
    """
    ref = RefName(f"refs/heads/{name}")
    if repo.git.try_run("check-ref-format", "--branch", name).text.strip() != name:
        raise UsageError(f"`{printable(name)}` cannot be the name of a branch")
    there = repo.resolve(ref)
    if there is not None and there != target:
        raise IntegrateError(f"the branch `{name}` exists already", hint="choose another name")
    if there is None and not dry_run:
        repo.git.run("update-ref", "-m", f"branch: Created from {target}", ref, target, "0" * len(target))
    return ref
