"""Disks over the base of a repository: create, describe, copy and remove them, whichever strategy made them.

Told by files that no guest can make, never by the disk's content, which is the guest's: with a `base` beside it the
disk is qcow2, with a `lower` the guest lays it over that, a link leads to a thin volume, everything else is raw.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from git_sandbox.disk import cow, dm_snapshot, ext4, lvm_thin, reflink
from git_sandbox.disk.delta_archive import Appended
from git_sandbox.later import dataclass
from git_sandbox.sandbox_dir import SandboxDir


@dataclass(frozen=True)
class Shown:
    """The disk as a machine has to be told of it. `lower`: a second one, only read; `store`: sectors of the first."""

    path: Path
    format: str = "raw"
    block: bool = False  # a block device of the host's
    backing: Path | None = None  # what a qcow2 one is laid over
    lower: Path | None = None
    store: int = 0


def shown(directory: SandboxDir) -> Shown:
    if directory.disk.is_symlink():
        return Shown(directory.disk.resolve(), block=True)
    if directory.lower.exists():
        sectors = dm_snapshot.start(directory.lower.stat().st_size) // dm_snapshot.SECTOR
        return Shown(directory.disk, lower=directory.lower, store=sectors)
    if disk_format(directory) == "qcow2":
        return Shown(directory.disk, format="qcow2", backing=directory.base)
    return Shown(directory.disk)


def disk_format(directory: SandboxDir) -> str:
    """What a backend must be able to read."""
    return "qcow2" if directory.base.exists() else "raw"


def lay(strategy: str, image: Path, directory: SandboxDir, tail: Appended | None, pool: str = "") -> None:
    """Make the disk: it shows `image`, with `tail` behind its end. `image` is only read, and may go afterwards.

    What an attempt before left is removed. Raises FileNotFoundError when the image has gone, HostResourceError when
    the host's disk or the pool is full; then there is no disk.
    """
    discard(directory)
    try:
        if strategy == cow.THIN:
            lvm_thin.lay(pool, image, directory.disk, tail)
        else:
            _LAYING[strategy](image, directory, tail)
    except BaseException:
        discard(directory)
        raise


def _qcow2(image: Path, directory: SandboxDir, tail: Appended | None) -> None:
    os.link(image, directory.base)
    ext4.over(directory.base, directory.disk, tail)


def _reflink(image: Path, directory: SandboxDir, tail: Appended | None) -> None:
    reflink.clone(image, directory.disk)
    ext4.append(directory.disk, tail)


def _overlay(image: Path, directory: SandboxDir, tail: Appended | None) -> None:
    os.link(image, directory.lower)
    ext4.empty(directory.disk, dm_snapshot.start(image.stat().st_size))
    ext4.append(directory.disk, tail)


def _copy(image: Path, directory: SandboxDir, tail: Appended | None) -> None:
    image.stat()
    ext4.beside(image, directory.disk, tail)


_LAYING: dict[str, Callable[[Path, SandboxDir, Appended | None], None]] = {
    cow.QCOW2: _qcow2, cow.REFLINK: _reflink, cow.OVERLAY: _overlay, cow.COPY: _copy,
}  # fmt: skip


def ready(directory: SandboxDir) -> None:
    """Before a machine gets a disk that is there already. Raises StateError when its volume is gone."""
    if directory.disk.is_symlink():
        lvm_thin.activate(directory.disk)
    elif directory.lower.exists():
        dm_snapshot.revive(directory.disk)


def clone(source: SandboxDir, target: SandboxDir) -> None:
    """A private copy of a sandbox's disk. Both show the same base, if there is one."""
    if source.disk.is_symlink():
        lvm_thin.clone(source.disk, target.disk)
        return
    for theirs, ours in ((source.base, target.base), (source.lower, target.lower)):
        if theirs.exists():
            try:
                os.link(theirs, ours)
            except OSError:  # another file system
                ext4.copy(theirs, ours)
    ext4.copy(source.disk, target.disk)


def discard(directory: SandboxDir) -> None:
    """Remove the disk, and what it was laid over. Raises HostResourceError when a volume cannot be removed."""
    if directory.disk.is_symlink():
        lvm_thin.discard(directory.disk)
    for path in (directory.disk, directory.base, directory.lower):
        path.unlink(missing_ok=True)
