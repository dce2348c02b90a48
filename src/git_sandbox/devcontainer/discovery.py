"""Finds a repository's devcontainer.json, in the order of the specification; links are not followed."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from git_sandbox import files
from git_sandbox.errors import UsageError
from git_sandbox.text import listed, one_line

NAME = "devcontainer.json"
FOLDER = ".devcontainer"
PLACES = (f"{FOLDER}/{NAME}", f".{NAME}")
MAX_FOLDERS = 50  # of .devcontainer that are looked into


def places(worktree: Path) -> list[str]:
    """Those that are there, relative to the worktree; the first of PLACES alone, else all of `.devcontainer/*/`."""
    regular = [place for place in PLACES if _regular(worktree, place)]
    if regular:
        return regular[:1]
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = sorted(entry.name for entry in os.scandir(worktree / FOLDER) if entry.is_dir(follow_symlinks=False))
    inner = [f"{FOLDER}/{folder}/{NAME}" for folder in names[:MAX_FOLDERS]]
    return [path for path in inner if _regular(worktree, path)]


def named(worktree: Path, given: str) -> str:
    """The file that a user names: relative to the worktree, or absolute and in it. Raises UsageError."""
    top = Path(os.path.realpath(worktree))
    with contextlib.suppress(RuntimeError, ValueError):  # `~name` of nobody
        given = str(Path(given).expanduser())
    real = Path(os.path.realpath(worktree / given.replace("\0", "")))
    if real.is_dir():
        real = real / NAME
    if not real.is_relative_to(top) or not _regular(top, str(real.relative_to(top))):
        raise UsageError(
            f"there is no devcontainer file {one_line(given)} in this repository",
            hint=f"it has {listed(places(worktree)) or 'none'}",
        )
    return str(real.relative_to(top))


def content(worktree: Path, place: str) -> bytes:
    """Raises UsageError."""
    try:
        return files.read(worktree / place, follow=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {one_line(place)}", cause=files.why(error)) from error


def _regular(worktree: Path, place: str) -> bool:
    """Whether it is a file, with no link on the way below the worktree."""
    path = worktree
    for part in Path(place).parts:
        path = path / part
        try:
            kind = path.lstat().st_mode
        except OSError:
            return False
        if stat.S_ISLNK(kind):
            return False
    return stat.S_ISREG(kind)
