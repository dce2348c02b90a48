"""Which entries of a manifest are imported and which are set aside, by name and reason: one bad entry holds back no
other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from git_sandbox.collect import plan
from git_sandbox.collect.blame import blame, incomplete
from git_sandbox.collect.examine import examined
from git_sandbox.collect.pruned import pruned
from git_sandbox.collect.quarantine import Quarantine
from git_sandbox.errors import CollectError
from git_sandbox.git.names import Oid
from git_sandbox.later import dataclass, field, replace
from git_sandbox.protocol.manifest import GuestHead, Manifest, SetAside
from git_sandbox.text import one_line

MOST_ASIDE = 1000  # rows that are kept; how many more there are is one more


@dataclass(frozen=True)
class Judged:
    """`reasons`: the objects that do not come, and why; of these `bad` are wrong themselves. `instead`: for some of
    them the nearest sound commit before that is new; `head`: what stands for HEAD, new or not.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    bad: Mapping[str, str] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    head: str | None = None
    have: Sequence[Oid] = ()  # what the user's refs point to


@dataclass
class Sorted:
    """`sound` is the manifest without what is in `aside`; a damaged branch is at the last sound commit that is new."""

    sound: Manifest
    aside: list[SetAside]


def sort(place: Quarantine, manifest: Manifest, have: Sequence[Oid]) -> Sorted:
    """`have`: what the user's refs point to. Raises CollectError when looking at the pack costs too much."""
    kinds = _kinds(place, _oids(manifest))
    tips = [Oid(name) for name, (kind, _) in kinds.items() if kind != "missing"]
    judged = _judged(place, tips, manifest.head.oid, have)
    aside: list[SetAside] = []

    def sound(name: str, oid: str, *, tag: bool = False, exact: bool = False) -> str | None:
        """What stands for `name` here: `oid`, an earlier commit (unless `exact`), or nothing."""
        why = _of_wrong_kind(kinds[oid], tag=tag) or judged.reasons.get(oid)
        if why is None:
            return oid
        instead = None if exact else judged.head if name == "HEAD" else judged.instead.get(oid)
        more = f"; its history came as far as {instead}" if instead else ""
        aside.append(SetAside(name, f"{one_line(why, limit=400)}{more}"))
        return instead

    head = sound("HEAD", manifest.head.oid) if manifest.head.oid else None
    tags = {ref.name for ref in manifest.refs if plan.kind_of(ref.name)[0] in ("tags", "other")}
    refs = [replace(ref, oid=at) for ref in manifest.refs if (at := sound(ref.name, ref.oid, tag=ref.name in tags))]
    stash = [entry for at, entry in enumerate(manifest.stash) if sound(f"stash@{{{at}}}", entry.oid, exact=True)]
    remaining = replace(manifest, head=GuestHead(manifest.head.symref, head), refs=tuple(refs), stash=tuple(stash))
    if head != manifest.head.oid:
        remaining = replace(remaining, wip_state="failed")  # never taken for none
    return Sorted(_with_work(place, remaining, manifest, judged, aside), capped(aside))


def _with_work(
    place: Quarantine, remaining: Manifest, manifest: Manifest, judged: Judged, aside: list[SetAside]
) -> Manifest:
    """`remaining` with what can come of the files as they are at the end. `manifest`: what the guest sent.

    Also of committed ones, where HEAD itself cannot come: they stand on what stands for it.
    """
    wip, moved = manifest.wip, remaining.head.oid != manifest.head.oid
    if wip is None and not (moved and manifest.worktree_tree):
        return remaining
    kinds = _kinds(place, [oid for oid in (manifest.worktree_tree, wip.oid if wip else None) if oid])
    why = _of_wrong_kind(kinds[wip.oid], tag=False) if wip else None
    if wip and why is None and not _as_told(place, manifest):
        why = "it does not match the list of refs"
    if why is None and not moved and (wip is None or wip.oid not in judged.reasons):
        return remaining
    tree = manifest.worktree_tree
    if why is None and tree and kinds[tree][0] == "tree":
        commit, dropped = pruned(place, tree, remaining.head.oid, judged.reasons, judged.bad)
        aside += dropped
        if commit and not incomplete(place, [Oid(commit.oid)], judged.have):
            return replace(remaining, wip=commit, worktree_tree=commit.tree, wip_state="partial")
    why = why or (judged.reasons.get(wip.oid) if wip else None) or "it cannot be read"
    aside.append(SetAside("uncommitted work", one_line(why, limit=400)))
    return replace(remaining, wip=None, wip_state="failed")


