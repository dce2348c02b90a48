"""The user's checkout as it is now, path by path, and any git operation in progress there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from pathlib import Path

from git_sandbox.errors import IntegrateError
from git_sandbox.git.command import Git
from git_sandbox.git.names import oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.trees import GITLINK, SYMLINK, Entry, text
from git_sandbox.later import dataclass

# Files and directories in the git directory that exist exactly while the operation waits for the user.
# A bisect is no obstacle: it moves HEAD, but nothing is half done.
_OPERATIONS = (
    ("MERGE_HEAD", "merge"), ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert"),
    ("rebase-merge", "rebase"), ("rebase-apply", "rebase or am"), ("sequencer", "cherry-pick or revert"),
)  # fmt: skip


def operation(repo: Repository) -> str | None:
    """The name of the git operation in progress in this worktree, or None."""
    return next((name for marker, name in _OPERATIONS if os.path.lexists(repo.git_dir / marker)), None)


def busy(repo: Repository) -> str | None:
    """What makes a merge impossible right now, or None."""
    running = operation(repo)
    if running:
        return f"a {running} is in progress"
    return "the index has unmerged paths" if repo.git.run("ls-files", "-u", "-z") else None


def refuse_if_busy(repo: Repository) -> None:
    """Raises IntegrateError during a merge, rebase and the like, and while paths are unmerged."""
    refuse(busy(repo))


def refuse(reason: str | None) -> None:
    if reason:
        raise IntegrateError(reason, hint="finish or abort it (`git status` says how), then retry")


@dataclass(frozen=True)
class Obstacle:
    """Something on disk that git would delete or write through, and that no tree knows."""

    reason: str


@dataclass(frozen=True)
class Checkout:
    """Reads the worktree with lstat, never through a symbolic link, so that ignored files count too."""

    git: Git
    root: Path
    file_mode: bool  # core.fileMode: whether the executable bit on disk means anything

    @classmethod
    def of(cls, git: Git) -> Checkout:
        mode = git.try_run("config", "--type=bool", "core.fileMode").text.strip()
        return cls(git, git.worktree or git.git_dir, mode != "false")

    def at(self, path: bytes) -> Path:
        return self.root / os.fsdecode(path)

    def exists(self, path: bytes) -> bool:
        return self._ancestor(path, set()) is None and os.path.lexists(self.at(path))

    def populated(self, path: bytes) -> bool:
        """Whether a repository (submodule or embedded) is checked out at `path`."""
        return os.path.lexists(self.at(path) / ".git")

    def current(
        self,
        path: bytes,
        *,
        captured: Entry | None,
        expected: Entry | None,
        touched: Collection[bytes],
        candidates: Collection[Entry | None],
    ) -> Entry | Obstacle | None:
        """What is at `path`: an entry, nothing, or something that must not be overwritten.

        `captured` is what the snapshot of the worktree has there, `expected` what shall come there, `touched` all paths
        of the whole move; `candidates` are the entries the caller could accept.
        """
        if captured is None:
            return self._unknown(path, expected, touched, candidates)
        if captured.mode == GITLINK and expected and expected.mode != GITLINK and self.populated(path):
            return Obstacle("a repository is checked out here")
        return captured

    def _unknown(
        self, path: bytes, expected: Entry | None, touched: Collection[bytes], candidates: Collection[Entry | None]
    ) -> Entry | Obstacle | None:
        """A path that the snapshot does not have: it is absent, ignored, or an obstacle."""
        obstacle = self._ancestor(path, touched)
        if obstacle is not None:
            return obstacle if expected and obstacle.reason else None
        try:
            seen = self.at(path).lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return Obstacle(error.strerror or str(error))
        if stat.S_ISDIR(seen.st_mode):
            return self._directory(path, expected, touched)
        return self._file(path, seen, candidates)

    def _ancestor(self, path: bytes, touched: Collection[bytes]) -> Obstacle | None:
        """The first ancestor of `path` that is no plain directory; without a reason when it is itself touched.

        What is touched has its own decision; `path` is then simply absent.
        """
        parts = path.split(b"/")
        for depth in range(1, len(parts)):
            above = b"/".join(parts[:depth])
            try:
                seen = self.at(above).lstat()
            except OSError:
                return None
            if not stat.S_ISDIR(seen.st_mode):
                return Obstacle("" if above in touched else f"`{text(above)}` is not a directory here")
            if self.populated(above):
                return Obstacle(f"`{text(above)}` is a repository of its own here")
        return None

    def _directory(self, path: bytes, expected: Entry | None, touched: Collection[bytes]) -> Obstacle | None:
        if expected is None or expected.mode == GITLINK:
            return None
        stranger = self._first_below(path, lambda inner: inner not in touched)
        return Obstacle(f"a directory with `{text(stranger)}` is in the way") if stranger else None

    def _first_below(self, path: bytes, test: Callable[[bytes], bool]) -> bytes | None:
        for place, folders, files in os.walk(self.at(path)):
            links = [name for name in folders if Path(place, name).is_symlink()]
            for name in (*files, *links):
                inner = os.fsencode(Path(place, name).relative_to(self.root))
                if test(inner):
                    return inner
        return None

    def _file(self, path: bytes, seen: os.stat_result, candidates: Collection[Entry | None]) -> Entry | Obstacle:
        if stat.S_ISLNK(seen.st_mode):
            target = os.fsencode(self.at(path).readlink())
            return Entry(SYMLINK, oid(self.git.line("hash-object", "--stdin", "--no-filters", input=target)))
        if not stat.S_ISREG(seen.st_mode):
            return Obstacle("a special file is in the way")
        if not os.access(self.at(path), os.R_OK):
            return Obstacle("an unreadable file is in the way")
        mode = "100755" if seen.st_mode & stat.S_IXUSR else "100644"
        there = Entry(mode, oid(self.git.line("hash-object", "--", os.fsdecode(path))))
        if not self.file_mode:
            same = [entry for entry in candidates if entry and entry.oid == there.oid and entry.mode != SYMLINK]
            return same[0] if same else there
        return there
