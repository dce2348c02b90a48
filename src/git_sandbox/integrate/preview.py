"""What a merge would change, as trees to compare: the preview and the merge use the same trees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.modes import Request, combine, relate
from git_sandbox.integrate.plan import aside
from git_sandbox.integrate.trees import Entries, changes, empty_tree, overlay, shown, tree_of
from git_sandbox.later import dataclass


@dataclass(frozen=True)
class Preview:
    """`git` has both trees: HEAD's, and what a merge makes of it. Where there are `conflicts`, that has markers."""

    git: Git
    before: Oid
    after: Oid
    conflicts: tuple[str, ...]


@contextlib.contextmanager
def preview(repo: Repository, base: BaseRecord, request: Request) -> Iterator[Preview]:
    """What `merge` would do to HEAD. Raises IntegrateError when the mode cannot work for how the histories stand."""
    head = repo.head()
    with aside(repo) as (git, _):
        relation = relate(git, head.commit, base.commit, request.target)
        outcome = combine(git, head, relation, request, dry_run=True)
        yield Preview(git, tree_of(git, head.commit), outcome.tree, shown(outcome.conflicts))


@contextlib.contextmanager
def uncommitted(repo: Repository, base: BaseRecord, head: Oid | None, wip: Oid) -> Iterator[tuple[Git, Oid]]:
    """A tree to compare `wip` with, in a git that has both: the sandbox's HEAD, but for files that merely came along,
    as dirty as they were and with nothing committed to them.
    """
    with aside(repo) as (git, scratch):
        start = tree_of(git, head)
        along = _came_along(base, base.seen_by(repo.git), start, wip)
        yield git, overlay(git, start, along, scratch) if along else start


def _came_along(base: BaseRecord, git: Git, head: Oid, wip: Oid) -> Entries:
    worked_on = {*changes(git, base.snapshot, wip), *changes(git, base.commit or empty_tree(git), head)}
    return {path: change.after for path, change in changes(git, head, wip).items() if path not in worked_on}
