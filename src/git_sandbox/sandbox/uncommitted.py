"""Whether a sandbox holds uncommitted work beyond what it started with."""

from __future__ import annotations

from git_sandbox.errors import LimitError, RepositoryError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import review
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.overview import MAX_PATHS
from git_sandbox.integrate.trees import empty_tree
from git_sandbox.text import printable


def new_work(repo: Repository, base: BaseRecord, head: Oid | None, wip: Oid | None) -> bool:
    """Does the uncommitted tree differ from HEAD in a file that also differs from how the worktree was at the start?
    Or is something staged that is neither in HEAD nor in the files, nor was it staged at the start?

    A file that went in uncommitted and came back untouched is still in the user's worktree: nothing to tell about.
    """
    if wip is None:
        return False
    try:
        return _new_work(repo, base, head, wip)
    except LimitError:  # so much that nobody can look through it came from inside
        return True


def _new_work(repo: Repository, base: BaseRecord, head: Oid | None, wip: Oid) -> bool:
    start, git = head or empty_tree(repo.git), base.seen_by(repo.git)
    beyond_head = _paths(git, start, wip)
    if beyond_head and not beyond_head.isdisjoint(_paths(git, base.snapshot, wip)):
        return True
    index = repo.resolve(f"{wip}^2^{{tree}}")
    staged = _paths(git, start, index) & _paths(git, wip, index) if index else set()
    then = base.index_tree
    return bool(staged) and (then is None or not staged.isdisjoint(_paths(git, then, Oid(str(index)))))


def lost(repo: Repository, base: BaseRecord, head: Oid | None, wip: Oid | None) -> bool:
    """Like `new_work`, and it is on no branch of the user's either. A stash does not count: it is dropped or popped."""
    return wip is not None and new_work(repo, base, head, wip) and bool(review.unmerged(repo, [wip], limit=1))


def _paths(git: Git, before: Oid, after: Oid) -> set[bytes]:
    done = git.try_run("diff-tree", "-r", "-z", "--no-renames", "--name-only", before, after, output=MAX_PATHS)
    if done.returncode:
        raise RepositoryError("git diff-tree failed", cause=printable(done.complaint, limit=2000))
    return set(done.stdout.split(b"\0")) - {b""}
