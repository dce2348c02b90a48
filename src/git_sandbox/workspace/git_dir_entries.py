"""The entries of a git directory that make one self-contained `.git`, in the order in which they must be read.

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

from git_sandbox.later import regex
from git_sandbox.workspace.git_dir_allowlist import STORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from git_sandbox.git.gitdirs import GitDir
    from git_sandbox.workspace.git_dir_allowlist import GitFiles

STORES = ("objects", "lfs", "annex")  # large, and only ever added to: copied after everything else
_NEVER = regex(
    r"""modules | worktrees | alt             # copied apart, or not at all
      | commondir | gitdir | locked           # what makes a worktree a linked one
      | sandbox-id                            # which repository of the host's this is: `identity.FILE`
      | gc\.pid | fsmonitor--daemon.* | .*\.lock
    """,
    re.VERBOSE,
)
# What belongs to one worktree: pseudo-refs and messages in capitals, the index, operations in progress.
_PER_WORKTREE = regex(r"[A-Z][A-Z_]* | index | sharedindex\..* | rebase-.* | sequencer | config\.worktree", re.VERBOSE)
_PER_WORKTREE_BELOW = {
    "logs": ("HEAD",),
    "refs": ("bisect", "worktree", "rewritten"),
    "logs/refs": ("bisect", "worktree", "rewritten"),
    "info": ("sparse-checkout",),
}
_PSEUDO = regex(r"[A-Z][A-Z_]*")
_LOCK = regex(r".*\.lock")
OBJECT_LITTER = regex(r".*\.lock|tmp_.*|\.tmp-.*|incoming-.*")
_LOCKED = ("refs", "logs", "reftable", "info", "rebase-merge", "rebase-apply", "sequencer")

Stamp = dict[str, tuple[int, int, int]]


class Lot(NamedTuple):
    """Entries of one directory that one cp(1) may copy together."""

    root: Path
    entries: list[str]
    options: tuple[str, ...]


# In a directory made by git-new-workdir the entries are links into the real one: -H copies what they lead to.
_FOLLOW = ("-H",)
# What git keeps in a directory of objects. Whoever wrote `alternates` can name any directory of the user's there.
_OBJECTS = regex(r"[0-9a-f]{2}|pack|info")
_PACK = regex(r"(?:pack|multi-pack-index|tmp_|\.tmp-).*|.*\.lock")


def state_lots(source: GitDir, files: GitFiles) -> Iterator[Lot]:
    """Everything that `files` takes but `STORES`. Loose refs come before the rest: `pack-refs` moves them from here to
    there.
    """
    yield from _lots(source.common, files, shared_only=source.linked)
    if source.linked:
        yield from _lots(source.private, files, shared_only=False)


def _lots(root: Path, files: GitFiles, *, shared_only: bool) -> Iterator[Lot]:
    entries = list(_chosen(root, files, _entries(root, shared_only=shared_only)))
    loose = [entry for entry in entries if entry.startswith("refs/")]
    # HEAD as a link is not a place but a symbolic ref, as git wrote them before 2005 (core.preferSymlinkRefs).
    links = [
        entry for entry in entries if (root / entry).is_symlink() and (entry == "HEAD" or not _shared(root, entry))
    ]
    yield Lot(root, [name for name in loose if name not in links], _FOLLOW)
    yield Lot(root, [entry for entry in entries if entry not in {*loose, *links}], _FOLLOW)
    yield Lot(root, links, ())


def _entries(root: Path, *, shared_only: bool) -> Iterator[str]:
    for name in sorted(os.listdir(root)):  # noqa: PTH208 - names are wanted
        if _NEVER.fullmatch(name) or name in STORES or (shared_only and _PER_WORKTREE.fullmatch(name)):
            continue
        if (name in _PER_WORKTREE_BELOW or name == "hooks") and _opened(root, name):
            yield from _children(root, name, shared_only=shared_only)
        else:
            yield name


def _chosen(root: Path, files: GitFiles, entries: Iterable[str]) -> Iterator[str]:
    taken = [entry for entry in entries if files.takes(root, entry) and not _leads_nowhere(root, entry)]
    yield from taken
    for path in sorted(files.named):
        apart = any(path == store or path.startswith(f"{store}/") for store in (*taken, *STORES))
        top = path.partition("/")[0]
        if not apart and not _NEVER.fullmatch(top) and not _PER_WORKTREE.fullmatch(top) and _reached(root, path):
            yield path


def _leads_nowhere(root: Path, entry: str) -> bool:
    """What git-new-workdir links to and the other repository has not got. A ref may be such a link."""
    return (
        "/" not in entry
        and _PSEUDO.fullmatch(entry) is None
        and os.path.lexists(root / entry)
        and not (root / entry).exists()
    )


def _reached(root: Path, path: str) -> bool:
    """Whether `path` exists below `root` without a link on the way, which could lead to anything of the user's."""
    return os.path.lexists(root / path) and os.path.realpath(root / path) == os.path.join(os.path.realpath(root), path)  # noqa: PTH118


