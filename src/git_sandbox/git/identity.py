"""The identity of a repository: a random name in a file of its common git directory.

A repository can be moved, and another one can come to its place; the name goes with the directory. A copy of the
directory has the name, too: who is who then decides `registry`, which knows where the first one was and its inode.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import NewType

import msgspec

from git_sandbox.errors import HostResourceError

RepositoryId = NewType("RepositoryId", str)  # `LENGTH` hexadecimal digits, random

FILE = "sandbox-id"
LENGTH = 16
_ID = re.compile(rb"[0-9a-f]{16}")
_CONTENT = re.compile(rb"([0-9a-f]{16})\n?")
_MOST = 64  # bytes that are looked at


class Place(msgspec.Struct, frozen=True):
    """A directory as the kernel knows it, whatever its path."""

    device: int
    inode: int

    @classmethod
    def of(cls, directory: Path) -> Place:
        """Raises OSError."""
        seen = directory.stat()
        return cls(seen.st_dev, seen.st_ino)


def is_id(text: str) -> bool:
    return _ID.fullmatch(text.encode("utf-8", "surrogateescape")) is not None


def read(common_dir: Path) -> RepositoryId | None:
    """The name of the repository with that common git directory.

    None when it has none, or a file that is not ours: an archive can bring a link, a FIFO or anything else of any size.
    """
    try:
        descriptor = os.open(common_dir / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        match = _CONTENT.fullmatch(os.read(descriptor, _MOST)) if regular else None
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return RepositoryId(match[1].decode("ascii")) if match else None


def give(common_dir: Path) -> RepositoryId:
    """Give the repository a new name, in place of what it has, and make sure that it lasts.

    Raises HostResourceError where nothing can be written.
    """
    name = RepositoryId(os.urandom(LENGTH // 2).hex())
    fresh = common_dir / f"{FILE}.{os.urandom(4).hex()}.lock"  # git and our own copy pass over `*.lock`
    try:
        with fresh.open("xb") as out:
            os.fchmod(out.fileno(), 0o644)
            out.write(f"{name}\n".encode())
            out.flush()
            os.fsync(out.fileno())
        fresh.replace(common_dir / FILE)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise HostResourceError(
            f"cannot write {common_dir / FILE}, which identifies the repository",
            cause=error.strerror or str(error),
            hint="the git directory must be writable, and nothing else may have that name",
        ) from error
    return name
