"""A repository held by file descriptors, not by path: it may be moved or renamed during the work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from git_sandbox.errors import RepositoryError
from git_sandbox.git.gitdirs import is_git_dir
from git_sandbox.git.repo import Repository
from git_sandbox.guest.protocol import MAX_POINTER


class Anchor(msgspec.Struct):
    """Descriptors of the directories of `repo`. `elsewhere` says where it went when these are gone (a move to another
    file system is a copy): its common git directory, or None.
    """

    repo: Repository
    elsewhere: Callable[[], Path | None]
    _held: dict[str, int] = {}

    def __post_init__(self) -> None:
        for name in ("worktree", "git_dir", "common_dir"):
            with contextlib.suppress(OSError):
                self._held[name] = os.open(getattr(self.repo, name), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    def repository(self) -> Repository:
        """The repository, where it is now. Raises RepositoryError when it is gone."""
        common, git_dir, worktree = (self._now(name) for name in ("common_dir", "git_dir", "worktree"))
        if common is None or not is_git_dir(common):
            common = self.elsewhere()
            if common is None:
                raise RepositoryError(f"the repository is gone (it was at {self.repo.common_dir})")
            git_dir = None
        if git_dir is None or worktree is None:
            self.repo = reopened(common, private(self.repo.git_dir, self.repo.common_dir), self.repo.object_format)
        elif (common, git_dir, worktree) != (self.repo.common_dir, self.repo.git_dir, self.repo.worktree):
            self.repo = msgspec.structs.replace(self.repo, common_dir=common, git_dir=git_dir, worktree=worktree)
        return self.repo

    def _now(self, name: str) -> Path | None:
        held = self._held.get(name)
        if held is None:
            return None
        known: Path = getattr(self.repo, name)
        for path in (known, Path(f"/proc/self/fd/{held}").readlink()):
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), os.fstat(held)):
                    return path
        return None


def private(git_dir: Path, common_dir: Path) -> str:
    """Which worktree of a repository a git directory stands for: `worktrees/<name>`, or `.` for the main one."""
    return os.path.relpath(git_dir, common_dir) if git_dir.is_relative_to(common_dir) else "."


def reopened(common: Path, which: str, object_format: str) -> Repository:
    """A worktree (`private`) of the repository with that common git directory, by what is on the disk now.

    Where that one is gone it is a repository without a checkout: good for refs and objects.
    """
    git_dir = common / which if which != "." else common
    worktree = _checkout(common, which)
    if worktree is None or not git_dir.is_dir():
        return Repository(common, common, common, object_format, checked_out=False)
    return Repository(worktree, git_dir, common, object_format)


def _checkout(common: Path, which: str) -> Path | None:
    if which == ".":
        return common.parent if common.name == ".git" else None
    with contextlib.suppress(OSError), (common / which / "gitdir").open("rb") as file:
        pointer = common / which / os.fsdecode(file.read(MAX_POINTER).rstrip(b"\r\n"))
        worktree = Path(os.path.normpath(pointer.parent))
        return worktree if pointer.is_file() else None
    return None


def moved(path: str, old: tuple[str, str], new: Repository) -> Path | None:
    """Where `path`, noted when worktree and common git directory were `old`, is in the repository now.

    None when it was in neither, or leads out of it by links.
    """
    worktree, common = map(Path, old)
    for before, after in ((common, new.common_dir), (worktree, new.worktree)):
        if Path(path).is_relative_to(before):
            place = os.path.join(os.path.realpath(after), Path(path).relative_to(before))  # noqa: PTH118 - as text
            return Path(place) if os.path.realpath(place) == os.path.normpath(place) else None
    return None
