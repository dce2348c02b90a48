"""What merging a sandbox would do, computed without changing anything: not even the object store grows."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.git import gitdirs, snapshot
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Head, Repository
from git_sandbox.integrate import host
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.decide import Decision, decide
from git_sandbox.integrate.modes import Mode, Outcome, Relation, Request, combine, relate
from git_sandbox.integrate.risky import Risk, risks
from git_sandbox.integrate.trees import changes, shown, text, tree_of
from git_sandbox.later import dataclass


@dataclass(frozen=True)
class Blocked:
    path: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """`conflicts`: paths in conflict between the two histories. `changed`: what would change relative to HEAD, if the
    mode can work at all. `blocked`: paths where the checkout stands in the way. `late`: edits of the user that would
    be merged by content and stay uncommitted. `busy`: why the host cannot merge
    at all now (a merge or rebase in progress). `moves`: whether HEAD would move.
    Paths are guest text: sanitise before showing.
    """

    relation: Relation
    head: Head
    target: Oid
    mode: Mode
    picks: tuple[Oid, ...] = ()
    conflicts: tuple[str, ...] = ()
    stopped_at: Oid | None = None
    changed: tuple[str, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    late: tuple[str, ...] = ()
    risky: tuple[Risk, ...] = ()
    skipped: tuple[Oid, ...] = ()
    busy: str | None = None
    moves: bool = False

    @property
    def possible(self) -> bool:
        return not (self.conflicts or self.blocked or self.busy)

    @property
    def question(self) -> str:
        """Why somebody who asked for the merge has to agree once more, empty when nobody has to."""
        return "it changes files that run by themselves" if self.risky else ""


def plan(repo: Repository, base: BaseRecord, request: Request) -> Plan:
    """What `merge` would do now. Raises IntegrateError when the mode cannot work for how the histories stand."""
    head = repo.head()
    with aside(repo) as (git, scratch):
        relation = relate(git, head.commit, base.commit, request.target)
        outcome = combine(git, head, relation, request, dry_run=True)
        head_tree = tree_of(git, head.commit)
        running = host.busy(repo)
        decision = None
        if not outcome.conflicts and not running:
            state = snapshot.take(git, repo.git_dir / "index", scratch)
            decision = decide(git, base, state, head_tree=head_tree, target=outcome.tree, scratch=scratch)
        return _describe(
            git, Plan(relation, head, request.target, request.mode, request.picks, busy=running), outcome, decision
        )


def relation_only(repo: Repository, base: BaseRecord, target: Oid) -> Relation:
    """How `target` stands to HEAD, for callers that want to ask before choosing a mode."""
    return relate(repo.git, repo.head().commit, base.commit, target)


def _describe(git: Git, start: Plan, outcome: Outcome, decision: Decision | None) -> Plan:
    paths = decision.paths if decision else changes(git, tree_of(git, start.head.commit), outcome.tree)
    blocked = decision.blocked if decision else {}
    return Plan(
        start.relation,
        start.head,
        start.target,
        start.mode,
        start.picks,
        conflicts=shown(outcome.conflicts),
        stopped_at=outcome.stopped_at,
        changed=shown(paths),
        blocked=tuple(Blocked(text(path), why) for path, why in sorted(blocked.items())),
        late=shown(decision.late if decision and not blocked else ()),
        risky=risks(git, paths, outcome.tree),
        skipped=outcome.skipped,
        busy=start.busy,
        moves=outcome.commit != start.head.commit,
    )


@contextlib.contextmanager
def aside(repo: Repository) -> Iterator[tuple[Git, Path]]:
    """A view of the repository whose new objects go to a directory that vanishes, and a place for scratch files."""
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as place:
        objects = Path(place) / "objects"
        objects.mkdir()
        git = repo.git.with_env(
            GIT_OBJECT_DIRECTORY=str(objects),
            GIT_ALTERNATE_OBJECT_DIRECTORIES=gitdirs.quoted(repo.common_dir / "objects"),
        )
        yield git, Path(place)
