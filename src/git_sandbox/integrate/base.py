"""What a sandbox started from, as a merge needs to know it."""

from __future__ import annotations

from dataclasses import dataclass

from git_sandbox.git.names import Oid


@dataclass(frozen=True)
class BaseRecord:
    """What the sandbox started from: `commit` (None: HEAD was unborn), `snapshot` (tree of the worktree), and the
    tree of the index where known: with it, what was staged only afterwards is recognised.
    """

    commit: Oid | None
    snapshot: Oid
    index_tree: Oid | None = None
