"""A scan of everything that would be copied, before a byte is: sizes, unreadable files, repositories."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from git_sandbox import paths
from git_sandbox.errors import RepositoryError
from git_sandbox.git import gitdirs
from git_sandbox.git.gitdirs import GitDir
from git_sandbox.later import dataclass, field
from git_sandbox.text import listed, one_line
from git_sandbox.workspace import secrets
from git_sandbox.workspace.disk_usage import Census
from git_sandbox.workspace.selection import Selection, except_below, excluded, ignored

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from git_sandbox.git.repo import Repository

DROPPED_DIRECTORIES = ("worktrees", "alt")  # other checkouts of the user's; alternates are copied there anew


def _own_directories() -> tuple[Path, ...]:
    return (paths.state_root(), paths.cache_root(), paths.runtime_root())


@dataclass(frozen=True)
class CapturePolicy:
    """What comes along. `leave_out` (absolute) defaults to our own state, for those whose home is a worktree.

    `exclude`: patterns as in .gitignore of untracked and ignored files that stay behind, whatever else would bring
    them. `git_extra`: patterns of files in git directories, and of settings, that come along although git does
    not know them. `patience`: seconds to wait for a running git to let go of the repository.
    """

    ignored: Literal["all", "none"] = "all"
    skip_unreadable: bool = False
    patience: float = 10.0
    leave_out: tuple[Path, ...] = field(default_factory=_own_directories)
    exclude: tuple[str, ...] = ()
    git_extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Survey:
    """What a capture will take. Paths are relative to the worktree.

    `bytes` counts blocks of 4 KiB as ext4 will need them, hard links once and holes not at all.
    """

    bytes: int
    inodes: int
    unreadable: tuple[str, ...]
    special: tuple[str, ...]  # devices, and directories whose path is too long: not copied
    mounts: tuple[str, ...]  # other file systems inside: copied like everything else
    selection: Selection
    git_dirs: tuple[GitDir, ...]
    warnings: tuple[str, ...]
    suspects: tuple[str, ...] = ()  # files that look as if they held secrets
    worktree_bytes: int = 0  # without its git directories
    aliases: Mapping[str, str] = field(default_factory=dict)  # a `.git` of the copy to the git directory it leads to


def outline(repo: Repository, policy: CapturePolicy, checkouts: Iterable[str]) -> Survey:
    """What can be said without a walk: nothing about what is in the worktree, but for `checkouts`, where repositories
    inside were once.
    """
    survey = _Worktree(repo, policy)
    survey.look_again(checkouts)
    selection = Selection(frozenset(survey.without), frozenset(survey.within))
    repositories = tuple(survey.repositories.values())
    return Survey(0, 0, (), (), (), selection, repositories, tuple(survey.warnings), aliases=survey.aliases)


def survey(repo: Repository, policy: CapturePolicy) -> Survey:
    """Walk the worktree and its git directories once.

    Raises RepositoryError when entries cannot be read and the policy does not skip them, or when a git directory
    has such entries: without them the copy would be damaged.
    """
    outlined = _Worktree(repo, policy)
    outlined.walk()
    repositories = _git_census(outlined.repositories)
    _refuse_unreadable(outlined.census.unreadable, repositories.unreadable, policy)
    return Survey(
        bytes=outlined.census.bytes + repositories.bytes,
        inodes=outlined.census.inodes + repositories.inodes,
        unreadable=tuple(outlined.census.unreadable),
        special=(*outlined.census.devices, *outlined.census.beyond),
        mounts=tuple(outlined.census.mounts),
        selection=Selection(
            frozenset(
                [*outlined.without, *outlined.census.unreadable, *outlined.census.devices, *outlined.census.beyond]
            ),
            frozenset(outlined.within),
        ),
        git_dirs=tuple(outlined.repositories.values()),
        warnings=(*outlined.warnings, *secrets.note(outlined.suspects, tuple(outlined.repositories.values()))),
        suspects=tuple(outlined.suspects),
        worktree_bytes=outlined.census.bytes,
        aliases=outlined.aliases,
    )


class _Worktree:
    """The walk of the worktree. What is left out grows while it goes on: each repository inside has its own rules."""

    def __init__(self, repo: Repository, policy: CapturePolicy) -> None:
        self.root = repo.worktree
        self.common = repo.common_dir
        self.policy = policy
        self.census = Census()
        self.warnings: list[str] = []
        self.suspects: list[str] = []
        self.without = set(_inside(self.root, policy.leave_out))
        self.within: set[str] = set()
        self.repositories: dict[Path, GitDir] = {}
        self.aliases: dict[str, str] = {}
        self.main = gitdirs.main(repo)
        self._register(self.main)

    def walk(self) -> None:
        self.census.walk(self.root, counts=self._counts)
        for path in sorted(self.within):
            self.census.walk(self.root, path, counts=self._counts)

    def look_again(self, checkouts: Iterable[str]) -> None:
        top = os.path.realpath(self.root)
        for path in sorted(checkouts):
            reached = os.path.realpath(f"{top}/{path}") == f"{top}/{path}"  # by directories, as a walk goes
            if reached and except_below({path}, self.without):
                self._meet(path)

    def _counts(self, path: str, seen: os.stat_result) -> bool:
        if path in self.without:
            return False
        if stat.S_ISDIR(seen.st_mode):
            self._meet(path)
        elif secrets.suspicious(path):
            self.suspects.append(path)
        return True

    def _meet(self, path: str) -> None:
        """A directory: does a repository's worktree begin here?"""
        dot_git = f"{self.root}/{path}/.git"
        if not os.path.lexists(dot_git) or (pointed := gitdirs.pointed(Path(dot_git))) is None:
            return
        if pointed in self.repositories:
            self._meet_again(path, self.repositories[pointed])
        elif inner := gitdirs.linked_inside(pointed, self.main.common, path, self.root / path):
            self.repositories[pointed] = inner
            self._leave_ignored(inner)
        elif gitdirs.is_linked(pointed):
            self.warnings.append(
                f"{one_line(path)} is a linked worktree ({one_line(os.fspath(pointed))}): it is copied as plain files"
            )
        elif gitdirs.is_git_dir(pointed):
            if not any(pointed.is_relative_to(os.path.realpath(top)) for top in (self.root, self.common)):
                # Also how an unpacked archive would get at another repository of the user's.
                self.warnings.append(f"{one_line(path)} includes {one_line(os.fspath(pointed))} from outside")
            self._register(GitDir(pointed, pointed, f"{path}/.git", self.root / path, path))

    def _meet_again(self, path: str, known: GitDir) -> None:
        """A worktree of a git directory that is known: a submodule's, or one that two worktrees share."""
        if known.checkout is None:
            module = msgspec.structs.replace(known, worktree=self.root / path, checkout=path)
            self.repositories[known.private] = module
            self._leave_ignored(module)
        elif known.checkout != path:
            self.without.add(f"{path}/.git")
            self.aliases[f"{path}/.git"] = known.target
            other = one_line(known.checkout or "the whole worktree")
            self.warnings.append(f"{one_line(path)} and {other} share a repository: one .git is a link in the sandbox")

    def _register(self, git_dir: GitDir) -> None:
        self.without.add(git_dir.target)
        for private in (git_dir, *gitdirs.modules(git_dir)):
            self.repositories[private.private] = private
        self._leave_ignored(git_dir)

    def _leave_ignored(self, git_dir: GitDir) -> None:
        if git_dir.checkout is None:
            return
        try:
            self._without_ignored(git_dir, git_dir.checkout)
        except RepositoryError as error:
            if git_dir is self.main:
                raise
            why = one_line(error.cause or error.message)
            self.warnings.append(
                f"{one_line(git_dir.checkout)}: git cannot use it here, all of its files are copied ({why})"
            )

    def _without_ignored(self, git_dir: GitDir, checkout: str) -> None:
        if self.policy.ignored == "none":
            chosen = ignored(git_dir.git, checkout)
            self.without |= chosen.without
            self.within |= chosen.within
        out = excluded(git_dir.git, checkout, self.policy.exclude)
        self.without |= out
        self.within = except_below(self.within, out)


