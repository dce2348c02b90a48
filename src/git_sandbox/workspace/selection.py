"""Which paths of a tree are copied: everything, except named paths, except named paths below those.

Paths are relative to the tree, without a slash at the end; undecodable bytes in them are surrogate escapes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox.later import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_sandbox.git.command import Git

WORKTREE_INCLUDE = ".worktreeinclude"


@dataclass(frozen=True)
class Selection:
    without: frozenset[str] = frozenset()
    within: frozenset[str] = frozenset()

    def entries(self, root: Path) -> list[str]:
        """The largest subtrees of `root` that are wanted whole, and what is wanted inside unwanted ones."""
        split = _ancestors(self.without)
        inner = [inner_path for path in sorted(self.within) for inner_path in self._whole_or_split(root, path, split)]
        return [*self._descend(root, "", split), *inner]

    def _whole_or_split(self, root: Path, path: str, split: set[str]) -> Iterator[str]:
        if path in split:
            yield from self._descend(root, path, split)
        else:
            yield path

    def _descend(self, root: Path, below: str, split: set[str]) -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # gone since the walk: no error
            for name in sorted(os.listdir(root / below)):  # noqa: PTH208 - names are wanted
                path = f"{below}/{name}" if below else name
                if path in self.without:
                    continue
                yield from self._whole_or_split(root, path, split)

    def bare_directories(self, root: Path) -> list[str]:
        """Directories of which nothing is wanted but themselves: no entry brings them along."""
        covered = _ancestors(frozenset(self.entries(root)))
        return sorted(
            path
            for path in _ancestors(self.without) - covered - self.without
            if path and not _below_any(path, self.without) and (root / path).is_dir()
        )


def _ancestors(paths: frozenset[str]) -> set[str]:
    ancestors: set[str] = set()
    for path in paths:
        above = os.path.dirname(path)  # noqa: PTH120 - hot
        while above not in ancestors:
            ancestors.add(above)
            above = os.path.dirname(above)  # noqa: PTH120
    return ancestors


def ignored(git: Git, prefix: str = "") -> Selection:
    """Leave out what git ignores in this worktree, apart from what its `.worktreeinclude` names.

    `prefix` is put before every path: where this worktree lies in an outer one.
    """
    assert git.worktree is not None  # noqa: S101 - only worktrees have ignored files
    listed = _others(git, "--exclude-standard")
    left_out = {path for path in listed if not _below_any(path, listed)}
    included: set[str] = set()
    if (git.worktree / WORKTREE_INCLUDE).is_file():
        included = _others(git, f"--exclude-from={git.worktree / WORKTREE_INCLUDE}")
    within = {path for path in included if path not in left_out and _below_any(path, left_out)}
    # A wanted directory may hold ignored entries of its own: then it comes whole, and they with it.
    without = {path for path in left_out if path not in included and not _below_any(path, included)}
    return Selection(
        frozenset(os.path.join(prefix, path) for path in without),  # noqa: PTH118
        frozenset(os.path.join(prefix, path) for path in within),  # noqa: PTH118
    )


def excluded(git: Git, prefix: str, patterns: tuple[str, ...]) -> set[str]:
    """What `patterns`, read as in .gitignore, match in this worktree, ignored or not; never what git tracks."""
    listed = _others(git, *(f"--exclude={pattern}" for pattern in patterns)) if patterns else set()
    return {os.path.join(prefix, path) for path in listed}  # noqa: PTH118


def except_below(paths: set[str], roots: set[str]) -> set[str]:
    """Those of `paths` that are not among `roots`, nor below one of them."""
    return {path for path in paths if path not in roots and not _below_any(path, roots)}


def _others(git: Git, *which: str) -> set[str]:
    output = git.run("ls-files", "-z", "--others", "--ignored", "--directory", *which)
    return {os.fsdecode(name).rstrip("/") for name in output.split(b"\0") if name}


def _below_any(path: str, roots: set[str] | frozenset[str]) -> bool:
    above = os.path.dirname(path)  # noqa: PTH120 - hot
    while above:
        if above in roots:
            return True
        above = os.path.dirname(above)  # noqa: PTH120
    return False
