"""An ordinary `git merge` in the user's checkout, for conflicts that the user wants to resolve by hand.

It is refused unless every path it touches is as HEAD has it, so that `git merge --abort` loses nothing; a backup ref
comes first all the same, and another one before an abort, which throws away what was resolved so far.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from git_sandbox.errors import IntegrateError
from git_sandbox.git import snapshot
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, SandboxId
from git_sandbox.git.repo import Head, Repository
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.integrate import backup, host
from git_sandbox.integrate.backup import Backup
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.decide import decide
from git_sandbox.integrate.modes import Mode, Outcome, Request, combine, committer, merge_message, relate
from git_sandbox.integrate.plan import aside
from git_sandbox.integrate.trees import changes, empty_tree, shown, staged, text, tree_of
from git_sandbox.later import dataclass
from git_sandbox.text import one_line, printable

_NAMED = 10  # paths named in an error message
# Whatever the user's configuration says about merges in general, this one is plain, and waits for the user.
_PLAIN = (
    "--no-ff", "--no-commit", "--no-squash", "--no-stat", "--no-autostash", "--no-verify-signatures", "--no-log",
    "--no-rerere-autoupdate", "--strategy=ort",
)  # fmt: skip


@dataclass(frozen=True)
class Started:
    """`conflicts`: what there is to resolve; guest text. `backup`: the checkout before it began."""

    head: Oid
    target: Oid
    conflicts: tuple[str, ...]
    backup: RefName


@dataclass(frozen=True)
class Aborted:
    """`backup`: the checkout in the middle of the merge, with whatever had been resolved."""

    head: Oid
    target: Oid
    backup: RefName


def start(repo: Repository, base: BaseRecord, request: Request) -> Started:
    """Begin a merge that has conflicts, and leave it to the user.

    Raises IntegrateError, with nothing changed, when there is nothing to resolve, when the mode is not a plain merge,
    when a path that it touches is not as HEAD has it, and while another operation is in progress.
    """
    host.refuse_if_busy(repo)
    head = repo.head()
    _refuse_mode(request)
    committer(repo.git)  # before the work is done, not when it is to be committed
    with aside(repo) as (git, _):
        outcome = combine(git, head, relate(git, head.commit, base.commit, request.target), request, dry_run=True)
        if head.commit is None or not outcome.conflicts:
            raise IntegrateError("there are no conflicts to resolve", hint=f"`sandbox merge {request.sandbox}` merges")
        _refuse_dirty(git, repo.git_dir / "index", base, head.commit, outcome)
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as place:
        state = snapshot.take(repo.git, repo.git_dir / "index", Path(place))
    name = _save(repo, request.sandbox, head, request.target, state)
    message = request.message or merge_message(head, request)
    done = repo.git.try_run("merge", *_PLAIN, "-m", message, request.target)
    if _merging(repo) != request.target:
        raise IntegrateError(
            "git did not begin the merge",
            cause=printable(done.complaint or done.text, limit=2000),
            hint="nothing was changed; look at the files named, then retry",
        )
    return Started(head.commit, request.target, _unmerged(repo.git), name)


def abort(repo: Repository, sandbox: SandboxId) -> Aborted:
    """Take back a merge of `sandbox` that waits for the user: HEAD, index and worktree are as before it.

    Raises IntegrateError, with nothing changed, when no merge is in progress or it is not one that `start` began.
    """
    target, head = _merging(repo), repo.head()
    if target is None:
        raise IntegrateError("no merge is in progress", hint=f"`sandbox merge --undo {sandbox}` undoes a finished one")
    ours = [old for _, old in backup.saved(repo, sandbox) if old.result == target and old.before == head]
    if not ours or head.commit is None:
        raise IntegrateError(
            f"the merge in progress is not one of sandbox `{sandbox}`", hint="`git merge --abort` aborts it"
        )
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as place:
        state = snapshot.take(repo.git, repo.git_dir / "index", Path(place))
    name = _save(repo, sandbox, head, target, state)
    repo.git.run("merge", "--abort")
    return Aborted(head.commit, target, name)


def _refuse_mode(request: Request) -> None:
    if request.mode not in (Mode.FF_OR_MERGE, Mode.NO_FF):
        raise IntegrateError(
            f"conflicts of {request.mode} cannot be resolved in the checkout",
            hint=f"use a plain merge, or a branch: `sandbox merge --branch NAME {request.sandbox}`",
        )


def _save(repo: Repository, sandbox: SandboxId, head: Head, target: Oid, state: Snapshot) -> RefName:
    """A backup whose `left` is empty: `undo` can never take it for a finished merge."""
    nothing = empty_tree(repo.git)
    return backup.save(repo, sandbox, Backup(head, target, state.tree, state.index_tree or nothing, nothing))


def _refuse_dirty(git: Git, index: Path, base: BaseRecord, head: Oid, outcome: Outcome) -> None:
    """Git itself would overwrite ignored files, and cannot tell what is staged from what it merged."""
    tree = tree_of(git, head)
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as place:
        state = snapshot.take(git, index, Path(place))
        decision = decide(git, base, state, head_tree=tree, target=outcome.tree, scratch=Path(place))
    now = changes(git, tree, state.tree)
    bad = dict.fromkeys(now.keys() & outcome.conflicts, "changed here, and in conflict")
    bad |= {path: "changed here" for path, problem in decision.disk.items() if problem != decision.paths[path].before}
    bad |= dict.fromkeys(staged(git, tree), "staged here")
    bad |= decision.blocked
    if bad:
        lines = [one_line(f"{text(path)}: {why}") for path, why in sorted(bad.items())]
        more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
        raise IntegrateError(
            f"{len(bad)} local file(s) would be overwritten by the merge",
            cause="\n".join(lines[:_NAMED] + more),
            hint="nothing was changed; commit or stash them and retry",
        )


def _merging(repo: Repository) -> Oid | None:
    """What is being merged; None unless it is exactly one commit."""
    with contextlib.suppress(OSError):
        lines = (repo.git_dir / "MERGE_HEAD").read_text("ascii").split()
        return Oid(lines[0]) if len(lines) == 1 else None
    return None


def _unmerged(git: Git) -> tuple[str, ...]:
    rows = git.run("ls-files", "-u", "-z").split(b"\0")[:-1]
    return shown({row.split(b"\t", 1)[1] for row in rows})
