"""Find trees that would never end: a pack of 862 bytes can describe 10^10 paths, one of 2 MB a path 60 000 deep.

git imports such trees in no time, and then the user's own `git log --stat` or `git gc` runs for ever or crashes.
So all new trees are measured, each once, however often it is referred to.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from git_sandbox.collect.quarantine import CollectLimits, Quarantine
from git_sandbox.errors import CollectError

_ENTRY = {width: re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % width, re.DOTALL) for width in (20, 32)}
_DIRECTORY = (b"40000", b"040000")
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


def check_objects(quarantine: Quarantine) -> None:
    """Raises CollectError when a new object is too big, or a new tree too deep or too wide."""
    limits = quarantine.limits
    ceilings = {"blob": limits.blob, "tree": limits.tree, "commit": limits.message, "tag": limits.message}
    trees = {}
    for name, kind, size in _sizes(quarantine, quarantine.new_objects()):
        if size > ceilings.get(kind, 0):
            raise refused(f"{kind} {name} has {size} bytes, the limit is {ceilings.get(kind, 0)}")
        if kind == "tree":
            trees[name] = size
    measure(_load(quarantine, trees), limits)


def _sizes(quarantine: Quarantine, names: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Name, type and size of those objects that exist."""
    rest = iter(names)
    while batch := list(itertools.islice(rest, _BATCH_OBJECTS)):
        output = quarantine.run("cat-file", "--batch-check", "--buffer", input=_lines(batch))
        for row in output.decode("ascii").splitlines():
            name, kind, *size = row.split(" ")
            if size:
                yield name, kind, int(size[0])


def _lines(names: Iterable[str]) -> bytes:
    return "".join(f"{name}\n" for name in names).encode("ascii")


def _load(quarantine: Quarantine, sizes: Mapping[str, int]) -> dict[str, Tree]:
    """The new trees and, level by level, the user's trees they refer to. In a partial clone some may be missing."""
    known: dict[str, Tree] = {}
    names: dict[str, str] = {}  # one text for each child, however many entries name it
    entries = 0
    level = dict(sizes)
    for _ in range(quarantine.limits.depth + 1):
        if not level:
            return known
        for group in _groups(level):
            for name, tree in _read(quarantine, group).items():
                children = tuple(names.setdefault(child, child) for child in tree.children)
                known[name] = replace(tree, children=children)
                entries += len(tree.children)
            if entries > quarantine.limits.directories:
                raise refused(f"its trees name more than {quarantine.limits.directories} directories in all")
        below = {child for name in level for child in known[name].children} - known.keys()
        level = {name: size for name, kind, size in _sizes(quarantine, below) if kind == "tree"}
        known |= {name: Tree(0, ()) for name in below - level.keys()}
    raise refused(f"a directory is more than {quarantine.limits.depth} levels deep")


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    group: list[str] = []
    total = 0
    for name, size in sizes.items():
        if group and total + size > _BATCH_BYTES:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    yield group


def _read(quarantine: Quarantine, names: list[str]) -> dict[str, Tree]:
    output = quarantine.run("cat-file", "--batch", "--buffer", input=_lines(names))
    found = {}
    at = 0
    for name in names:
        end = output.index(b"\n", at)
        size = int(output[at:end].rsplit(b" ", 1)[1])
        found[name] = parse(output[end + 1 : end + 1 + size], len(name) // 2, quarantine.limits)
        at = end + 1 + size + 1
    return found


def parse(data: bytes, width: int, limits: CollectLimits) -> Tree:
    """`data` is the content of a tree object; `width` the bytes of an object name."""
    entries: list[tuple[bytes, bytes, bytes]] = _ENTRY[width].findall(data)
    if sum(len(mode) + len(name) for mode, name, _ in entries) + len(entries) * (width + 2) != len(data):
        raise refused("a tree object is malformed")
    longest = max((len(name) for _, name, _ in entries), default=0)
    if longest > limits.entry_name:
        raise refused(f"a file name has {longest} bytes, the limit is {limits.entry_name}")
    directories = [(what.hex(), len(name)) for mode, name, what in entries if mode in _DIRECTORY]
    lengths = tuple(length for _, length in directories)
    names = sum(len(name) for _, name, _ in entries) - sum(lengths)
    return Tree(len(entries) - len(lengths), tuple(child for child, _ in directories), names, lengths)


def measure(trees: Mapping[str, Tree], limits: CollectLimits) -> None:
    """Raises CollectError when any of `trees` has too many paths or levels. All children must be in `trees`."""
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
            paths[name] = tree.files + sum(paths[child] for child in tree.children)
            below = zip(tree.children, tree.lengths, strict=True)
            size[name] = tree.names + sum(size[child] + paths[child] * (length + 1) for child, length in below)
            depth[name] = 1 + max((depth[child] for child in tree.children), default=0)
            if paths[name] > limits.paths:
                raise refused(f"a directory holds more than {limits.paths} files in all")
            if size[name] > limits.path_bytes:
                raise refused(f"the paths of a directory have more than {limits.path_bytes} bytes in all")
            if depth[name] > limits.depth:
                raise refused(f"a directory is more than {limits.depth} levels deep")
