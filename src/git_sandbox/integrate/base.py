"""The base of a sandbox, as a merge needs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from git_sandbox.git import gitdirs
from git_sandbox.git.command import Git
from git_sandbox.git.large import Stamp
from git_sandbox.git.names import Oid
from git_sandbox.later import dataclass, field


@dataclass(frozen=True)
class BaseRecord:
    """What the sandbox started from: `commit` (None: HEAD was unborn), `snapshot` (tree of the worktree), and the
    tree of the index where known: with it, what was staged only afterwards is recognised. `objects`: the store with
    what the repository has not got of both trees. `apart`: stamps of large files that were there and are in neither.
    """

    commit: Oid | None
    snapshot: Oid
    index_tree: Oid | None = None
    objects: Path | None = None
    apart: Mapping[str, Stamp] = field(default_factory=dict)

    def seen_by(self, git: Git) -> Git:
        """`git`, which also finds both trees. For reading only."""
        return gitdirs.reading(git, self.objects) if self.objects else git
