"""Repositories inside the worktree: submodules, absorbed or not, and other clones.

The superproject's commits only name theirs, so each is exported by a request of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from git_sandbox.guest.history import NO_WORK, detached, read_refs
from git_sandbox.guest.protocol import MAX_NESTED, MAX_POINTER
from git_sandbox.guest.repository import ExportError, Repo
from git_sandbox.guest.stage import UNNAMED

MAX_DEPTH = 64  # directories in directories


def find(repo: Repo) -> list[dict[str, Any]]:
    """Git directory, checkout (both relative to the worktree) and state of every repository inside that of `repo`."""
    if repo.worktree is None:
        return []
    top = Path(os.path.realpath(repo.worktree))
    repositories: dict[str, str | None] = {}
    for checkout in checkouts(repo, top):
        try:
            target = pointed(top / checkout / ".git")
            where = inside(top, target) if target else None
            if target and where is None:
                repo.warn(f"the repository of {checkout} is not in the worktree: not exported")
            elif where and is_git_dir(top / where):
                repositories.setdefault(where, checkout)
            elif not where or not os.path.lexists(top / where / "commondir"):  # a linked worktree has one
                # Of whatever else has this name git takes nothing.
                repo.left_out[f"{checkout}/.git"] = UNNAMED
        except OSError as error:
            repo.warn(f"the repository of {checkout} cannot be read: not exported ({error.strerror})")
    for outer in (".git", *repositories):
        try:
            repositories |= {os.fspath(path.relative_to(top)): None for path in modules(top / outer)} | repositories
        except OSError as error:
            repo.warn(f"{error.filename} cannot be read: submodules in it are not exported ({error.strerror})")
    if len(repositories) > MAX_NESTED:
        repo.set_aside["repositories inside"] = f"{MAX_NESTED} of {len(repositories)} are examined"
    return [
        {"git_dir": where, "path": repositories[where], "state": state(top, where, repositories[where])}
        for where in sorted(repositories)[:MAX_NESTED]
    ]


def checkouts(repo: Repo | None, top: Path) -> Iterator[str]:
    """Directories below `top` in which another worktree begins, also ignored ones. `repo` hears of what is no file."""
    todo = [""]
    while todo:
        place = todo.pop()
        try:
            entries = list(os.scandir(top / place))
        except OSError:
            continue
        if repo is not None:
            name_special(repo, place, entries)
        if place and any(entry.name == ".git" for entry in entries):
            yield place
        if place.count("/") < MAX_DEPTH:
            below = [entry for entry in entries if entry.name != ".git" and entry.is_dir(follow_symlinks=False)]
            todo += [f"{place}/{entry.name}" if place else entry.name for entry in below]


def name_special(repo: Repo, place: str, entries: list[os.DirEntry[str]]) -> None:
    """Pipes, sockets and devices hold nothing that could come home; that they are here is said where they are new."""
    for entry in entries:
        if entry.is_symlink() or entry.is_file() or entry.is_dir():
            continue
        path = f"{place}/{entry.name}" if place else entry.name
        if repo.touched is None or path in repo.touched:
            repo.warn(f"{path} is a pipe, a socket or a device: it is not exported")


def pointed(dot_git: Path) -> Path | None:
    """Where a `.git` file (or symlink, or directory) leads; None for what is neither."""
    if dot_git.is_dir():
        return dot_git
    if not dot_git.is_file():  # a FIFO would hold us for ever
        return None
    with dot_git.open("rb") as file:
        content = file.read(MAX_POINTER)
    if not content.startswith(b"gitdir: ") or b"\0" in content:
        return None
    return dot_git.parent / os.fsdecode(content.removeprefix(b"gitdir: ").rstrip(b"\r\n"))


def inside(top: Path, path: Path) -> str | None:
    """`path` relative to `top`, whichever of the worktree's mount points it goes through; None when it is outside."""
    if not path.is_dir():
        return None
    real = Path(os.path.realpath(path))
    parent = next((parent for parent in real.parents if parent.samefile(top)), None)
    return os.fspath(real.relative_to(parent)) if parent else None


def is_git_dir(path: Path) -> bool:
    """A repository's own directory, not a linked worktree's."""
    return os.path.lexists(path / "HEAD") and (path / "objects").is_dir() and (path / "refs").is_dir()


def modules(git_dir: Path, depth: int = 0) -> Iterator[Path]:
    """Absorbed submodules, and theirs. A submodule named `a/b` has its directory in `modules/a/b`."""
    yield from modules_below(git_dir / "modules", depth)


def modules_below(directory: Path, depth: int) -> Iterator[Path]:
    if depth > MAX_DEPTH or not real_directory(directory):
        return
    for path in sorted(directory.iterdir()):
        if real_directory(path) and is_git_dir(path):
            yield path
            yield from modules(path, depth + 1)
        else:
            yield from modules_below(path, depth + 1)


def real_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def state(top: Path, where: str, checkout: str | None) -> str | None:
    """A digest of everything committed, by which the host knows that nothing is new; None: ask for it.

    The host computes the same of what went in (`sandbox/nested.py`). Files count as well: with uncommitted work, or
    where work could hide from `git status`, there is none; nor with a worktree of its own that is on no branch.
    """
    try:
        repo = open_repo(top, where, checkout)
        if repo.worktree is not None and (
            repo.git("status", "--porcelain", "-z", "--untracked-files=all")
            or any(row and not row.startswith(b"H ") for row in repo.git("ls-files", "-v", "-z").split(b"\0"))
        ):
            return None
        if detached(repo):
            return None
        refs = read_refs(repo)
    except (ExportError, OSError):
        return None
    counted = (f"{oid} {name}\n" for oid, name in refs.rows if name == "refs/stash" or not NO_WORK.match(name))
    text = "".join((f"{refs.symref or ''}\n", f"{refs.head or ''}\n", *counted))
    import hashlib  # late: it brings OpenSSL along

    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def open_repo(top: Path, where: str, checkout: str | None) -> Repo:
    """The repository that `places` names."""
    return Repo(*places(os.fspath(top), where, checkout), refs=True)


def places(outer: str, where: str, checkout: str | None) -> tuple[str, str]:
    """Worktree and git directory of the repository a request names. Raises ExportError when it is not inside `outer`,
    or not one.
    """
    top = Path(outer)
    for place in (where, checkout or where):
        if Path(place).is_absolute() or ".." in Path(place).parts or "\0" in place or inside(top, top / place) != place:
            raise ExportError(f"{place} is not a directory of the worktree")
    if not is_git_dir(top / where):
        raise ExportError(f"{where} is not a repository")
    return os.fspath(top / (checkout or where)), os.fspath(top / where)
