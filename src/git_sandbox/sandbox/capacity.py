"""Whether this host has room for a number of machines at once: decided before the first one starts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from git_sandbox import paths, store
from git_sandbox.errors import HostResourceError
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import fork
from git_sandbox.sandbox.provision import RESERVE, available_memory
from git_sandbox.workspace.disk_usage import Census

OVERHEAD = 64  # MiB a virtual machine monitor takes beside its guest's memory
COPIES = 2  # of the repository while a disk is made: the staged one, and the disk
SUPERVISORS, EACH = 200, 64  # of tries on other machines, at most; MiB of one with its ssh, and four descriptors here
SLACK = 1 << 30  # bytes of disk left for what the guests write


def processors(count: int) -> int:
    """Processors for each of `count` machines when the user has not said: a fair share, at least one, at most four."""
    return max(1, min(4, len(os.sched_getaffinity(0)) // count))


def require(repo: Repository, count: int, memory: int, origin: str | None = None) -> None:
    """Raises HostResourceError when `count` machines with `memory` MiB each, or their disks, do not fit.

    `origin`: the sandbox they are copies of; StateError when it cannot be copied.
    """
    size = _size(repo) * COPIES if origin is None else _disk(repo, origin)
    require_memory(count, memory, available_memory())
    require_disk(count, size, shutil.disk_usage(_root()).free, _root())


def _root() -> Path:
    return next(place for place in (paths.state_root(), *paths.state_root().parents) if place.exists())


def at_once(repo: Repository, count: int, memory: int) -> int:
    """How many of `count` machines fit at a time. Raises HostResourceError where not one does."""
    require(repo, 1, memory)
    room = available_memory() - RESERVE
    free = shutil.disk_usage(_root()).free - SLACK
    fit = min(room // (memory + OVERHEAD), free // max(1, _size(repo) * COPIES), len(os.sched_getaffinity(0)))
    return max(1, min(count, fit))


def supervisors() -> int:
    """How many tries that other machines run this host can look after at a time, whatever those machines say of
    themselves.
    """
    return max(1, min(SUPERVISORS, (available_memory() - RESERVE) // EACH))


def require_memory(count: int, memory: int, available: int) -> None:
    """All in MiB."""
    fit = max(0, available - RESERVE) // (memory + OVERHEAD)
    if fit >= count:
        return
    smaller = (max(0, available - RESERVE) // count - OVERHEAD) // 128 * 128
    ways = [f"`--count {fit}`"] if fit > 1 else []
    ways += [f"`--memory {smaller}M`"] if smaller >= 256 else []  # noqa: PLR2004 - MiB; less is no use to anybody
    raise HostResourceError(
        f"{count} machines need {count * memory} MiB of memory, {available} MiB are available on this host",
        cause="nothing was started",
        hint=f"try {' or '.join(ways)}" if ways else "stop other sandboxes, or run them one after the other",
    )


def require_disk(count: int, size: int, free: int, root: Path) -> None:
    """`size`, of what one needs, and `free` in bytes."""
    fit = max(0, free - SLACK) // max(1, size)
    if fit < count:
        raise HostResourceError(
            f"{count} copies of this repository need {count * size >> 20} MiB, {free >> 20} MiB are free below {root}",
            cause="nothing was started",
            hint=f"try `--count {fit}`, or free some space" if fit > 1 else "free some space",
        )


def _disk(repo: Repository, origin: str) -> int:
    fork.image(repo, origin)
    return store.find(repo, origin).disk_bytes


def _size(repo: Repository) -> int:
    counted = Census()
    counted.walk(repo.worktree)
    if not repo.common_dir.is_relative_to(repo.worktree):
        counted.walk(repo.common_dir)
    return counted.bytes