def _children(root: Path, name: str, *, shared_only: bool) -> Iterator[str]:
    for child in sorted(os.listdir(root / name)):  # noqa: PTH208 - names are wanted
        path = f"{name}/{child}"
        if shared_only and child in _PER_WORKTREE_BELOW.get(name, ()):
            continue
        if path == "logs/refs" and _opened(root, path):
            yield from _children(root, path, shared_only=shared_only)
        else:
            yield path


def _opened(root: Path, entry: str) -> bool:
    place = root / entry
    return place.is_dir() and (not place.is_symlink() or _shared(root, entry))


def _shared(root: Path, entry: str) -> bool:
    """Whether the link `entry` leads to the same entry of another git directory. A link to anything else of the user's
    stays a link: a git directory out of an archive must not bring his keys along.
    """
    if not (root / entry).exists():  # it leads nowhere, or to itself
        return False
    real = Path(os.path.realpath(root / entry))
    if len(real.parents) <= entry.count("/"):
        return False
    above = real.parents[entry.count("/")]
    return real == above / entry and (above / "HEAD").exists() and (above / "objects").is_dir()


def private_entries(root: Path, files: GitFiles) -> list[str]:
    """What a linked worktree has of its own, without what makes it one."""
    return list(_chosen(root, files, _entries(root, shared_only=False)))


def store_entries(store: Path, *, foreign: bool = False) -> list[str]:
    """Loose objects before packs: repacking moves them that way. `foreign`: only what git itself keeps in such a place,
    because `alternates` or a link named it.
    """
    names = (path.name for path in store.iterdir() if not path.is_symlink() or _elsewhere(path))
    known = _OBJECTS if foreign else STORED.get(store.name, _OBJECTS)
    valid = (name for name in names if known.fullmatch(name))
    return sorted(
        (name for name in valid if not OBJECT_LITTER.fullmatch(name)), key=lambda name: (name == "pack", name)
    )


def _elsewhere(link: Path) -> bool:
    """Whether `link`, in a store, leads to what its name says, e.g. packs on a larger disk."""
    if not link.exists():  # it leads nowhere, or to itself
        return False
    real = Path(os.path.realpath(link))
    if link.name == "pack":
        return real.is_dir() and all(map(_PACK.fullmatch, os.listdir(real)))  # noqa: PTH208 - names are wanted
    return real.name == link.name and (link.name == "objects" or _OBJECTS.fullmatch(link.name) is not None)


def pack_stamp(objects: Path) -> Stamp:
    """What changes when packs come or go. Not their times: git touches a pack when an object is written again."""
    return {name: (0, inode, size) for name, (_, inode, size) in _stamps(objects / "pack", OBJECT_LITTER).items()}


def state_stamp(source: GitDir) -> Stamp:
    """What changes when a ref, the index or an operation does."""
    stamp: Stamp = {}
    for root in dict.fromkeys((source.private,) if source.shared else (source.common, source.private)):
        stamp |= _stamps(root, _LOCK)
        for name in ("refs", "reftable"):
            stamp |= _stamps(root / name, _LOCK, recurse=True)
    return stamp


def _stamps(root: Path, unless: re.Pattern[str], *, recurse: bool = False) -> Stamp:
    stamp: Stamp = {}
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                seen = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(seen.st_mode):
                    stamp |= _stamps(Path(entry.path), unless, recurse=True) if recurse else {}
                elif not unless.fullmatch(entry.name):
                    stamp[entry.path] = (seen.st_mtime_ns, seen.st_ino, seen.st_size)
    return stamp


def litter(target: Path) -> Iterator[Path]:
    """What unfinished commands left in a copy: no process holds these locks there, nobody completes these files."""
    for name, pattern in (*((name, _LOCK) for name in _LOCKED), ("objects", OBJECT_LITTER), ("alt", OBJECT_LITTER)):
        for directory, directories, files in os.walk(target / name):
            yield from (Path(directory, name) for name in (*directories, *files) if pattern.fullmatch(name))
            directories[:] = [name for name in directories if not pattern.fullmatch(name)]
