"""Trees and entries as data: reading differences, building trees, merging without a worktree.

Paths are bytes here, as in git; results for callers are text (`shown`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from git_sandbox.errors import RepositoryError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.git.snapshot import commit_tree
from git_sandbox.text import printable

GITLINK = "160000"
SYMLINK = "120000"
_ABSENT = "000000"
_EMPTY_BLOBS = (
    "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391",
    "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813",
)


class Entry(NamedTuple):
    mode: str  # six octal digits, as git writes them
    oid: Oid

    @property
    def empty(self) -> bool:
        """An empty file; so does an intent-to-add entry look in the index."""
        return self.oid in _EMPTY_BLOBS


class Change(NamedTuple):
    before: Entry | None
    after: Entry | None


Entries = Mapping[bytes, Entry | None]


def both_gitlinks(one: Entry | None, other: Entry | None) -> bool:
    """A submodule on both sides: its checkout is never touched, so a different commit in it is no obstacle."""
    return one is not None and other is not None and one.mode == other.mode == GITLINK


def text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def shown(paths: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(text(path) for path in sorted(paths))


def changes(git: Git, before: Oid, after: Oid) -> dict[bytes, Change]:
    """Every path whose entry differs between two trees (or commits).

    Raises LimitError for more than what is only looked at may have; a merge that was asked for may have more.
    """
    most = MAX_CHANGES if git.bounds is None else None
    done = git.try_run("diff-tree", "-r", "-z", *_RAW, before, after, output=most)
    if done.returncode:
        raise RepositoryError("git diff-tree failed", cause=printable(done.complaint, limit=2000))
    return _parse(done.stdout)


def staged(git: Git, tree: Oid) -> dict[bytes, Change]:
    """Every path whose index entry differs from `tree`; an intent-to-add entry counts as an empty file."""
    return _parse(git.run("diff-index", "--cached", "-z", *_RAW, "--ita-visible-in-index", tree))


MAX_CHANGES = 8 << 20  # bytes of a list of changes: some 50 000 of them, for which we take 30 MB and more

_RAW = ("--raw", "--no-abbrev", "--no-renames", "--ignore-submodules=none")


def _parse(raw: bytes) -> dict[bytes, Change]:
    fields = raw.split(b"\0")[:-1]
    entries = {}
    for head, path in zip(fields[::2], fields[1::2], strict=True):
        mode1, mode2, oid1, oid2, _status = map(sys.intern, head[1:].decode("ascii").split(" "))
        entries[path] = Change(_entry(mode1, oid1), _entry(mode2, oid2))
    return entries


def _entry(mode: str, name: str) -> Entry | None:
    return None if mode == _ABSENT else Entry(mode, oid(name))


def empty_tree(git: Git) -> Oid:
    return oid(git.line("hash-object", "-t", "tree", "-w", "--stdin", input=b""))


def tree_of(git: Git, commit: Oid | None) -> Oid:
    """The tree of `commit`; the empty one for None (an unborn HEAD)."""
    return empty_tree(git) if commit is None else oid(git.line("rev-parse", "--verify", f"{commit}^{{tree}}"))


def set_entries(git: Git, entries: Entries, width: int) -> None:
    """Put `entries` into the index of `git`. `width`: digits of an object name."""
    gone = [b"0 %s\t%s\0" % (b"0" * width, path) for path, entry in entries.items() if entry is None]
    there = [
        b"%s %s\t%s\0" % (entry.mode.encode(), entry.oid.encode(), path)
        for path, entry in entries.items()
        if entry is not None
    ]
    git.run("update-index", "-z", "--index-info", input=b"".join(gone + there))


def overlay(git: Git, tree: Oid, entries: Entries, scratch: Path) -> Oid:
    """`tree` with `entries` replaced."""
    import tempfile  # not at once: `sandbox ls` needs the rest of this module only

    with tempfile.TemporaryDirectory(dir=scratch) as place:
        private = git.with_env(GIT_INDEX_FILE=str(Path(place) / "index"))
        private.run("read-tree", tree)
        set_entries(private, entries, len(tree))
        return oid(private.line("write-tree", "--missing-ok"))


class Merge(NamedTuple):
    tree: Oid
    conflicts: tuple[bytes, ...]


def merge_commits(git: Git, ours: Oid, theirs: Oid, *, renames: bool = True) -> Merge:
    """Merge two commits with common history; no worktree and no index is involved.

    Raises RepositoryError when git cannot merge them at all (no common history, missing objects).
    """
    config = () if renames else ("-c", "merge.renames=false")
    done = git.try_run(*config, "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", ours, theirs)
    if done.returncode not in (0, 1):
        raise RepositoryError("git merge-tree failed", cause=printable(done.complaint, limit=2000))
    tree, *names = done.stdout.split(b"\0")
    conflicts = tuple(sorted({name for name in names if name})) if done.returncode else ()
    return Merge(oid(tree.decode("ascii")), conflicts)


def merge_trees(git: Git, base: Oid, ours: Oid, theirs: Oid, *, renames: bool = True) -> Merge:
    """Three-way merge of trees.

    `merge-tree --merge-base` came with git 2.40; commits made up for the occasion tell older ones the base.
    """
    root = commit_tree(git, base, (), "base")
    return merge_commits(
        git, commit_tree(git, ours, (root,), "ours"), commit_tree(git, theirs, (root,), "theirs"), renames=renames
    )
