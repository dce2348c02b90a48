"""What a base may hold, and whether a later state of the repository may be overlaid on it.

A guest can read every byte of the base below its disk, whatever its own file system says: what the guest removes or
overwrites is still there. So a base holds nothing that a later sandbox must not see. Lasting are committed files, byte
for byte as in the commit, and git's objects: git itself can say later whether the repository still has them. All else
is *private*. Small private things are left out of the base, each sandbox brings them along; large ones are in it, and
when one of them went or changed, nothing is laid over that base any more.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from git_sandbox.errors import RepositoryError
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.gitdirs import GitDir
from git_sandbox.later import regex
from git_sandbox.workspace.paths_of_copy import BY_STAMPS, Layout
from git_sandbox.workspace.stat_scan import Entry, entry_of, look, parents

ENTRIES, BYTES = 1000, 16 << 20  # of private things left out of a base; every sandbox's guest writes them again
GIT_ENTRIES = 5000  # the same of what git keeps beside its stores: that changes with every command
# Attributes that are made from policy, owners and modes, not by anybody who has something to say.
_LABELS = ("security.", "system.posix_acl_")
_LOOSE = regex(r"(?:objects|alt/[0-9]+)/([0-9a-f]{2})/([0-9a-f]{38}|[0-9a-f]{62})")
_PACK = regex(r"(?:objects|alt/[0-9]+)/pack/pack-[0-9a-f]+\.(?:pack|idx)")
_STORE = regex(r"(?:objects|alt/[0-9]+)(?:/(?:[0-9a-f]{2}|info|pack))?|" + "|".join(BY_STAMPS))
_HAS = regex(rb"[0-9a-f]+ (?:blob|tree|commit|tag) [0-9]+")
_SHA1 = 40  # digits
_NO_NETWORK = {"GIT_ALLOW_PROTOCOL": "none"}  # a partial clone would ask for what it lacks


class Division(NamedTuple):
    """Of a copy. `roots` are left out of the base, `left_out` is all of them with everything below.

    `private`: what the base has and git cannot prove later; with a slash at the end, directories for the sake of their
    attributes. `trees`: of each git directory the tree that the committed files are in.
    """

    roots: tuple[str, ...]
    left_out: frozenset[str]
    private: frozenset[str]
    trees: dict[str, str]

    @property
    def write(self) -> list[str]:
        """What the first sandbox has to bring along, directories before what is in them."""
        return sorted(self.left_out | parents(self.left_out), key=lambda path: path.split("/"))


def divide(copy: Path, layout: Layout, git_dirs: Iterable[GitDir]) -> Division:
    """`copy` is a whole one that nobody writes to. Raises Unseen."""
    by_path = {item.path: item for item in map(entry_of, look(copy, os.listdir(copy)))}  # noqa: PTH208 - names are wanted
    odd = {path for path in by_path if _labelled(copy / path)}
    trees: dict[str, str] = {}
    lasting: set[str] = set()
    named: set[str] = set()  # directories that the trees name
    for git_dir in git_dirs:
        if git_dir.checkout is not None and not git_dir.shared:
            tree, paths = _committed(copy, git_dir, by_path)
            below = f"{git_dir.checkout}/" if git_dir.checkout else ""
            trees |= {git_dir.target: tree} if tree else {}
            lasting |= {below + path for path in paths} - odd
            named |= {below + path for path in parents(paths)}
    inside = {path: _inside(layout, path) for path in by_path if layout.owner(path)}
    lasting |= {path for path, name in inside.items() if _LOOSE.fullmatch(name)} - odd
    stores = {path for path, name in inside.items() if not name or _STORE.fullmatch(name)}
    packs = {path for path, name in inside.items() if _PACK.fullmatch(name)}
    kept = lasting | packs | {store for store in stores if by_path[store].is_directory}
    kept |= parents(kept)
    roots = _chosen(_groups(by_path, kept), by_path, layout)
    left_out = frozenset(path for path in by_path if path in roots or not roots.isdisjoint(parents((path,))))
    private = by_path.keys() - left_out - lasting - named - (stores & kept)
    labels = {f"{path}/" for path in odd - left_out if by_path[path].is_directory} | (
        {"/"} if _labelled(copy) else set()
    )
    return Division(tuple(sorted(roots)), left_out, frozenset(private | labels), trees)


def _committed(copy: Path, git_dir: GitDir, by_path: Mapping[str, Entry]) -> tuple[str, set[str]]:
    """The tree of HEAD, and which of its files the checkout has byte for byte: filters may change any of them."""
    assert git_dir.checkout is not None  # noqa: S101 - asked for checkouts only
    git = Git(copy / git_dir.target, copy / git_dir.checkout, tuple((HERMETIC | _NO_NETWORK).items()))
    below = f"{git_dir.checkout}/" if git_dir.checkout else ""
    try:
        tree = git.line("rev-parse", "-q", "--verify", "HEAD^{tree}")
        listed = dict(_listed(git.run("ls-tree", "-r", "-z", "--full-tree", tree)))
        # A line's end in a name would be one of the list.
        files = [path for path in listed if _kind(by_path, below + path) == "f" and not re.search(r"[\r\n]", path)]
        names = git.line("hash-object", "--no-filters", "--stdin-paths", input=_lines(f"./{path}" for path in files))
    except RepositoryError:
        return "", set()
    same = {path for path, name in zip(files, names.split("\n"), strict=False) if name == listed[path]}
    links = (path for path in listed if _kind(by_path, below + path) == "l")
    return tree, same | {path for path in links if _link_name(copy / below / path, listed[path]) == listed[path]}


def _listed(rows: bytes) -> Iterator[tuple[str, str]]:
    for row in rows.split(b"\0")[:-1]:
        words, _, path = row.partition(b"\t")
        mode, _, name = words.decode().split(" ")
        if mode != "160000":
            yield os.fsdecode(path), name


def _kind(by_path: Mapping[str, Entry], path: str) -> str:
    return by_path[path].kind if path in by_path else ""


def _link_name(place: Path, like: str) -> str:
    """Of a symbolic link, as an object; `like`: another name in that format."""
    target = os.fsencode(place.readlink())
    return hashlib.new("sha1" if len(like) == _SHA1 else "sha256", b"blob %d\0" % len(target) + target).hexdigest()


def _lines(words: Iterable[str]) -> bytes:
    return b"".join(os.fsencode(word) + b"\n" for word in words)


def _labelled(place: Path) -> bool:
    return any(not name.startswith(_LABELS) for name in os.listxattr(place, follow_symlinks=False))


def _inside(layout: Layout, path: str) -> str:
    """`path` as its git directory calls it."""
    return path[len(layout.owner(path) or "") + 1 :]


def _groups(by_path: Mapping[str, Entry], kept: set[str]) -> dict[str, list[str]]:
    """What is not kept, by the outermost directory in which nothing is, or by itself."""
    groups: dict[str, list[str]] = {}
    for path in by_path.keys() - kept:
        above = path
        while (outer := os.path.dirname(above)) and outer not in kept:  # noqa: PTH120 - hot
            above = outer
        groups.setdefault(above, []).append(path)
    return groups


def _chosen(groups: Mapping[str, list[str]], by_path: Mapping[str, Entry], layout: Layout) -> frozenset[str]:
    """The groups to leave out: git's own, then the smallest, as long as there is room."""
    together = _together(groups, by_path)
    size = {root: sum(by_path[path].size for path in paths) for root, paths in groups.items()}
    chosen = set()
    entries, room = {True: GIT_ENTRIES, False: ENTRIES}, BYTES
    for root in sorted(groups.keys() - together, key=lambda key: (size[key], len(groups[key]), key)):
        gits = layout.kept_whole(root)
        if len(groups[root]) > entries[gits] or (not gits and size[root] > room):
            continue
        chosen.add(root)
        entries[gits] -= len(groups[root])
        room -= 0 if gits else size[root]
    return frozenset(chosen)


