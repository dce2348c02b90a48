"""Finds the new objects that lead to a bad or missing one: each object is visited once, however many refs there are."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping

from git_sandbox.collect.quarantine import Quarantine
from git_sandbox.collect.treecheck import DIRECTORY, contents, entries_of, refused, sizes
from git_sandbox.errors import CollectError
from git_sandbox.git.names import Oid, oid
from git_sandbox.later import dataclass

MOST_LINKS = 30_000_000  # between new objects, all together: each costs memory
MOST_QUESTIONS = 256  # walks of git's through the history of a group of refs
_LINK = b"160000"  # a commit of another repository
_KIND_OF = dict.fromkeys(DIRECTORY, "tree") | {_LINK: ""}
_HEADERS = {b"tree": "tree", b"parent": "commit"}
_KINDS = {kind.encode(): kind for kind in ("commit", "tree", "blob", "tag")}

Link = tuple[str, str, str]  # object, what it names, and which type it says that has


@dataclass(frozen=True)
class Blame:
    """`reasons`: every new object that is bad, or leads to such a one or to a missing one, and why. `parents`: of every
    new commit; `unfit`: what is named as one, and is missing or none.
    """

    reasons: Mapping[str, str]
    parents: Mapping[str, tuple[str, ...]]
    unfit: Collection[str] = ()

    def soundest(self, tips: Collection[str], *, old: bool = False) -> dict[str, str]:
        """For each of `tips` the nearest sound commit in its history, first parents first, if any: of the new ones, or
        (`old`) of all.
        """
        nearest: dict[str, str | None] = {}
        for tip in tips:
            stack = [tip]
            while stack:
                name = stack[-1]
                parents = self.parents.get(name, ())
                waiting = [parent for parent in parents if parent not in nearest and name in self.reasons]
                if name not in nearest and waiting:
                    stack.append(waiting[0])
                    continue
                stack.pop()
                there = name in self.parents or (old and name not in self.unfit)
                if there and name not in self.reasons:
                    nearest[name] = name
                else:
                    nearest[name] = next((at for parent in parents if (at := nearest.get(parent))), None)
        return {tip: at for tip in tips if (at := nearest[tip])}


def blame(place: Quarantine, bad: Mapping[str, str]) -> Blame:
    """Raises CollectError when that would cost too much."""
    new = {name: (kind, size) for name, kind, size in sizes(place, place.new_objects())}
    above: dict[str, list[str]] = {}
    parents: dict[str, tuple[str, ...]] = {name: () for name, (kind, _) in new.items() if kind == "commit"}
    outside: set[tuple[str, str]] = set()
    reasons = dict(bad)
    for count, (name, child, kind) in enumerate(_links(place, new, reasons), 1):
        if count > MOST_LINKS:
            raise refused(f"its objects refer to more than {MOST_LINKS} others")
        if child not in new:
            outside.add((child, kind))
        elif new[child][0] != kind:
            reasons.setdefault(name, f"{new[name][0]} {name} calls {child} a {kind}, and it is a {new[child][0]}")
        else:
            above.setdefault(child, []).append(name)
        if kind == "commit" and name in parents:
            parents[name] += (child,)
    lacking = _lacking(place, outside) | {pair: bad[pair[0]] for pair in outside if pair[0] in bad}
    if lacking:
        for name, child, kind in _links(place, new, reasons):
            if (child, kind) in lacking:
                reasons.setdefault(name, lacking[child, kind])
    _spread(reasons, above)
    unfit = {name for name, _ in lacking} | {name for name, (kind, _) in new.items() if kind != "commit"}
    return Blame(reasons, parents, unfit)


def _spread(reasons: dict[str, str], above: Mapping[str, list[str]]) -> None:
    todo = deque(reasons)
    while todo:
        name = todo.popleft()
        for commit in above.get(name, ()):
            if commit not in reasons:
                reasons[commit] = reasons[name]
                todo.append(commit)


def _lacking(place: Quarantine, outside: set[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What new objects name and the user has not got, or not as what they call it."""
    kinds = {name: kind for name, kind, _ in sizes(place, {name for name, _ in outside})}
    causes = {}
    for name, kind in outside:
        if name not in kinds:
            if not place.promisor:  # a partial clone lacks much, rightly
                causes[name, kind] = f"{kind} {name} is missing: it was not sent and is not present here"
        elif kinds[name] != kind:
            causes[name, kind] = f"{name} should be a {kind} and is a {kinds[name]}"
    return causes


def _links(place: Quarantine, new: Mapping[str, tuple[str, int]], reasons: dict[str, str]) -> Iterator[Link]:
    """Of all new objects that can be read; of the others `reasons` tells why not."""
    readable = {name: size for name, (kind, size) in new.items() if kind != "blob" and name not in reasons}
    for name, data in contents(place, readable):
        kind = new[name][0]
        try:
            links = _of_tree(data, len(name) // 2) if kind == "tree" else _of_headers(data, kind)
        except (ValueError, LookupError):
            reasons.setdefault(name, f"{kind} {name} is malformed")
            continue
        for child, what in links:
            yield name, child, what


def _of_tree(data: bytes, width: int) -> Iterator[tuple[str, str]]:
    rows = entries_of(data, width)
    return ((what.hex(), kind) for mode, _, what in rows if (kind := _KIND_OF.get(mode, "blob")))


def _of_headers(data: bytes, kind: str) -> list[tuple[str, str]]:
    lines = data.split(b"\n\n", 1)[0].split(b"\n")
    if kind == "tag":
        return [(_name(lines[0].removeprefix(b"object ")), _KINDS[lines[1].removeprefix(b"type ")])]
    rows = [line.split(b" ", 1) for line in itertools.takewhile(lambda line: line.startswith(tuple(_HEADERS)), lines)]
    return [(_name(value), _HEADERS[word]) for word, value in rows]


def _name(raw: bytes) -> str:
    """Raises ValueError unless it is an object's."""
    return oid(raw.decode("ascii"))


def incomplete(place: Quarantine, tips: Iterable[Oid], have: Iterable[Oid]) -> dict[str, str]:
    """Those of `tips` whose history git cannot walk to what the user has, and why. It gives up after some."""
    have = list(have)
    causes: dict[str, str] = {}
    groups = [list(dict.fromkeys(tips))]
    for _ in range(MOST_QUESTIONS):
        if not groups:
            return causes
        group = groups.pop()
        try:
            place.check_connected(group, have)
        except CollectError as error:
            if len(group) == 1:
                causes[group[0]] = error.cause
            else:
                groups += [group[: len(group) // 2], group[len(group) // 2 :]]
    rest = {tip: "not examined: too many objects are damaged" for group in groups for tip in group}
    return causes | rest
