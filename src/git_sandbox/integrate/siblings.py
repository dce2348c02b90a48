"""Several sandboxes of one repository: where they conflict, and in which order to merge them.

Only objects that vanish again are written.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from git_sandbox.errors import LimitError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, SandboxId
from git_sandbox.git.repo import Repository
from git_sandbox.git.snapshot import commit_tree
from git_sandbox.integrate.overview import MORE, paths_between, peeled
from git_sandbox.integrate.plan import aside
from git_sandbox.integrate.trees import Merge, empty_tree, merge_commits, shown
from git_sandbox.later import dataclass

MAX_SIBLINGS = 30  # every pair is merged once
_EXACT = 15  # up to so many, every set of them is tried: 2**15 are quick


class _Trial:
    """What a trial merge says, of either kind below."""

    conflicts: tuple[str, ...]
    unrelated: bool
    too_large: bool

    @property
    def clean(self) -> bool:
        return not (self.conflicts or self.unrelated or self.too_large)


@dataclass(frozen=True)
class Pair(_Trial):
    """`both`: files that both changed. `conflicts`: what a merge of the two could not settle. `unrelated`: they have
    no commit in common, and git merges neither into the other. `too_large`: to be merged only to see what happens.
    Paths are guest text.
    """

    one: SandboxId
    other: SandboxId
    both: tuple[str, ...]
    conflicts: tuple[str, ...]
    unrelated: bool = False
    too_large: bool = False


@dataclass(frozen=True)
class Step(_Trial):
    """One merge of the order. `conflicts`: with HEAD and everything that was merged before it."""

    id: SandboxId
    conflicts: tuple[str, ...]
    unrelated: bool = False
    too_large: bool = False


@dataclass(frozen=True)
class Comparison:
    """`order`: those that go in without conflict first, as many as possible; what conflicts comes last. `left_out`:
    sandboxes that changed so much that they cannot be compared.
    """

    pairs: tuple[Pair, ...]
    order: tuple[Step, ...]
    left_out: tuple[SandboxId, ...] = ()


@dataclass(frozen=True)
class Sibling:
    id: SandboxId
    base: Oid | None  # the commit it started from
    tip: Oid


def compare(repo: Repository, siblings: Sequence[Sibling]) -> Comparison:
    """Merge every pair, and all of them after each other onto HEAD, in a place of ours."""
    head = repo.head().commit
    with aside(repo) as (git, _):
        touched = _touched(git, siblings)
        siblings, left_out = [sibling for sibling in siblings if sibling.id in touched], siblings
        pairs = tuple(_pair(git, one, other, touched) for one, other in itertools.combinations(siblings, 2))
        order = _order(git, head, siblings, pairs)
    return Comparison(pairs, order, tuple(sibling.id for sibling in left_out if sibling.id not in touched))


def _touched(git: Git, siblings: Sequence[Sibling]) -> dict[SandboxId, frozenset[bytes]]:
    """The files that each changed; without those that changed more than is looked at, of all together."""
    named = [oid for sibling in siblings for oid in (sibling.base, sibling.tip) if oid]
    trees = peeled(git, [(oid, "tree") for oid in named])
    ends = {
        sibling.id: (trees[sibling.base, "tree"] if sibling.base else empty_tree(git), trees[sibling.tip, "tree"])
        for sibling in siblings
    }
    touched_paths = paths_between(git, list(ends.values()))
    by_id = {name: touched_paths.get(pair, frozenset()) for name, pair in ends.items()}
    return {name: paths for name, paths in by_id.items() if MORE not in paths}


def _pair(git: Git, one: Sibling, other: Sibling, touched: Mapping[SandboxId, frozenset[bytes]]) -> Pair:
    both = shown(touched[one.id] & touched[other.id])
    try:
        merge = _merged(git, one.tip, other.tip)
    except LimitError:
        return Pair(one.id, other.id, both, (), too_large=True)
    if merge is None:
        return Pair(one.id, other.id, both, (), unrelated=True)
    return Pair(one.id, other.id, both, shown(merge.conflicts))


def _merged(git: Git, ours: Oid, theirs: Oid) -> Merge | None:
    """None for histories without a common commit."""
    if not git.test("merge-base", ours, theirs):
        return None
    return merge_commits(git, ours, theirs)


def _order(git: Git, head: Oid | None, siblings: Sequence[Sibling], pairs: Sequence[Pair]) -> tuple[Step, ...]:
    """The largest set without conflicts inside it, as they came; then the others. Each is merged to be sure."""
    bad = {frozenset((pair.one, pair.other)) for pair in pairs if not pair.clean}
    bad |= {frozenset((sibling.id,)) for sibling in siblings if head and not _goes_in(git, head, sibling)}
    first = _largest_free([sibling.id for sibling in siblings], bad)
    ranked = sorted(siblings, key=lambda sibling: sibling.id not in first)
    clean, rest, at = [], [], head
    for sibling in ranked:
        step, after = _step(git, at, sibling)
        if step.clean:
            clean.append(step)
            at = after
        else:
            rest.append(sibling)
    return (*clean, *(_step(git, at, sibling)[0] for sibling in rest))


def _goes_in(git: Git, head: Oid, sibling: Sibling) -> bool:
    try:
        merge = _merged(git, head, sibling.tip)
    except LimitError:
        return False
    return merge is not None and not merge.conflicts


def _step(git: Git, at: Oid | None, sibling: Sibling) -> tuple[Step, Oid | None]:
    if at is None:
        return Step(sibling.id, ()), sibling.tip
    try:
        merge = _merged(git, at, sibling.tip)
    except LimitError:
        return Step(sibling.id, (), too_large=True), at
    if merge is None:
        return Step(sibling.id, (), unrelated=True), at
    if merge.conflicts:
        return Step(sibling.id, shown(merge.conflicts)), at
    return Step(sibling.id, ()), commit_tree(git, merge.tree, (at, sibling.tip), "merged")


def _largest_free(names: Sequence[SandboxId], bad: set[frozenset[SandboxId]]) -> frozenset[SandboxId]:
    """The most of `names` of which none is in `bad` alone and no two are together; earlier names are preferred."""
    free = [name for name in names if frozenset((name,)) not in bad]
    if len(free) <= _EXACT:
        sets = (chosen for size in range(len(free), 0, -1) for chosen in itertools.combinations(free, size))
        return frozenset(next((chosen for chosen in sets if _compatible(chosen, bad)), ()))
    enemies = {name: sum(name in pair for pair in bad) for name in free}
    chosen: list[SandboxId] = []
    for name in sorted(free, key=lambda ident: enemies[ident]):
        if _compatible((*chosen, name), bad):
            chosen.append(name)
    return frozenset(chosen)


def _compatible(chosen: Sequence[SandboxId], bad: set[frozenset[SandboxId]]) -> bool:
    return not any(frozenset(pair) in bad for pair in itertools.combinations(chosen, 2))
