"""The repositories that a server serves: those it was started for, and those below directories in the user's
configuration. A path in a call is compared by its real path, so that a link leads nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from git_sandbox.errors import RepositoryError, UsageError
from git_sandbox.git import repo as repos
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.text import one_line


@dataclass(frozen=True)
class Served:
    """`named`: worktrees, the first one is meant where a call says nothing. `below`: directories of others."""

    named: tuple[Path, ...]
    below: tuple[Path, ...] = ()

    def choose(self, text: str | None) -> Repository:
        """The repository of a call. Raises UsageError for one that is not served."""
        if text is None:
            return repos.discover(self._first())
        place = _real(text)
        if any(place.is_relative_to(served) for served in (*self.named, *self.below)):  # git runs nowhere else
            repository = repos.discover(place)
            if self._holds(_real(str(repository.worktree))):
                return repository
        raise UsageError(
            f"the repository {one_line(text)} is not served here",
            hint="the user can name it with --repository, or a directory above it in mcp-repositories",
        )

    def _first(self) -> Path:
        if not self.named:
            raise UsageError(
                "no repository given",
                hint="the server was started outside a repository: give the path of one that it serves",
            )
        return self.named[0]

    def _holds(self, worktree: Path) -> bool:
        return worktree in self.named or any(worktree.is_relative_to(place) for place in self.below)


def served(given: Sequence[str], configured: Sequence[str]) -> Served:
    """`given`: by the command line, else the one around the working directory, where there is one.

    Raises RepositoryError for what was named and is none, UsageError where nothing would be served.
    """
    named = [repos.discover(_real(text)).worktree for text in given] if given else _around()
    below = tuple(_real(text) for text in configured)
    if not named and not below:
        raise UsageError(
            "not in a repository, and none was given", hint="`sandbox mcp --repository PATH`, or set mcp-repositories"
        )
    return Served(tuple(_real(str(place)) for place in named), below)


def _around() -> list[Path]:
    try:
        return [repos.discover(Path.cwd()).worktree]
    except RepositoryError:
        return []


def _real(text: str) -> Path:
    try:
        return Path(os.path.realpath(Path(text).expanduser()))
    except (RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"`{one_line(text, limit=60)}` cannot be a path") from error