def _together(groups: Mapping[str, list[str]], by_path: Mapping[str, Entry]) -> set[str]:
    """Groups with a file that has another name elsewhere: they stay, as one file cannot be in two places."""
    grouped = {path: root for root, paths in groups.items() for path in paths}
    places: dict[bytes, set[str]] = {}
    for path, entry in by_path.items():
        if entry.links > 1 and not entry.is_directory:
            places.setdefault(entry.inode, set()).add(grouped.get(path, ""))
    return {root for roots in places.values() if len(roots) > 1 for root in roots}


def unproved(
    lost: Iterable[str], layout: Layout, trees: Mapping[str, str], git_dirs: Sequence[GitDir]
) -> Iterator[str]:
    """Those of `lost`, which a base has and which went or changed since, that the repository does not have any more.

    None of them is private.
    """
    questions: dict[str, list[tuple[str, str]]] = {}
    for path in lost:
        owner, question = _question(path, layout, trees)
        if question is None:
            yield path
        elif question:
            questions.setdefault(owner, []).append((path, question))
    known = {git_dir.target: git_dir for git_dir in git_dirs}
    for owner, asked in questions.items():
        if owner not in known:
            yield from (path for path, _ in asked)
            continue
        git = known[owner].git.with_env(**HERMETIC, **_NO_NETWORK)
        answer = git.try_run("cat-file", "--batch-check", input=_lines(question for _, question in asked))
        answers = answer.stdout.split(b"\n")[:-1]
        answers += [b""] * (len(asked) - len(answers))
        yield from (path for (path, _), reply in zip(asked, answers, strict=False) if not _HAS.fullmatch(reply))


def _question(path: str, layout: Layout, trees: Mapping[str, str]) -> tuple[str, str | None]:
    """Which git directory has to have what. Nothing for directories that every repository has, None for the rest."""
    if "\n" in path:
        return "", None
    if owner := layout.owner(path):
        name = _inside(layout, path)
        if loose := _LOOSE.fullmatch(name):
            return owner, "".join(loose.groups())
        return owner, "" if not name or _STORE.fullmatch(name) else None
    within = {at: target for target, at in layout.git_dirs.items() if at is not None and _below(path, at)}
    at = max(within, key=len)
    below = path[len(at) + 1 :] if at else path
    tree = trees.get(within[at])
    return within[at], f"{tree}:{below}" if tree else None


def _below(path: str, directory: str) -> bool:
    return not directory or path.startswith(f"{directory}/")
