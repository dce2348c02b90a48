"""What a capture read, and what of it an earlier one has already: the difference is all that has to be copied.

The first capture of a repository is copied whole, and its ledger says which entry of the source each entry of the copy
was at that time (`Known`). The next capture walks the source and takes only what has another stamp. Nothing is ever
taken for unchanged because it looks alike: whatever is odd raises `Unusable`, and the caller copies everything.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from git_sandbox.git import gitdirs
from git_sandbox.git.selection import Selection
from git_sandbox.git.stamps import Stamp, is_directory, look, settled
from git_sandbox.git.survey import CapturePolicy, Survey

GIT = ".git"
MOST = 20_000  # files of a difference; the guest writes some thousands a second, without KVM some hundreds
_WHOLE = ("objects", "lfs", "annex")  # below `.git`: entries known by their stamps; everything else by its content
_PACKED = re.compile(r"\.git/objects/pack/pack-[0-9a-f]+\.(?:pack|idx)")  # named after their content


class Unusable(Exception):  # noqa: N818 - a reason, not a failure: the whole copy is made instead
    """Why only the difference cannot be taken this time."""


class Moved(Unusable):
    """The source changed meanwhile: a second attempt may find it at rest."""


class Known(msgspec.Struct, frozen=True):
    """Every path of a copy. Exactly one of the two says what is there; neither does for an entry that must be copied
    again in any case (it changed while or just before it was copied).
    """

    stamps: dict[str, Stamp | None]
    digests: dict[str, bytes]  # what git keeps beside its stores: small, and partly rewritten on the way

    def encoded(self) -> bytes:
        names = "\0".join(self.stamps).encode("utf-8", "surrogateescape")
        digests = [(os.fsencode(name), value) for name, value in self.digests.items()]
        return msgspec.msgpack.encode((names, list(self.stamps.values()), digests))

    @classmethod
    def decoded(cls, encoded: bytes) -> Known:
        """Raises msgspec.DecodeError or ValueError when it is damaged."""
        names, values, digests = msgspec.msgpack.decode(
            encoded, type=tuple[bytes, list[Stamp | None], list[tuple[bytes, bytes]]]
        )
        paths = names.decode("utf-8", "surrogateescape").split("\0")
        return cls(dict(zip(paths, values, strict=True)), {os.fsdecode(name): value for name, value in digests})


@dataclass
class Ledger:
    """One capture's. `base`: what an earlier copy holds, None to copy everything.

    `seen` is what the source held, by the path it has in the copy, as it was before it was read.
    """

    base: Known | None = None
    room: int = sys.maxsize  # bytes that a difference may have
    seen: dict[str, Stamp] = field(default_factory=dict)
    began: int = 0  # ns since the epoch, before the first look
    obstacle: str = ""  # why this capture can neither use a base nor become one
    _worktree: tuple[Path, Selection] | None = None

    def consider(self, found: Survey, policy: CapturePolicy) -> None:
        """Look for anything that a difference cannot express exactly (yet)."""
        self.began = self.began or time.time_ns()
        main = found.git_dirs[0]
        self.require(len(found.git_dirs) == 1, "there are repositories inside")
        self.require(not found.unreadable and not found.special, "something cannot be read")
        self.require(not found.mounts, "another file system is mounted inside")
        self.require(not policy.exclude, "patterns leave files out")
        self.require(not any(gitdirs.alternates(main.common).found), "objects are borrowed from elsewhere")
        links = [place for name in _WHOLE if (place := main.common / name).is_symlink()]
        self.require(not links, "a store of git's is a link")

    def require(self, condition: bool, obstacle: str) -> None:
        """Raises Unusable, or only notes the obstacle when everything is copied anyway."""
        if condition:
            return
        self.obstacle = self.obstacle or obstacle
        if self.base is not None:
            raise Unusable(obstacle)

    def worktree(self, root: Path, selection: Selection) -> list[str]:
        """What of the selected part of the worktree must be copied: whole subtrees, or with a base single files.

        Called before anything is read, so that a later change shows in the stamps.
        """
        self._worktree = (root, selection)
        entries = selection.entries(root)
        return self._wanted(look(root, entries, selection.bare_directories(root)), "", entries)

    def store(self, place: Path, below: str, entries: Sequence[str]) -> list[str]:
        """The same for one of git's stores, which goes to `below` in the copy."""
        found = look(place, entries)
        linked = any(stat.S_ISLNK(found[each][0]) for each in entries if each in found)
        self.require(not linked, "a store of git's has links in it")
        return self._wanted(found, f"{below}/", entries)

    def _wanted(self, found: Mapping[str, Stamp], prefix: str, entries: Sequence[str]) -> list[str]:
        for path, value in found.items():
            self.seen.setdefault(prefix + path, value)
        return list(entries) if self.base is None else self._fresh(found, prefix)

    def _fresh(self, found: Mapping[str, Stamp], prefix: str) -> list[str]:
        fresh = [
            path for path, value in found.items() if not is_directory(value) and not self.has(prefix + path, value)
        ]
        # Names of one file stay names of one file only when all of them are copied together.
        groups: dict[int, list[str]] = {}
        for path, value in found.items():
            if value[5] > 1 and not is_directory(value):
                groups.setdefault(value[1], []).append(path)
        known = set(fresh)
        torn = [group for group in groups.values() if len(group) > 1 and not known.isdisjoint(group)]
        wanted = sorted(known.union(*torn))
        self.room -= sum(found[path][2] for path in wanted)
        self.require(self.room >= 0 and len(wanted) <= MOST, "too much is different")
        return wanted

    def has(self, path: str, value: Stamp) -> bool:
        """Whether the base holds at `path` exactly what the source had there when `value` was taken."""
        assert self.base is not None  # noqa: S101 - only asked with a base
        held = self.base.stamps.get(path)
        if held is None:
            return False
        if held == value:
            return True
        # Git touches a pack when it would write one of its objects again; the name says what is inside.
        return held[:3] == value[:3] and _PACKED.fullmatch(path) is not None

    def moved(self) -> set[str]:
        """Paths of the worktree that do not look now as they did before the copy. None: the copy is of one moment,
        apart from what changed twice within one tick of the clock (`young`).
        """
        assert self._worktree is not None  # noqa: S101 - asked after a capture
        root, selection = self._worktree
        now = look(root, selection.entries(root), selection.bare_directories(root))
        before = {path: value for path, value in self.seen.items() if not path.startswith(f"{GIT}/")}
        moved = {path for path in now.keys() | before.keys() if now.get(path) != before.get(path)}
        # A directory that stayed one moved when something in it did, and that counts by itself.
        return {path for path in moved if not (_directory(now.get(path)) and _directory(before.get(path)))}

    def changed_directories(self) -> list[str]:
        """Directories of the worktree that are new or not as the base has them, outer ones first."""
        found = (path for path, value in self.seen.items() if is_directory(value) and not self.has(path, value))
        return sorted(path for path in found if not path.startswith(f"{GIT}/"))

    def young(self) -> list[str]:
        """Files of the worktree whose stamps could hide another change."""
        found = (path for path, value in self.seen.items() if not settled(value, self.began) and stat.S_ISREG(value[0]))
        return [path for path in found if not path.startswith(f"{GIT}/")]

    def known(self, copy: Path) -> Known:
        """What the finished copy at `copy` holds."""
        found: dict[str, Stamp | None] = {}
        digests: dict[str, bytes] = {}
        for path, value in look(copy, os.listdir(copy)).items():  # noqa: PTH208 - names are wanted
            source = self.seen.get(path)
            found[path] = source if source and _alike(source, value) and settled(source, self.began) else None
            if kept_whole(path):
                digests[path] = digest(copy / path)
        return Known(found, digests)


def kept_whole(path: str) -> bool:
    """Whether `path` of a copy is part of what git keeps beside its stores, which is copied whole each time."""
    return path.startswith(f"{GIT}/") and path.split("/", 2)[1] not in _WHOLE


def digest(path: Path) -> bytes:
    """Of everything that a disk image keeps of an entry: times in whole seconds."""
    seen = path.lstat()
    words = [f"{seen.st_mode} {seen.st_uid} {seen.st_gid} {int(seen.st_mtime)} {seen.st_nlink > 1}".encode()]
    if stat.S_ISREG(seen.st_mode):
        words.append(path.read_bytes())
    elif stat.S_ISLNK(seen.st_mode):
        words.append(os.fsencode(path.readlink()))
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        words += [os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)]
    return hashlib.sha256(b"\0".join(b"%d:%s" % (len(word), word) for word in words)).digest()


def _directory(found: Stamp | None) -> bool:
    return found is not None and is_directory(found)


def _alike(source: Stamp, copied: Stamp) -> bool:
    size = source[2] == copied[2] or not stat.S_ISREG(source[0])
    return stat.S_IFMT(source[0]) == stat.S_IFMT(copied[0]) and size
