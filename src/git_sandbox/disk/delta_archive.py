"""The difference between a repository and its base, as bytes after the file system of the workspace disk.

The guest's init (`guest/tail.py`) finds them there at boot, applies them and erases the header, before anything of the
user's runs: a tail that is there has not been applied, whichever machine finds it. Layout: a block with `DELTA_HEADER`,
the manifest, the contents of the files in its order. The manifest is JSON; names in it are bytes written as Latin-1.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from git_sandbox.errors import SandboxError
from git_sandbox.guest.protocol import DELTA_HEADER, DELTA_MAGIC
from git_sandbox.later import dataclass

BLOCK = 4096  # bytes
_CHUNK = 1 << 20


class Appended(Protocol):
    """What is written behind the end of a file system."""

    @property
    def size(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True)
class Tail:
    root: Path
    manifest: bytes
    files: tuple[tuple[str, int], ...]  # path and bytes
    entries: int = 0  # to write and to remove

    @property
    def size(self) -> int:
        return BLOCK + len(self.manifest) + sum(size for _, size in self.files)

    def chunks(self) -> Iterator[bytes]:
        """Everything, in pieces. Raises SandboxError when a file is not as large as it was."""
        contents = sum(size for _, size in self.files)
        yield struct.pack(DELTA_HEADER, DELTA_MAGIC, BLOCK, len(self.manifest), contents).ljust(BLOCK, b"\0")
        yield self.manifest
        for path, size in self.files:
            with (self.root / path).open("rb") as file:
                left = size
                while left and (chunk := file.read(min(left, _CHUNK))):
                    left -= len(chunk)
                    yield chunk
            if left:
                raise SandboxError("the difference to the repository's base changed while it was written")


def build(root: Path, remove: Sequence[str], write: Sequence[str]) -> Tail:
    """`remove` and `write` (below `root`, which comes as well) as a tail. A directory stands before what is in it."""
    rows: list[list[object]] = []
    files: list[tuple[str, int]] = []
    first: dict[tuple[int, int], str] = {}  # device and inode -> the first name of a file with more than one
    for path in ("", *write):
        seen = (root / path).lstat()
        if seen.st_nlink > 1 and not stat.S_ISDIR(seen.st_mode):
            other = first.setdefault((seen.st_dev, seen.st_ino), path)
            if other != path:
                rows.append(["link", _name(path), _name(other)])
                continue
        rows.append([_kind(seen), _name(path), _detail(root / path, seen), *_attributes(root / path, seen)])
        if stat.S_ISREG(seen.st_mode):
            files.append((path, seen.st_size))
    manifest = msgspec.json.encode({"remove": [_name(path) for path in remove], "write": rows})
    return Tail(root, manifest, tuple(files), len(rows) + len(remove))


def _kind(seen: os.stat_result) -> str:
    names = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}
    return names.get(stat.S_IFMT(seen.st_mode), "node")  # a FIFO or a socket


def _detail(path: Path, seen: os.stat_result) -> str | int:
    if stat.S_ISLNK(seen.st_mode):
        return _name(os.fspath(path.readlink()))
    return seen.st_size if stat.S_ISREG(seen.st_mode) else 0


def _attributes(path: Path, seen: os.stat_result) -> list[object]:
    """Mode, whole seconds of the last change (mke2fs keeps no more), owner, group, extended attributes."""
    names = os.listxattr(path, follow_symlinks=False)
    extended = {_name(name): os.getxattr(path, name, follow_symlinks=False).decode("latin-1") for name in names}
    return [seen.st_mode, int(seen.st_mtime), seen.st_uid, seen.st_gid, extended]


def _name(path: str) -> str:
    return os.fsencode(path).decode("latin-1")
