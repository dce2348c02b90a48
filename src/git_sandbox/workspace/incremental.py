"""What a capture read, and what an earlier one already has: only the difference has to be copied.

The first capture of a repository is copied whole, and its tracker says which entry of the source each entry of the copy
was at that time (`Known`). The next capture looks at the source and takes only what has another stamp; what is as it
was then needs no second thought, only what is new is examined. Nothing is ever taken for unchanged because it looks
alike: whatever is odd raises `NotIncremental`, and the caller copies everything.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from git_sandbox.background import Beside
from git_sandbox.later import dataclass, field, regex
from git_sandbox.workspace import secrets
from git_sandbox.workspace.base_index import Known
from git_sandbox.workspace.git_dir_entries import STORES
from git_sandbox.workspace.paths_of_copy import GIT, Layout
from git_sandbox.workspace.selection import Selection
from git_sandbox.workspace.stat_scan import Entry, Rows, Unseen, entry_of, look, settled
from git_sandbox.workspace.survey import CapturePolicy, Survey

MOST = 20_000  # files of a difference; the guest writes some thousands a second, without KVM some hundreds
HURRIED = 1000  # entries that a base may have to copy again each time
_PACKS = b"/pack/pack-"
_PACKED = regex(  # named after their content
    rb"[ /]\.git/(?:modules/.+/)?(?:objects|alt/[0-9]+)/pack/pack-[0-9a-f]+\.(?:pack|idx)$", re.DOTALL
)


class NotIncremental(Exception):  # noqa: N818 - a reason, not a failure: the whole copy is made instead
    """Why only the difference cannot be taken this time."""


class SourceChanged(NotIncremental):
    """The source changed meanwhile: a second attempt may find it at rest."""


@dataclass
class ChangeTracker:
    """One capture's. `base`: what an earlier copy holds, None to copy everything.

    `fresh` is what the source holds and the base does not, by the path it has in the copy, as it was before it was
    read.
    """

    base: Known | None = None
    room: int = sys.maxsize  # bytes that a difference may have
    fresh: dict[str, Entry] = field(default_factory=dict)
    began: int = 0  # ns since the epoch, before the first look
    obstacle: str = ""  # why this capture can neither use a base nor become one
    layout: Layout = field(default_factory=lambda: Layout({GIT: ""}))  # of the copy
    _suspects: tuple[str, ...] = ()
    _worktree: tuple[Path, Selection] | None = None
    _looking: Beside[Rows] | None = None
    _before: Rows = frozenset()  # the worktree's rows
    _stores: set[bytes] = field(default_factory=set)

    def consider(self, survey: Survey, policy: CapturePolicy) -> None:
        """Look for anything that a difference cannot express exactly (yet)."""
        self.began = self.began or time.time_ns()
        self.layout = Layout({git_dir.target: git_dir.checkout for git_dir in survey.git_dirs})
        self.require(self.base is None or len(self.base.again) <= HURRIED, "the base was made right after a checkout")
        self.require(not survey.unreadable and not survey.special, "something cannot be read")
        self.require(not survey.mounts, "another file system is mounted inside")
        self.require(not policy.exclude, "patterns exclude files")
        for git_dir in survey.git_dirs:
            links = [place for name in STORES if (place := git_dir.common / name).is_symlink()]
            self.require(not links, "a store of git's is a link")
        self._require_same_repositories(survey.git_dirs[0].worktree)
        self._suspects = survey.suspects

    def _require_same_repositories(self, root: Path | None) -> None:
        """Those inside that the base has must be where they were, or gone. New ones show as new rows."""
        if self.base is None:
            return
        for target, checkout in self.base.git_dirs.items():
            same = self.layout.git_dirs.get(target, "") == checkout
            gone = not checkout or not os.path.lexists(f"{root}/{checkout}/{GIT}")
            self.require(same or gone, "a nested repository has moved")

    def require(self, condition: bool, obstacle: str) -> None:
        """Raises NotIncremental, or only notes the obstacle when everything is copied anyway."""
        if condition:
            return
        self.obstacle = self.obstacle or obstacle
        if self.base is not None:
            raise NotIncremental(obstacle)

    def begin(self, root: Path, selection: Selection) -> None:
        """Start looking at the selected part of the worktree, before anything of it is read: a later change will show
        in the stamps.
        """
        self._worktree = (root, selection)
        self._looking = Beside(self._look)

    def _look(self) -> Rows:
        assert self._worktree is not None  # noqa: S101 - looked at after `begin`
        root, selection = self._worktree
        return look(root, selection.entries(root), selection.bare_directories(root))

    def worktree(self) -> list[str]:
        """What of the worktree must be copied: whole subtrees, or with a base single files."""
        assert self._looking is not None  # noqa: S101 - asked after `begin`
        assert self._worktree is not None  # noqa: S101
        root, selection = self._worktree
        self._before = self._seen(self._looking.result)
        if self.base is None:
            named = [os.fsdecode(row.split(b" ", 9)[9]) for row in self._before if row.endswith(b"/.git")]
            self.require(not any(map(self.layout.stray, named)), "something has the name of a git file")
            return selection.entries(root)
        fresh = self._fresh(self._before)
        self._require_ordinary(root)
        return fresh

    def _require_ordinary(self, root: Path) -> None:
        """The same as `consider`, of what is new: all else is as it was when the base was made."""
        for path, entry in self.fresh.items():
            self.require(not self.layout.stray(path), "there is another nested repository")
            self.require(entry.kind not in "bc", "something cannot be read")
            if entry.is_directory and self.layout.of_worktree(path):
                self.require(_device(root / path) == _device(root), "another file system is mounted inside")

    def store(self, place: Path, below: str, entries: Sequence[str]) -> list[str]:
        """The same for one of git's stores, which goes to `below` in the copy."""
        if self.base is None and self.obstacle:
            return list(entries)
        rows = self._seen(partial(look, place, entries, below=below))
        named = {f"{below}/{name}".encode("utf-8", "surrogateescape") for name in entries}
        linked = any(row.startswith(b"l ") and row.split(b" ", 9)[9] in named for row in rows)
        self.require(not linked, "a store of git's has links in it")
        self._stores |= rows
        below_it = len(below) + 1
        if self.base is None:
            return list(entries)
        return [path[below_it:] for path in (*self._fresh(rows), *self._empty(rows))]

    def _empty(self, rows: Rows) -> list[str]:
        """New directories among `rows` with nothing in them: no file brings them along."""
        assert self.base is not None  # noqa: S101 - only asked with a base
        new = {entry_of(row).path for row in rows - self.base.rows if row.startswith(b"d ")}
        return sorted(new - {os.path.dirname(os.fsdecode(row.split(b" ", 9)[9])) for row in rows}) if new else []  # noqa: PTH120 - hot

    def _seen(self, looking: Callable[[], Rows]) -> Rows:
        try:
            return looking()
        except Unseen:
            self.require(False, "something cannot be read")
            return frozenset()

    def _fresh(self, rows: Rows) -> list[str]:
        """Note what the base has not; the files among it."""
        assert self.base is not None  # noqa: S101 - only asked with a base
        new = rows - self.base.rows
        entries = {row.path: row for row in map(entry_of, new)}
        self.fresh |= entries
        files = {path for path, entry in entries.items() if not entry.is_directory} - self._packed(new)
        # Names of one file stay names of one file only when all of them are copied together.
        linked = {entries[path].inode for path in files if entries[path].links > 1}
        if linked:
            others = (entry_of(row) for row in rows if row.split(b" ", 3)[2] in linked)
            entries |= {entry.path: entry for entry in others if not entry.is_directory}
            files |= {path for path, entry in entries.items() if entry.inode in linked and not entry.is_directory}
        self.room -= sum(entries[path].size for path in files)
        self.require(self.room >= 0 and len(files) <= MOST, "too many files differ")
        return sorted(files)

    def _packed(self, new: Rows) -> set[str]:
        """Packs among `new` rows that the base has with other times. Git touches a pack when it would write one of its
        objects again; the name says what is inside.
        """
        assert self.base is not None  # noqa: S101 - only asked with a base
        packs = [row for row in new if _PACKED.search(row)]
        with believed():
            held = {_but_times(row) for row in self.base.rows if _PACKS in row} if packs else set()
        return {entry_of(pack).path for pack in packs if _but_times(pack) in held}

    def moved(self) -> set[str]:
        """Paths of the worktree that do not look now as they did before the copy. None: the copy is of one moment,
        apart from what changed twice within one tick of the clock (`young`).
        """
        now = self._seen(self._look)
        one, other = (
            {row.path: row for row in map(entry_of, rows)} for rows in (now - self._before, self._before - now)
        )
        # A directory that stayed one moved when something in it did, and that counts by itself.
        return {
            path for path in one.keys() | other.keys()
            if not (path in one and path in other and one[path].is_directory and other[path].is_directory)
        }  # fmt: skip

    def changed_directories(self) -> list[str]:
        """Directories of the worktree that are new or not as the base has them, or brought along by a git directory in
        them; outer ones first.
        """
        directories = {
            path for path, entry in self.fresh.items() if entry.is_directory and self.layout.of_worktree(path)
        }
        return sorted(directories | self.layout.brought)

    def young(self) -> list[str]:
        """Files of the worktree whose stamps could hide another change. What the base has is older."""
        changed = (path for path, entry in self.fresh.items() if entry.kind == "f" and not settled(entry, self.began))
        return [path for path in changed if self.layout.of_worktree(path)]

    def stale(self) -> dict[str, Entry]:
        """What the base has and the source has not, or not so any more."""
        assert self.base is not None  # noqa: S101 - only asked with a base
        with believed():
            return {row.path: row for row in map(entry_of, self.base.rows - self._before - self._stores)}

    def missing(self) -> set[str]:
        """Paths that the base has; the source has nothing there, or something else, or what is copied anyway."""
        assert self.base is not None  # noqa: S101 - only asked with a base
        return (self.stale().keys() | self.base.again | self.base.digests.keys()) - self.fresh.keys()

    def suspects(self) -> list[str]:
        """Paths of the worktree that look as if they held secrets."""
        if self.base is None:
            return list(self._suspects)
        new = [path for path, entry in self.fresh.items() if not entry.is_directory and self.layout.of_worktree(path)]
        missing = self.missing() if self.base.suspects else set()
        return [path for path in {*self.base.suspects, *filter(secrets.suspicious, new)} if path not in missing]

    def known(self, copy: Path) -> Known:
        """What the finished copy at `copy` holds."""
        sources = self._sources()
        rows, again, digests = set(), set(), {}
        for item in map(entry_of, look(copy, os.listdir(copy))):  # noqa: PTH208 - names are wanted
            source = sources.get(item.path)
            if self.layout.kept_whole(item.path):
                digests[item.path] = digest(copy / item.path)
            elif source and _alike(entry_of(source), item) and settled(entry_of(source), self.began):
                rows.add(source)
            else:
                again.add(item.path)
        return Known(frozenset(rows), frozenset(again), digests, self._suspects, dict(self.layout.git_dirs))

    def _sources(self) -> dict[str, bytes]:
        """Rows by their paths, without those that were seen in two states."""
        sources: dict[str, bytes] = {}
        twice: set[str] = set()
        for row in (*self._before, *self._stores):
            path = os.fsdecode(row.split(b" ", 9)[9])
            if path in sources:
                twice.add(path)
            sources[path] = row
        return {path: row for path, row in sources.items() if path not in twice}


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


@contextmanager
def believed() -> Iterator[None]:
    """While rows of the base are taken apart. Raises NotIncremental for one that nobody wrote so."""
    try:
        yield
    except ValueError as error:
        raise NotIncremental("the index of the base is damaged") from error


def _but_times(row: bytes) -> tuple[bytes, ...]:
    kind, mode, inode, size, *_, path = row.split(b" ", 9)
    return kind, mode, inode, size, path


def _device(path: Path) -> int:
    try:
        return path.lstat().st_dev
    except OSError:
        return 0  # gone; the copy will notice


def _alike(source: Entry, copied: Entry) -> bool:
    return source.kind == copied.kind and (source.size == copied.size or source.kind != "f")
