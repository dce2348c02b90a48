"""Which entries of a git directory make one self-contained `.git`, in the order in which they must be read.

A linked worktree's directory (HEAD, index, operations) is laid over the common one (refs, config), of which
everything that belongs to the main worktree stays behind. git's own rule is in its path.c, `common_list`.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_sandbox.git.gitdirs import GitDir

STORES = ("objects", "lfs", "annex")  # large, and only ever added to: copied after everything else
_NEVER = re.compile(
    r"""modules | worktrees | alt             # copied apart, or not at all
      | commondir | gitdir | locked           # what makes a worktree a linked one
      | gc\.pid | fsmonitor--daemon.* | .*\.lock
      | \.?git-credentials | credentials      # where `credential.helper=store --file` is known to be pointed at
    """,
    re.VERBOSE,
)
# What belongs to one worktree: pseudo-refs and messages in capitals, the index, operations in progress.
_PER_WORKTREE = re.compile(
    r"[A-Z][A-Z_]* | index | sharedindex\..* | rebase-.* | sequencer | config\.worktree", re.VERBOSE
)
_PER_WORKTREE_BELOW = {
    "logs": ("HEAD",),
    "refs": ("bisect", "worktree", "rewritten"),
    "logs/refs": ("bisect", "worktree", "rewritten"),
    "info": ("sparse-checkout",),
}
_LOCK = re.compile(r".*\.lock")
OBJECT_LITTER = re.compile(r".*\.lock|tmp_.*|\.tmp-.*|incoming-.*")
_LOCKED = ("refs", "logs", "reftable", "info", "rebase-merge", "rebase-apply", "sequencer")

Stamp = dict[str, tuple[int, int, int]]


class Lot(NamedTuple):
    """Entries of one directory that one cp(1) may copy together."""

    root: Path
    entries: list[str]
    options: tuple[str, ...]


# In a directory made by git-new-workdir the entries are links into the real one: -H copies what they lead to.
_FOLLOW = ("-H",)


def state_lots(source: GitDir) -> Iterator[Lot]:
    """Everything but `STORES`. Loose refs come before the rest: `pack-refs` moves them from here to there."""
    yield from _lots(source.common, shared_only=source.linked)
    if source.linked:
        yield from _lots(source.private, shared_only=False)


def _lots(root: Path, *, shared_only: bool) -> Iterator[Lot]:
    entries = list(_entries(root, shared_only=shared_only))
    loose = [each for each in entries if each.startswith("refs/")]
    # HEAD as a link is not a place but a symbolic ref, as git wrote them before 2005 (core.preferSymlinkRefs).
    links = [each for each in entries if each == "HEAD" and (root / each).is_symlink()]
    yield Lot(root, loose, _FOLLOW)
    yield Lot(root, [each for each in entries if each not in {*loose, *links}], _FOLLOW)
    yield Lot(root, links, ())


def _entries(root: Path, *, shared_only: bool) -> Iterator[str]:
    for name in sorted(os.listdir(root)):  # noqa: PTH208 - names are wanted
        if _NEVER.fullmatch(name) or name in STORES or (shared_only and _PER_WORKTREE.fullmatch(name)):
            continue
        if name in _PER_WORKTREE_BELOW and (root / name).is_dir():
            yield from _children(root, name, shared_only=shared_only)
        else:
            yield name


def _children(root: Path, name: str, *, shared_only: bool) -> Iterator[str]:
    for child in sorted(os.listdir(root / name)):  # noqa: PTH208 - names are wanted
        path = f"{name}/{child}"
        if shared_only and child in _PER_WORKTREE_BELOW[name]:
            continue
        if path == "logs/refs":
            yield from _children(root, path, shared_only=shared_only)
        else:
            yield path


def object_entries(objects: Path) -> list[str]:
    """Loose objects before packs: repacking moves them that way."""
    names = (each.name for each in objects.iterdir())
    return sorted(
        (name for name in names if not OBJECT_LITTER.fullmatch(name)), key=lambda name: (name == "pack", name)
    )


def pack_stamp(objects: Path) -> Stamp:
    """What changes when packs come or go. Not their times: git touches a pack when an object is written again."""
    return {name: (0, inode, size) for name, (_, inode, size) in _stamps(objects / "pack", OBJECT_LITTER).items()}


def state_stamp(source: GitDir) -> Stamp:
    """What changes when a ref, the index or an operation does."""
    stamp: Stamp = {}
    for root in dict.fromkeys((source.common, source.private)):
        stamp |= _stamps(root, _LOCK)
        for name in ("refs", "reftable"):
            stamp |= _stamps(root / name, _LOCK, recurse=True)
    return stamp


def _stamps(root: Path, unless: re.Pattern[str], *, recurse: bool = False) -> Stamp:
    found: Stamp = {}
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                seen = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(seen.st_mode):
                    found |= _stamps(Path(entry.path), unless, recurse=True) if recurse else {}
                elif not unless.fullmatch(entry.name):
                    found[entry.path] = (seen.st_mtime_ns, seen.st_ino, seen.st_size)
    return found


def litter(target: Path) -> Iterator[Path]:
    """What unfinished commands left in a copy: no process holds these locks there, nobody completes these files."""
    for name, pattern in (*((name, _LOCK) for name in _LOCKED), ("objects", OBJECT_LITTER), ("alt", OBJECT_LITTER)):
        for directory, directories, files in os.walk(target / name):
            yield from (Path(directory, each) for each in (*directories, *files) if pattern.fullmatch(each))
            directories[:] = [each for each in directories if not pattern.fullmatch(each)]
