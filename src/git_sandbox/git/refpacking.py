"""Packs refs when there are thousands: each loose ref is a file, and git reads all files of a directory to find one.

Whoever imports one of many asks here. Git itself packs refs in `git gc` only, which waits for many objects.
"""

from __future__ import annotations

import os

from git_sandbox.git.names import SandboxRefs
from git_sandbox.git.repo import Repository

MANY = 500  # files in one of our directories of refs


def pack(repo: Repository) -> bool:
    """Have git pack refs when ours are more than MANY files; whether it did. Where it cannot, they stay files."""
    if not any(_count(repo, root) > MANY for root in SandboxRefs.ROOTS):
        return False
    return repo.git.try_run("pack-refs", "--all", "--prune").returncode == 0


def _count(repo: Repository, root: str) -> int:
    try:
        return len(os.listdir(repo.common_dir / root))  # noqa: PTH208 - only how many
    except OSError:  # none, or refs are in a table
        return 0
