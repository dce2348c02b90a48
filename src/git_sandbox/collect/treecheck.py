"""Finds trees without a practical end: a pack of 862 bytes can describe 10^10 paths, one of 2 MB a path 60 000 deep.

git imports such trees in no time, and then the user's own `git log --stat` or `git gc` runs for ever or crashes.
So all new trees are measured, each once, however often it is referred to.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Container, Iterable, Iterator, Mapping

from git_sandbox.collect.quarantine import CollectLimits, Quarantine
from git_sandbox.errors import CollectError
from git_sandbox.git.bounds import batches
from git_sandbox.later import dataclass, replace

_ENTRY = {width: re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % width, re.DOTALL) for width in (20, 32)}
DIRECTORY = (b"40000", b"040000")
_BATCH_OBJECTS = 50_000  # names per question to git
_BATCH_BYTES = 32 << 20  # bytes of trees per answer of git


@dataclass(frozen=True, slots=True)
class Tree:
    """`files`: entries that are no directories, and `names` the bytes of their names together. `children`: the
    directories, repeated as often as they occur, and `lengths` the bytes of each one's name.
    """

    files: int
    children: tuple[str, ...]
    names: int = 0
    lengths: tuple[int, ...] = ()


def refused(why: str) -> CollectError:
    return CollectError(
        "what the guest sent was refused", cause=why, hint="nothing was imported; the sandbox's disk is kept"
    )


def oversized(quarantine: Quarantine) -> dict[str, str]:
    """The new objects that are too big, and the new trees that are malformed, too deep or too wide, each with why.

    Raises CollectError when measuring alone would cost too much.
    """
    limits = quarantine.limits
    ceilings = {"blob": limits.blob, "tree": limits.tree, "commit": limits.message, "tag": limits.message}
    faults: dict[str, str] = {}
    trees, merges = {}, {}
    least = limits.parents * len("parent ") * 2  # bytes; a commit below it has not so many parents
    for name, kind, size in sizes(quarantine, quarantine.new_objects()):
        if size > ceilings.get(kind, 0):
            faults[name] = f"{kind} {name} has {size} bytes, the limit is {ceilings.get(kind, 0)}"
        elif kind == "tree":
            trees[name] = size
        elif kind == "commit" and size > least:
            merges[name] = size
    faults |= _too_many_parents(quarantine, merges)
    loaded = _load(quarantine, trees, faults)
    measure(loaded, limits, trees.keys(), faults)
    return faults


def _too_many_parents(quarantine: Quarantine, large: Mapping[str, int]) -> dict[str, str]:
    """`large`: commits and their sizes. Those beyond what is looked at do not come either."""
    limits, looked_at, total = quarantine.limits, {}, 0
    for name, size in large.items():
        total += size
        if total <= limits.merges:
            looked_at[name] = size
    faults = {
        name: f"commit {name}: commits that large have more than {limits.merges} bytes together"
        for name in large.keys() - looked_at.keys()
    }
    for name, data in contents(quarantine, looked_at):
        count = data.partition(b"\n\n")[0].count(b"\nparent ")
        if count > limits.parents:
            faults[name] = f"commit {name} has {count} parents, the limit is {limits.parents}"
    return faults


def sizes(quarantine: Quarantine, names: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Name, type and size of those objects that exist."""
    rest = iter(names)
    while batch := list(itertools.islice(rest, _BATCH_OBJECTS)):
        for name, (kind, size) in zip(batch, quarantine.kinds(batch), strict=True):
            if kind != "missing":
                yield name, kind, size