def _inside(root: Path, others: tuple[Path, ...]) -> list[str]:
    real = Path(os.path.realpath(root))
    resolved = [Path(os.path.realpath(path)) for path in others]
    return [os.fspath(path.relative_to(real)) for path in resolved if path != real and path.is_relative_to(real)]


def _git_census(repositories: dict[Path, GitDir]) -> Census:
    census = Census()
    for git_dir in repositories.values():
        left_out = {*DROPPED_DIRECTORIES, "modules"}
        for root in dict.fromkeys((git_dir.private,) if git_dir.shared else (git_dir.common, git_dir.private)):
            census.walk(root, counts=lambda path, _seen: path not in left_out)  # noqa: B023 - used at once
        for objects in () if git_dir.shared else gitdirs.alternates(git_dir.common).directories:
            census.walk(objects)
    return census


def _refuse_unreadable(files: list[str], git_files: list[str], policy: CapturePolicy) -> None:
    if git_files:
        raise RepositoryError(
            f"cannot read {listed(git_files)} in the git directory",
            hint="make it yours again, e.g. `sudo chown -R $USER .git`",
        )
    if files and not policy.skip_unreadable:
        raise RepositoryError(
            f"cannot read {listed(files)}",
            hint="make it readable, or leave it out with --skip-unreadable",
        )
