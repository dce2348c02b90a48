"""Rewrites the configuration files of a copied git directory in place (see `configfilter` for what and why)."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox.errors import RepositoryError
from git_sandbox.git import configtext, urls
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.later import dataclass, field
from git_sandbox.text import one_line
from git_sandbox.workspace.configfilter import FROM_FILE, FROM_WORKTREE, Filtered, Place, filtered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_sandbox.git.configtext import Pair
    from git_sandbox.git.gitdirs import GitDir

Roots = tuple[tuple[Path, Path], ...]
_FILES = ("config", "config.worktree")
_MAX_INCLUDED = 64  # files; git itself stops at ten levels
_NAMES = re.compile(rb"(?i)(?:path|file|template|storage)\s*=")
_LEGACY = ("remotes", "branches")  # one file of URLs per remote; read by git to this day


@dataclass
class Adapted:
    """What became of settings, by their names, never values: `dropped` were left out or changed, `unknown` are those of
    them that git does not know. `unread`: what is wrong with files that git cannot read.
    """

    dropped: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


def named(git_dir: GitDir) -> frozenset[str]:
    """Paths in a git directory on the host that its own configuration names: included files, hooks, a template.

    Relative to the directory that has them. What git cannot read names nothing.
    """
    names: set[str] = set()
    done: set[Path] = set()
    todo = [git_dir.common / "config", git_dir.private / "config.worktree"]
    while todo and len(done) < _MAX_INCLUDED:
        file = todo.pop()
        if file in done or not file.is_file():
            continue
        done.add(file)
        for path, is_config in _paths(file, git_dir):
            for root in {git_dir.common, git_dir.private}:
                if path.is_relative_to(root) and path != root:
                    names.add(os.fspath(path.relative_to(root)))
                    todo += [path] if is_config else []
    return frozenset(names)


def _paths(file: Path, git_dir: GitDir) -> Iterator[tuple[Path, bool]]:
    """The paths that one file names, and whether each is configuration, too."""
    with contextlib.suppress(OSError, RepositoryError, ValueError):
        if not _NAMES.search(file.read_bytes()):  # most name none, and git need not be asked
            return
        base = Path(os.path.realpath(git_dir.worktree or git_dir.common))
        for key, value in read(file, git_dir.private):
            section, _, name = configtext.split_key(key)
            short = f"{section}.{name}".lower()
            from_file = short in FROM_FILE
            if value and (from_file or short in FROM_WORKTREE):
                start = file.parent if from_file else base
                path = os.path.normpath(start / os.path.expanduser(value))  # noqa: PTH111 - a value, `~` as git reads it
                yield Path(path), short.startswith("include")


def adapt(git_dir: GitDir, target: Path, roots: Roots, extra: tuple[str, ...] = ()) -> Adapted:
    """Filter every configuration file in the copy of `git_dir`. A file that git cannot read stays here: nobody can say
    what secrets it holds. Raises RepositoryError for those of the repository itself. `extra`: see `filtered`.
    """
    copy = target / git_dir.target
    adapted = Adapted()
    done: set[Path] = set()
    todo = [copy / name for name in _FILES]
    while todo:
        file = todo.pop()
        if file in done or not _ours(file, copy):
            continue
        done.add(file)
        try:
            result, included = _rewrite(file, copy, git_dir, roots, extra)
        except (RepositoryError, ValueError) as error:
            if git_dir.target == ".git":  # then git cannot use it here, either
                raise
            file.unlink()
            where = one_line(os.path.relpath(file, target))
            adapted.unread.append(f"{where} is not copied, because git cannot read it ({one_line(_why(error))})")
            continue
        adapted.dropped += result.dropped
        adapted.unknown += result.unknown
        todo += included
    _place_worktree(git_dir, target)
    for directory in _LEGACY:
        _clean_legacy(copy / directory)
    return adapted


def _why(error: Exception) -> str:
    return (error.cause if isinstance(error, RepositoryError) else "") or str(error)


def _rewrite(
    file: Path, copy: Path, git_dir: GitDir, roots: Roots, extra: tuple[str, ...]
) -> tuple[Filtered, list[Path]]:
    """What was dropped from one file, and which other files of this git directory it includes."""
    pairs = read(file, copy)
    place = Place(git_dir.common / file.relative_to(copy), git_dir.worktree or git_dir.common, roots)
    result = filtered(pairs, place, bare=git_dir.worktree is None, extra=extra)
    _replace(file, result.pairs)
    return result, list(_included(result.pairs, file, copy))


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
            file.write_bytes(urls.cleaned(text).encode("utf-8", "surrogateescape"))