def _load(quarantine: Quarantine, new: Mapping[str, int], faults: dict[str, str]) -> dict[str, Tree]:
    """The trees in `new` (with their sizes) and, level by level, the user's trees they refer to. What cannot be read,
    or is missing as in a partial clone, stands as an empty one; of the new ones `faults` gets the reason.
    """
    known: dict[str, Tree] = {}
    names: dict[str, str] = {}  # one text for each child, however many entries name it
    entries = 0
    level = dict(new)
    for _ in range(quarantine.limits.depth + 1):
        for name, data in contents(quarantine, level):
            try:
                tree = parse(data, len(name) // 2, quarantine.limits)
            except ValueError as error:
                tree = Tree(0, ())
                if name in new:
                    faults[name] = f"tree {name}: {error}"
            known[name] = replace(tree, children=tuple(names.setdefault(child, child) for child in tree.children))
            entries += len(tree.children)
            if entries > quarantine.limits.directories:
                raise refused(f"its trees name more than {quarantine.limits.directories} directories in all")
        below = {child for name in level for child in known[name].children} - known.keys()
        level = {name: size for name, kind, size in sizes(quarantine, below - faults.keys()) if kind == "tree"}
        known |= {name: Tree(0, ()) for name in below - level.keys()}
        if not level:
            break
    return known | {name: Tree(0, ()) for name in level}


def contents(quarantine: Quarantine, names: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Name and content of objects that exist; `names` has their sizes."""
    for group in batches(names.items(), _BATCH_BYTES):
        yield from zip(group, quarantine.contents(group), strict=True)


def entries_of(data: bytes, width: int) -> list[tuple[bytes, bytes, bytes]]:
    """Mode, name and object of everything in a tree. Raises ValueError when it is malformed."""
    rows: list[tuple[bytes, bytes, bytes]] = _ENTRY[width].findall(data)
    if sum(len(mode) + len(name) for mode, name, _ in rows) + len(rows) * (width + 2) != len(data):
        raise ValueError("it is malformed")
    return rows


def parse(data: bytes, width: int, limits: CollectLimits) -> Tree:
    """`data` is the content of a tree object; `width` the bytes of an object name. Raises ValueError."""
    listed = entries_of(data, width)
    longest = max((len(name) for _, name, _ in listed), default=0)
    if longest > limits.entry_name:
        raise ValueError(f"a file name has {longest} bytes, the limit is {limits.entry_name}")
    directories = [(what.hex(), len(name)) for mode, name, what in listed if mode in DIRECTORY]
    lengths = tuple(length for _, length in directories)
    names = sum(len(name) for _, name, _ in listed) - sum(lengths)
    return Tree(len(listed) - len(lengths), tuple(child for child, _ in directories), names, lengths)


def measure(trees: Mapping[str, Tree], limits: CollectLimits, judged: Container[str], faults: dict[str, str]) -> None:
    """Put those of `judged` with too many paths or levels into `faults`, with why. All children must be in `trees`."""
    paths: dict[str, int] = {}
    size: dict[str, int] = {}
    depth: dict[str, int] = {}
    for root in trees:
        stack = [root]  # not recursion: the depth is what we distrust
        while stack:
            name = stack[-1]
            tree = trees[name]
            waiting = {child for child in tree.children if child not in paths}
            if name not in paths and waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            below = zip(tree.children, tree.lengths, strict=True)
            long = tree.names + sum(size[child] + paths[child] * (length + 1) for child, length in below)
            # No more than needed: else the numbers themselves would become long.
            size[name] = min(long, limits.path_bytes + 1)
            paths[name] = min(tree.files + sum(paths[child] for child in tree.children), limits.paths + 1)
            depth[name] = min(1 + max((depth[child] for child in tree.children), default=0), limits.depth + 1)
            if name in judged and (why := _too_much(paths[name], size[name], depth[name], limits)):
                faults.setdefault(name, f"tree {name}: {why}")


def _too_much(paths: int, size: int, depth: int, limits: CollectLimits) -> str:
    if paths > limits.paths:
        return f"a directory holds more than {limits.paths} files in all"
    if size > limits.path_bytes:
        return f"the paths of a directory have more than {limits.path_bytes} bytes in all"
    return f"a directory is more than {limits.depth} levels deep" if depth > limits.depth else ""
