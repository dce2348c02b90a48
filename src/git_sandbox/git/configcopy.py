"""The configuration files of a copied git directory, rewritten in place (see `configfilter` for what and why)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox.errors import RepositoryError
from git_sandbox.git import configtext
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.configfilter import Place, filtered, without_userinfo
from git_sandbox.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_sandbox.git.configtext import Pair
    from git_sandbox.git.gitdirs import GitDir

Roots = tuple[tuple[Path, Path], ...]
_FILES = ("config", "config.worktree")
_LEGACY = ("remotes", "branches")  # one file of URLs per remote; read by git to this day


def adapt(git_dir: GitDir, target: Path, roots: Roots) -> tuple[list[str], list[str]]:
    """Filter every configuration file in the copy of `git_dir`; returns the names of settings left out or changed, and
    what is wrong with files that git cannot read: nobody can say what secrets those hold, and they stay here. Raises
    RepositoryError for those of the repository itself.
    """
    copy = target / git_dir.target
    dropped: list[str] = []
    unread: list[str] = []
    done: set[Path] = set()
    todo = [copy / name for name in _FILES]
    while todo:
        file = todo.pop()
        if file in done or not _ours(file, copy):
            continue
        done.add(file)
        try:
            names, included = _rewrite(file, copy, git_dir, roots)
        except (RepositoryError, ValueError) as error:
            if git_dir.target == ".git":  # then git cannot use it here, either
                raise
            file.unlink()
            where = one_line(os.path.relpath(file, target))
            unread.append(f"{where} stays here, because git cannot read it ({one_line(_why(error))})")
            continue
        dropped += names
        todo += included
    _place_worktree(git_dir, target)
    for directory in _LEGACY:
        _clean_legacy(copy / directory)
    return dropped, unread


def _why(error: Exception) -> str:
    return (error.cause if isinstance(error, RepositoryError) else "") or str(error)


def _rewrite(file: Path, copy: Path, git_dir: GitDir, roots: Roots) -> tuple[tuple[str, ...], list[Path]]:
    """What was dropped from one file, and which other files of this git directory it includes."""
    pairs = read(file, copy)
    place = Place(git_dir.common / file.relative_to(copy), git_dir.worktree or git_dir.common, roots)
    result = filtered(pairs, place, bare=git_dir.worktree is None)
    _replace(file, result.pairs)
    return result.dropped, list(_included(result.pairs, file, copy))


def _included(pairs: tuple[Pair, ...], file: Path, copy: Path) -> Iterator[Path]:
    for key, value in pairs:
        if value and key.lower().startswith(("include.", "includeif.")):
            path = Path(os.path.normpath(file.parent / value))
            if path.is_relative_to(copy):
                yield path


def read(file: Path, git_dir: Path) -> list[Pair]:
    """The settings in one file, includes as they stand. RepositoryError when git cannot read it."""
    git = Git(git_dir, git_dir, tuple(HERMETIC.items()))
    return configtext.parse(git.run("config", "--file", os.fspath(file), "--no-includes", "--list", "-z"))


def _replace(file: Path, pairs: tuple[Pair, ...] | list[Pair]) -> None:
    mode = file.stat().st_mode & 0o777
    file.unlink()
    file.write_bytes(configtext.render(pairs).encode("utf-8", "surrogateescape"))
    file.chmod(mode)


def _place_worktree(git_dir: GitDir, target: Path) -> None:
    """A submodule's git directory names its worktree; every other worktree is simply the directory above."""
    if git_dir.checkout is None or git_dir.shared or git_dir.target == os.path.join(git_dir.checkout, ".git"):  # noqa: PTH118
        return
    copy = target / git_dir.target
    worktree = os.path.relpath(target / git_dir.checkout, copy)
    config = copy / "config"
    if not config.exists():
        config.touch()
    _replace(config, [*read(config, copy), ("core.worktree", worktree)])


def _ours(file: Path, copy: Path) -> bool:
    """A file of the copy, not one of the host's that a link in the copy leads to: it will be written to."""
    return file.is_file() and Path(os.path.realpath(file)).is_relative_to(os.path.realpath(copy))


def _clean_legacy(directory: Path) -> None:
    for file in directory.rglob("*") if directory.is_dir() and not directory.is_symlink() else ():
        if _ours(file, directory):
            text = file.read_bytes().decode("utf-8", "surrogateescape")
            file.write_bytes(without_userinfo(text).encode("utf-8", "surrogateescape"))
