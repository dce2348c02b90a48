"""Applies the layers of an OCI image to a directory, as the image specification says (layer.md).

Names are walked by `rooted`, so nothing outside the directory can be reached. No file there gets an owner, a set-id bit
or an extended attribute: those are noted in `Notes`, and written into the file system that is made of the directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from git_sandbox.helpers import rooted, tarstream
from git_sandbox.helpers.notes import PLAIN_FROM, LayerError, Notes, check
from git_sandbox.helpers.rooted import MOST_PATH, Path, Place, components, opened, shown
from git_sandbox.helpers.tarstream import Entry, TarReader

WHITEOUT, OPAQUE, AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
# Where the guest mounts: directories, whatever the image has there.
MOUNTED = ((b"dev", 0o755), (b"proc", 0o755), (b"sys", 0o755), (b"run", 0o755), (b"tmp", 0o1777))
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096
_READABLE, _USABLE = 0o600, 0o700  # what who unpacks a file or a directory needs to read it again


@dataclass
class Total:
    """What has been written so far, and what may be. `blocks`: bytes in whole blocks, with names and descriptions."""

    most_entries: int
    most_content: int
    entries: int = 0
    content: int = 0
    blocks: int = 0
    devices: int = 0  # left out

    def add(self, entry: Entry, name: bytes) -> None:
        """Raises LayerError."""
        self.entries += 1
        self.content += entry.size
        self.blocks += -(-entry.size // _BLOCK) * _BLOCK + 2 * len(name) + 16
        self.blocks += _BLOCK * (bool(entry.xattrs) + (entry.kind in (tarstream.DIRECTORY, tarstream.SYMLINK)))
        if self.entries > self.most_entries:
            raise LayerError(f"there are more than {self.most_entries} files, directories and links")
        if self.content > self.most_content:
            raise LayerError(f"the files have more than {self.most_content >> 20} MiB")

    def add_directory(self, name: bytes) -> None:
        """One that no entry names, only what is in it does. Raises LayerError."""
        self.add(Entry(name, tarstream.DIRECTORY), name)


@dataclass
class Tree:
    """`root`: a descriptor of the top directory. Programs that use it have the umask 0."""

    root: int
    total: Total
    notes: Notes = field(default_factory=Notes)
    times: dict[Path, int] = field(default_factory=dict)  # of directories, set when all is there
    upper: set[int] = field(default_factory=set)  # hashes of the paths that this layer has, and of all above them
    _last: tuple[Path, Place] | None = None  # the directory of the entry before: mostly the next one's, too

    def apply(self, reader: TarReader) -> None:
        """Lay one layer over the tree. Raises LayerError, TarError, BadNameError, OSError."""
        self.upper.clear()
        for entry in reader:
            parts = components(entry.name)
            if not parts:
                self._top(entry)
                continue
            self.total.add(entry, parts[-1])
            if parts[-1].startswith(WHITEOUT):
                self._forget()
                self._whiteout(parts[:-1], parts[-1])
            else:
                self._put(entry, self._parent(parts[:-1]), parts[-1], reader)
        self._forget()

    def finish(self) -> None:
        """Make what every guest mounts on; then set the times of directories, which writing has changed until now."""
        for name, mode in MOUNTED:
            kind = _kind(name, self.root)
            if not stat.S_ISDIR(kind):
                if kind:
                    os.unlink(name, dir_fd=self.root)
                os.mkdir(name, mode & 0o777, dir_fd=self.root)
                entry = Entry(name, tarstream.DIRECTORY, mode, mtime=PLAIN_FROM)
                self.times[name,] = self.notes.time(entry, mode & 0o777)
        for path, mtime in self.times.items():
            with contextlib.suppress(OSError), rooted.walked(self.root, path) as place:  # it may be gone
                if place.path == path:
                    os.utime(place.descriptor, (mtime, mtime))

    def _top(self, entry: Entry) -> None:
        if entry.kind != tarstream.DIRECTORY:
            raise LayerError(f"its top-level entry is a {entry.kind}")
        check(entry)
        self.notes.top = entry

    def _put(self, entry: Entry, parent: Place, name: bytes, reader: TarReader) -> None:
        path = (*parent.path, name)
        with self._target(entry, path) as target:
            there = self._cleared(parent, name, entry.kind)
            self._mark(path)
            match entry.kind:
                case tarstream.DIRECTORY:
                    self._directory(entry, parent, name, there=there)
                case tarstream.HARDLINK:
                    _link(entry, target, parent, name)
                case tarstream.SYMLINK | tarstream.FIFO:
                    self._special(entry, parent.descriptor, name)
                case tarstream.DEVICE:
                    self.total.devices += 1
                case _:
                    self._file(entry, parent.descriptor, name, reader)

    def _directory(self, entry: Entry, parent: Place, name: bytes, *, there: bool) -> None:
        mode = entry.mode & 0o777 | _USABLE
        if there:
            os.chmod(name, mode, dir_fd=parent.descriptor)
        else:
            os.mkdir(name, mode, dir_fd=parent.descriptor)
        self.times[(*parent.path, name)] = self.notes.time(entry, mode)

    def _file(self, entry: Entry, at: int, name: bytes, reader: TarReader) -> None:
        mode = entry.mode & 0o777 | _READABLE
        time = self.notes.time(entry, mode)
        descriptor = os.open(name, _NEW, mode, dir_fd=at)
        try:
            for piece in reader.content():
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            os.utime(descriptor, (time, time))
        finally:
            os.close(descriptor)

    def _special(self, entry: Entry, at: int, name: bytes) -> None:
        if entry.kind == tarstream.FIFO:
            mode = entry.mode & 0o777 | _READABLE
            os.mkfifo(name, mode, dir_fd=at)
        elif 0 < len(entry.link) <= MOST_PATH and b"\0" not in entry.link:
            mode = entry.mode = 0o777
            os.symlink(entry.link, name, dir_fd=at)
        else:
            raise LayerError(f"the target of the link {shown(entry.name)} is too long, or none")
        time = self.notes.time(entry, mode)
        os.utime(name, (time, time), dir_fd=at, follow_symlinks=False)

    @contextlib.contextmanager
    def _target(self, entry: Entry, path: Path) -> Iterator[Place | None]:
        """The directory that has the target of a hard link: found before anything goes to make room for the link."""
        if entry.kind != tarstream.HARDLINK:
            yield None
            return
        target = components(entry.link)
        with contextlib.ExitStack() as stack:
            try:
                place = stack.enter_context(rooted.walked(self.root, target[:-1]))
            except OSError as error:
                raise LayerError(f"the hard link {shown(entry.name)} leads to nothing") from error
            if not target or (*place.path, target[-1])[: len(path)] == path:
                raise LayerError(f"the hard link {shown(entry.name)} leads to itself, or to the file it replaces")
            yield place

    def _cleared(self, parent: Place, name: bytes, kind: str) -> bool:
        """Take away what has that name. A directory that stays one stays; whether it does."""
        mode = _kind(name, parent.descriptor)
        if stat.S_ISDIR(mode) and kind == tarstream.DIRECTORY:
            return True
        if mode:
            _remove(name, parent.descriptor, mode)
        return False

    def _whiteout(self, above: Path, name: bytes) -> None:
        """Hide what layers below have; never what this one has, in whatever order its entries are."""
        if name.startswith(AUFS) and name != OPAQUE:
            return
        hidden = name.removeprefix(WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise LayerError(f"the whiteout {shown(name)} names no file")
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), rooted.walked(self.root, above) as place:
            if name == OPAQUE:
                self._prune(place)
            else:
                self._hide(place, hidden)

    def _prune(self, place: Place) -> None:
        """Hide all that is in a directory."""
        with os.scandir(place.descriptor) as rows:
            names = [os.fsencode(row.name) for row in rows]
        for name in names:
            self._hide(place, name)

    def _hide(self, place: Place, name: bytes) -> None:
        mode = os.lstat(name, dir_fd=place.descriptor).st_mode
        if hash((*place.path, name)) not in self.upper:
            _remove(name, place.descriptor, mode)
        elif stat.S_ISDIR(mode):
            with opened(name, place.descriptor) as descriptor:
                self._prune(Place(descriptor, (*place.path, name)))

    def _mark(self, path: Path) -> None:
        """Remember a path in 8 bytes: Python keys its hash by chance, so nobody makes two paths that have the same."""
        while path and hash(path) not in self.upper:
            self.upper.add(hash(path))
            path = path[:-1]

    def _parent(self, parts: Path) -> Place:
        """The directory of an entry, made where there is none; open until the next one is asked for."""
        if self._last and self._last[0] == parts:
            return self._last[1]
        self._forget()
        try:
            place = rooted.walk(self.root, parts, self.total.add_directory)
        except NotADirectoryError as error:
            raise LayerError(f"{shown(b'/'.join(parts))} is a file, but another entry is inside it") from error
        self._last = (parts, place)
        return place

    def _forget(self) -> None:
        if self._last:
            os.close(self._last[1].descriptor)
            self._last = None


def _kind(name: bytes, at: int) -> int:
    """The mode of a file, 0 where there is none."""
    try:
        return os.lstat(name, dir_fd=at).st_mode
    except FileNotFoundError:
        return 0


def _remove(name: bytes, at: int, mode: int) -> None:
    if stat.S_ISDIR(mode):
        shutil.rmtree(os.fsdecode(name), dir_fd=at)
    else:
        os.unlink(name, dir_fd=at)


def _link(entry: Entry, target: Place | None, parent: Place, name: bytes) -> None:
    assert target is not None  # noqa: S101 - for the type checker
    last = components(entry.link)[-1]
    try:
        os.link(last, name, src_dir_fd=target.descriptor, dst_dir_fd=parent.descriptor, follow_symlinks=False)
    except OSError as error:
        raise LayerError(f"the hard link {shown(entry.name)} cannot be made ({error.strerror})") from error
