"""Files of a copied git directory in which git notes URLs: written without their secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from git_sandbox import process
from git_sandbox.errors import RepositoryError
from git_sandbox.git import urls
from git_sandbox.text import printable

SMALL, FEW = 256 << 10, 100  # bytes and files that are searched here
_NOTED = ("logs", "FETCH_HEAD", "MERGE_MSG", "SQUASH_MSG", "gc.log")


def clean(*git_dirs: Path) -> None:
    """Rewrite what holds a secret, in copies that nothing else has in common. Times and modes stay.

    Not in packed-refs: git refuses it when there is any comment but its own.
    """
    places = [place for git_dir in git_dirs for name in _NOTED if os.path.lexists(place := git_dir / name)]
    for path in _with_urls([place for place in places if not place.is_symlink()]):
        _rewrite(path, urls.cleaned(text := _read(path)), text)


def _with_urls(places: list[Path]) -> list[Path]:
    """Files below `places` that have a URL in them: there can be a reflog for each of ten thousand refs."""
    if not places:
        return []
    if (few := _small(places)) is not None:
        return [path for path in few if b"://" in path.read_bytes()]
    done = process.run(["grep", "-rlZF", "-e", "://", "--", *map(os.fspath, places)])
    if done.returncode > 1:
        raise RepositoryError("cannot look for URLs in the copy", cause=printable(done.complaint, limit=500))
    paths = [Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name]
    return [path for path in paths if not path.is_symlink()]


def _small(places: list[Path]) -> list[Path] | None:
    """All files below `places`, where reading them takes less than starting a program; else None."""
    paths: list[Path] = []
    todo, left = list(places), SMALL
    while todo:
        place = todo.pop()
        seen = place.lstat()
        if stat.S_ISDIR(seen.st_mode):
            todo += place.iterdir()
        elif stat.S_ISREG(seen.st_mode):
            paths.append(place)
        left -= seen.st_size
        if left < 0 or len(paths) + len(todo) > FEW:
            return None
    return paths


def _read(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "surrogateescape")


def _rewrite(path: Path, text: str, before: str) -> None:
    if text == before:
        return
    seen = path.stat()
    fresh = path.with_name(f"{path.name}.lock")
    fresh.write_bytes(text.encode("utf-8", "surrogateescape"))
    fresh.chmod(seen.st_mode & 0o777)
    if os.geteuid() == 0:
        os.chown(fresh, seen.st_uid, seen.st_gid)
    os.utime(fresh, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    fresh.replace(path)
