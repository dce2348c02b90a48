"""The workspace as a disk: an ext4 image made from a staged copy, without root and without a mount."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from git_sandbox import arguments, process
from git_sandbox.disk import qcow2
from git_sandbox.disk.delta_archive import Appended
from git_sandbox.errors import HostResourceError, SandboxError
from git_sandbox.text import printable

REPO_DIR = "repo"  # below the disk's root: the worktree with its .git
ALIGNMENT = 1 << 20  # bytes; every disk is a multiple


def staging_layout(staging: Path) -> Path:
    """Create the disk's skeleton in `staging`; the repository belongs at the path returned."""
    staging.mkdir(mode=0o700)
    (staging / "system").mkdir(mode=0o755)  # upper and work directory of the root file system's overlay
    return staging / REPO_DIR


def make(staging: Path, target: Path, *, inodes: int, size: int, meter: Callable[[int], None] | None = None) -> None:
    """Build the ext4 image `target` of `size` bytes (sparse) with everything below `staging`.

    `inodes` is what the staged tree uses; the guest gets as many again and a quarter million more. A failed or
    interrupted build leaves no file. `meter`: see `process.run`. Raises HostResourceError when the host's disk is full.
    """
    try:
        size = -(-size // ALIGNMENT) * ALIGNMENT
        done = process.run(argv(staging, target, inodes=inodes * 2 + 262_144, size=size), timeout=3600, meter=meter)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        complaint = printable(done.complaint, limit=1000)
        if "No space left" in complaint or shutil.disk_usage(target.parent).free < (16 << 20):
            raise HostResourceError(f"the disk below {target.parent} is full", hint="free some space, then try again")
        raise SandboxError("cannot make the workspace disk", cause=complaint)
    target.chmod(0o600)


def argv(staging: Path, target: Path, *, inodes: int, size: int) -> list[str]:
    """The mke2fs command. Lazy tables and no discard: an empty gigabyte costs nothing to make."""
    features = f"lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner={os.getuid()}:{os.getgid()}"
    return [
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-N", str(inodes), "-m", "0",
        "-L", "sandbox-work", "-E", features,
        "-d", arguments.path(staging), arguments.path(target), f"{size >> 10}k",
    ]  # fmt: skip


def over(base: Path, target: Path, tail: Appended | None) -> None:
    """Make `target` a qcow2 image that shows `base`, an image beside it, with `tail` behind its end. Costs no copy."""
    chunks, size = (tail.chunks(), tail.size) if tail else ((), 0)
    with _complete(target):
        qcow2.create(target, base.name, base.stat().st_size, chunks, size)


def beside(base: Path, target: Path, tail: Appended | None) -> None:
    """The same as a raw image: a copy of `base`, sharing blocks where the file system can."""
    copy(base, target)
    append(target, tail)


def append(target: Path, tail: Appended | None) -> None:
    """Write `tail` at the end of a raw image, which becomes our own to write."""
    with _complete(target):
        target.chmod(0o600)
        with target.open("ab") as out:
            for chunk in tail.chunks() if tail else ():
                out.write(chunk)
            out.truncate(-(-out.tell() // ALIGNMENT) * ALIGNMENT)


def empty(target: Path, size: int) -> None:
    """Zeros that take no space."""
    with target.open("xb") as out:
        out.truncate(size)


@contextlib.contextmanager
def _complete(target: Path) -> Iterator[None]:
    """No half-written disk stays. Raises HostResourceError when the host's disk is full."""
    try:
        yield
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "free some space, then try again"
            raise HostResourceError(f"the disk below {target.parent} is full", hint=hint) from error
        raise


def copy(source: Path, target: Path) -> None:
    """A private copy of a disk, sparse, sharing blocks where the file system can (for reading a crashed one)."""
    done = process.run(["cp", "--reflink=auto", "--sparse=always", "--", str(source), str(target)], timeout=3600)
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        raise HostResourceError(f"cannot copy {source}", cause=printable(done.complaint, limit=500))
