"""A copy of a directory as a read-only disk, for `--mount`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from git_sandbox import arguments, process
from git_sandbox.errors import HostResourceError, SandboxError, UsageError
from git_sandbox.text import one_line, printable
from git_sandbox.workspace.disk_usage import Census

SLACK = 16 << 20  # bytes for what a file system needs beside its files


def make(source: Path, target: Path) -> None:
    """The ext4 image `target` with everything below `source`, owners and modes as they are.

    Raises UsageError for what cannot be read, HostResourceError when the host's disk is too small; no file is left.
    """
    census = Census()
    census.walk(source)
    if census.unreadable:
        raise UsageError(f"{source} cannot be copied: {one_line(census.unreadable[0], limit=200)} cannot be read")
    size = int(census.bytes * 1.1) + census.inodes * 512 + SLACK
    free = shutil.disk_usage(target.parent).free
    if free < size:
        raise HostResourceError(f"a copy of {source} needs {size >> 20} MiB, {free >> 20} MiB are free")
    seen = source.stat()
    words = argv(source, target, inodes=census.inodes + 64, size=size, owner=f"{seen.st_uid}:{seen.st_gid}")
    try:
        done = process.run(words, timeout=3600)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    if done.returncode != 0:
        target.unlink(missing_ok=True)
        raise SandboxError(f"cannot copy {source}", cause=printable(done.complaint, limit=1000))
    process.run(["debugfs", "-w", "-R", "rmdir lost+found", os.fspath(target)], timeout=60)  # no part of the directory
    target.chmod(0o400)


def argv(source: Path, target: Path, *, inodes: int, size: int, owner: str) -> list[str]:
    """The mke2fs command. No journal: nothing is ever written."""
    return [
        "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-b", "4096", "-I", "256", "-N", str(inodes),
        "-m", "0", "-L", "sandbox-mount", "-E", f"lazy_itable_init=1,nodiscard,root_owner={owner}",
        "-d", arguments.path(source), arguments.path(target), f"{size >> 10}k",
    ]  # fmt: skip
