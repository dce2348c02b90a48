"""After retrieval: uncommitted work first, then the merge, each by policy, with questions only on a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from git_sandbox import store
from git_sandbox.errors import IntegrateError, LimitError, SandboxError
from git_sandbox.git import usercommit
from git_sandbox.git.names import Oid, SandboxId, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.git.snapshot import commit_tree
from git_sandbox.integrate.apart import explain
from git_sandbox.integrate.merge import Merged, merge
from git_sandbox.integrate.modes import Relation, Request, committer
from git_sandbox.integrate.operation import in_progress
from git_sandbox.integrate.plan import Plan, plan, relation_only
from git_sandbox.integrate.trees import empty_tree, tree_of
from git_sandbox.later import dataclass
from git_sandbox.sandbox.lookup import base_of
from git_sandbox.sandbox.uncommitted import new_work
from git_sandbox.store import Record
from git_sandbox.text import listed

if TYPE_CHECKING:
    from git_sandbox.sandbox.imported import (
        Retrieval,  # at run time it would bring the backends into verbs that only look
    )

ASKED_DIRTY = ("keep", "commit", "stash", "discard")


@dataclass(frozen=True)
class Questions:
    """How to ask the user. None: there is nobody to ask, which never means yes."""

    merge: Callable[[Plan], bool] | None = None
    dirty: Callable[[Oid], str] | None = None  # one of ASKED_DIRTY


@dataclass(frozen=True)
class Settled:
    """`target`: what there is to merge, None when nothing. `merged` None: it was left in its ref; `reason` says why,
    and `explained` what happened to a history that no merge should join (lines that are safe to show).
    """

    target: Oid | None
    plan: Plan | None = None
    merged: Merged | None = None
    reason: str = ""
    explained: str = ""
    dirty: str = ""  # what became of uncommitted work: "" when there was none
    dirty_problem: str = ""  # why that is not what was asked for


def waits(home: Retrieval) -> bool:
    """Whether a merge or the like is in progress inside, or paths are in conflict: what a plain commit would end in the
    wrong way.
    """
    return home.manifest.operation not in (None, "bisect") or bool(home.manifest.unmerged)


def settle(
    repo: Repository, record: Record, home: Retrieval, questions: Questions, *, on_exit: str, dirty: str
) -> Settled:
    """Decide about uncommitted work and the merge. Never raises for what cannot be done: it is left for later."""
    if not repo.checked_out:  # the worktree it came from is gone
        questions, on_exit, dirty = Questions(), "keep", "keep"
    head, wip = home.collected.head, home.collected.wip
    work = wip if wip and new_work(repo, base_of(repo, record), head, wip) else None
    choice = _choice(work, questions, dirty)
    refused = choice in ("commit", "stash") and waits(home)
    choice = "keep" if refused else choice
    try:
        target, problem = _done(repo, record, head, work, choice), _in_progress(record, home) if refused else ""
    except SandboxError as error:  # no name and address to commit with, for one
        target, choice, problem = head, "keep", _said(error)
    try:
        settled = _merge(repo, record, home, target, questions, on_exit=on_exit)
    finally:
        store.remember(repo, record.id)
    return dataclasses.replace(settled, dirty=choice, dirty_problem=problem)


def _in_progress(record: Record, home: Retrieval) -> str:
    what = in_progress(home.manifest.operation)
    return f"{what} in the sandbox, which committing its files would lose: continue it (`sandbox shell {record.id}`)"


def _said(error: SandboxError) -> str:
    return f"{error.message}: {error.cause.splitlines()[-1]}" if error.cause else error.message


def _merge(
    repo: Repository, record: Record, home: Retrieval, target: Oid | None, questions: Questions, *, on_exit: str
) -> Settled:
    name = SandboxId(record.id)
    if target is None or target == record.base:
        return Settled(None)
    try:
        planned = plan(repo, base_of(repo, record), Request(name, target))
    except (IntegrateError, LimitError) as error:
        explained = "" if isinstance(error, LimitError) else _explained(repo, record, target)
        return Settled(target, reason=error.message, explained=explained)
    if planned.relation is Relation.UP_TO_DATE:
        return Settled(None, planned)
    agreed, reason = _agreed(planned, questions, on_exit, same_branch=_same_branch(repo, record, home))
    if not agreed:
        return Settled(target, planned, reason=reason)
    try:
        merged = merge(repo, base_of(repo, record), Request(name, target))
    except SandboxError as error:
        return Settled(target, planned, reason=error.message if isinstance(error, IntegrateError) else _said(error))
    return Settled(target, planned, merged)


def _explained(repo: Repository, record: Record, target: Oid) -> str:
    base = base_of(repo, record)
    try:
        relation = relation_only(repo, base, target)
        if relation not in (Relation.REWRITTEN, Relation.UNRELATED):
            return ""
        return explain(repo, base.commit, target, relation).text
    except LimitError as error:
        return f"({error.message})"


def _agreed(plan: Plan, questions: Questions, on_exit: str, *, same_branch: bool) -> tuple[bool, str]:
    if on_exit == "keep" or (on_exit != "merge" and questions.merge is None):
        return False, ""
    if not plan.possible:
        return False, why_not(plan)
    if on_exit == "merge" and not plan.risky:
        return True, ""
    if questions.merge is None:
        return False, f"{plan.question} ({listed([risk.path for risk in plan.risky])})"
    plain = plan.relation is Relation.FAST_FORWARD and same_branch and not plan.risky and not plan.late
    if on_exit == "auto" and plain:
        return True, ""
    return questions.merge(plan), "not merged"


def why_not(plan: Plan) -> str:
    if plan.busy:
        return plan.busy
    if plan.conflicts:
        return f"it conflicts with HEAD in {len(plan.conflicts)} file(s)"
    return f"{len(plan.blocked)} local file(s) would be overwritten"


def _same_branch(repo: Repository, record: Record, home: Retrieval) -> bool:
    """Whether guest and host are both still on the branch the sandbox started from."""
    return home.manifest.head.symref == record.base_symref == repo.head().symref


def _choice(work: Oid | None, questions: Questions, policy: str) -> str:
    """What shall become of uncommitted work: one of ASKED_DIRTY, nothing when there is none."""
    if work is None:
        return ""
    return policy if policy != "ask" else questions.dirty(work) if questions.dirty else "keep"


def _done(repo: Repository, record: Record, head: Oid | None, work: Oid | None, choice: str) -> Oid | None:
    """Do it, and say what there is to merge then. The work is in `refs/sandbox-wip/<id>` whatever is chosen."""
    if work and choice == "commit":
        return commit_wip(repo, SandboxId(record.id), head, work)
    if work and choice == "stash":
        stashed = stash_like(repo, head, work)
        repo.git.run("stash", "store", "-m", f"sandbox {record.id}: uncommitted work", stashed)
    return head


def stash_like(repo: Repository, head: Oid | None, wip: Oid) -> Oid:
    """`wip`, or a commit of its tree that `git stash apply` takes: its parents are HEAD and a commit of the index.

    The wip commit lacks one of them when the guest had no commit yet, or conflicts that no tree can hold.
    """
    if repo.resolve(f"{wip}^2"):
        return wip
    start = head or commit_tree(repo.git, empty_tree(repo.git), (), "nothing\n")
    # With the wip commit itself as the index: nothing but the stash has to be kept then.
    return commit_tree(repo.git, tree_of(repo.git, wip), (start, wip), "uncommitted work\n")


def commit_wip(repo: Repository, name: SandboxId, head: Oid | None, wip: Oid) -> Oid:
    """A commit of the uncommitted work on top of the sandbox's HEAD, as the user and signed if he signs;
    `refs/sandbox/<id>` moves to it.
    """
    committer(repo.git)
    message = f"Uncommitted work of sandbox {name}\n".encode()
    git, tree = repo.git, tree_of(repo.git, wip)
    commit = usercommit.commit(git, tree, [head] if head else [], message, sign=usercommit.signs(git))
    repo.git.run("update-ref", "-m", "sandbox: commit uncommitted work", SandboxRefs(name).head, commit)
    return commit
