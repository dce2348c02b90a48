"""Classifies the paths of a copy: the worktree, git's stores, or other files of git.

Submodules and other repositories inside bring git directories of their own, in `.git/modules` or in the worktree.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from git_sandbox.later import dataclass
from git_sandbox.workspace.git_dir_entries import STORES

if TYPE_CHECKING:
    from collections.abc import Mapping

GIT = ".git"
# Of a git directory, known by their stamps; all else by its content. `alt`: where borrowed objects are copied to.
BY_STAMPS = (*STORES, "alt")


@dataclass(frozen=True)
class Layout:
    """`git_dirs`: every git directory of a copy and its checkout, None when it has none; paths relative to the copy."""

    git_dirs: Mapping[str, str | None]

    @cached_property
    def checkouts(self) -> frozenset[str]:
        """Of repositories inside."""
        return frozenset(checkout for checkout in self.git_dirs.values() if checkout)

    @cached_property
    def brought(self) -> frozenset[str]:
        """Directories of the worktree that lead to a git directory in it."""
        directories = set()
        for target in self.git_dirs:
            above = target
            while (above := above.rpartition("/")[0]) and GIT not in above.split("/"):
                directories.add(above)
        return frozenset(directories)

    def owner(self, path: str) -> str | None:
        """The innermost git directory that `path` is, or is in."""
        if GIT not in path:  # hot
            return None
        above = path
        while above and above not in self.git_dirs:
            above = above.rpartition("/")[0]
        return above or None

    def kept_whole(self, path: str) -> bool:
        """Whether `path` is part of what git keeps beside its stores, which is copied whole each time."""
        owner = self.owner(path)
        return owner is not None and path != owner and path[len(owner) + 1 :].split("/", 1)[0] not in BY_STAMPS

    def of_worktree(self, path: str) -> bool:
        return self.owner(path) is None

    def stray(self, path: str) -> bool:
        """Whether `path`, of the worktree, is named like one of git's and is not a submodule's pointer."""
        return path.endswith(f"/{GIT}") and path.removesuffix(f"/{GIT}") not in self.checkouts