def capped(rows: list[SetAside]) -> list[SetAside]:
    more = len(rows) - MOST_ASIDE
    return rows if more <= 0 else [*rows[:MOST_ASIDE], SetAside("others", f"{more} more are set aside")]


def _oids(manifest: Manifest) -> list[str]:
    named = [manifest.head.oid, manifest.wip.oid if manifest.wip else None]
    named += [ref.oid for ref in manifest.refs] + [entry.oid for entry in manifest.stash]
    return sorted({oid for oid in named if oid})


def _kinds(place: Quarantine, oids: list[str]) -> dict[str, tuple[str, str]]:
    """For each object its type and the type of what it peels to, "missing" where there is none."""
    types = [kind for kind, _ in place.kinds([name for oid in oids for name in (oid, f"{oid}^{{commit}}")])]
    return dict(zip(oids, zip(types[::2], types[1::2], strict=True), strict=True))


def _of_wrong_kind(kinds: tuple[str, str], *, tag: bool) -> str | None:
    """A tag, or a ref of another kind, of something else than a commit is legal, but no work to bring home."""
    kind, peeled = kinds
    if kind == "missing":
        return "its object is missing: it was not sent and is not present here"
    if tag:
        return None if peeled == "commit" else "it does not point to a commit"
    return None if kind == "commit" else f"it should be a commit and is a {kind}"


def _judged(place: Quarantine, tips: list[Oid], head: str | None, have: Sequence[Oid]) -> Judged:
    bad = examined(place)
    if not bad and _connected(place, tips, have):
        return Judged(have=have)
    have = _present(place, have)
    if not bad and _connected(place, tips, have):
        return Judged(have=have)
    causes = blame(place, bad)
    reasons = {tip: causes.reasons[tip] for tip in tips if tip in causes.reasons}
    instead = causes.soundest([tip for tip in reasons if tip in causes.parents])
    # Also what the user has already may be only half there, and then git would not take what leads to it.
    for_head = causes.soundest([head], old=True).get(head) if head in reasons else None
    rest = [tip for tip in tips if tip not in reasons] + [
        Oid(value) for value in (*instead.values(), for_head) if value
    ]
    broken = incomplete(place, rest, have)
    for_head = None if for_head in broken else for_head
    return Judged(
        {**causes.reasons, **broken},
        bad,
        {tip: commit for tip, commit in instead.items() if commit not in broken},
        for_head,
        have,
    )


def _present(place: Quarantine, have: Sequence[Oid]) -> list[Oid]:
    """Without those that are not there: a ref of the user's may lead to nothing, and git lives with it."""
    return [name for name, (kind, _) in zip(have, place.kinds(have), strict=True) if kind != "missing"]


def _connected(place: Quarantine, tips: list[Oid], have: Sequence[Oid]) -> bool:
    try:
        place.check_connected(tips, have)
    except CollectError:
        return False
    return True


# --- uncommitted work -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shape:
    """What a commit of uncommitted work holds, without the times and names that make each such commit unique."""

    tree: str
    base: tuple[str, ...]
    index: str | None


def _shape(place: Quarantine, wip: str, base: tuple[str, ...]) -> _Shape | None:
    """None when the commit does not stand on `base` with at most an index commit beside it."""
    tree, *parents = place.run("rev-parse", f"{wip}^{{tree}}", f"{wip}^@").decode().split()
    below, beside = tuple(parents[: len(base)]), parents[len(base) :]
    if below != base or len(beside) > 1:
        return None
    index = place.run("rev-parse", f"{beside[0]}^{{tree}}").decode().strip() if beside else None
    return _Shape(tree, base, index)


def _as_told(place: Quarantine, manifest: Manifest) -> bool:
    """Whether the commit of the uncommitted work is what the manifest says: others build on it."""
    wip, base = manifest.wip, _base(manifest)
    if wip is None:
        return True
    shape = _shape(place, wip.oid, base)
    empty = hashlib.new(manifest.object_format, b"tree 0\0", usedforsecurity=False).hexdigest()
    implied = () if base else (wip.tree, empty)  # an unborn HEAD's index is kept only where it says something new
    if shape is None or shape.tree != wip.tree or manifest.worktree_tree != wip.tree:
        return False
    return shape.index == wip.index_tree or (shape.index is None and wip.index_tree in implied)


def _base(manifest: Manifest) -> tuple[str, ...]:
    return (manifest.head.oid,) if manifest.head.oid else ()


def equal_work(place: Quarantine, manifest: Manifest, before: str, new: str) -> bool:
    base = _base(manifest)
    return _shape(place, before, base) == _shape(place, new, base)
