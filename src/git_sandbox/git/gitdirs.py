"""The git directories of a worktree: where they are on the host, and where they go in the copy.

One worktree can bring many: its own (perhaps a linked worktree's, `--separate-git-dir` or a symlink), absorbed
submodules in `modules/`, and repositories nested in the worktree, each with its own index, refs and secrets.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from git_sandbox import files
from git_sandbox.git.command import Git
from git_sandbox.guest.protocol import MAX_POINTER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_sandbox.git.repo import Repository


class GitDir(msgspec.Struct, frozen=True):
    """A repository to take along. `private` (HEAD, index) and `common` (objects, refs) differ in a linked worktree.

    `target` is where it goes and `checkout` where its worktree will be, both relative to the copy; `worktree` is
    where that is now. The latter two are None for a submodule that is not checked out. `index`: where that is when it
    is not in `private`. `shared`: a linked worktree inside another worktree of the same repository, with which it has
    everything in common but what is in `private`.
    """

    common: Path
    private: Path
    target: str
    worktree: Path | None
    checkout: str | None
    index: Path | None = None
    shared: bool = False

    @property
    def linked(self) -> bool:
        return self.private != self.common

    @property
    def git(self) -> Git:
        return Git(self.private, self.worktree)


def main(repo: Repository) -> GitDir:
    index = repo.given_index if repo.given_index and repo.given_index != repo.git_dir / "index" else None
    return GitDir(_real(repo.common_dir), _real(repo.git_dir), ".git", repo.worktree, "", index)


def modules(outer: GitDir) -> list[GitDir]:
    """Absorbed submodules of `outer` and theirs: those of its own worktree before those of the main one."""
    directories: dict[str, GitDir] = {}
    for base in dict.fromkeys((outer.private, outer.common)):
        for path in _git_dirs_below(base / "modules"):
            target = os.path.join(outer.target, os.fspath(path.relative_to(base)))  # noqa: PTH118
            directories.setdefault(target, GitDir(path, path, target, None, None))
    return [directory for module in directories.values() for directory in (module, *modules(module))]


def _git_dirs_below(directory: Path) -> Iterator[Path]:
    """A submodule named `a/b` has its git directory in `modules/a/b`, so look until one is found."""
    if not directory.is_dir():
        return
    for child in sorted(directory.iterdir()):
        if is_git_dir(child):
            yield child
        elif child.is_dir() and not child.is_symlink():
            yield from _git_dirs_below(child)


def is_git_dir(path: Path) -> bool:
    """What git itself asks of a git directory that is not a linked worktree's."""
    return os.path.lexists(path / "HEAD") and (path / "objects").is_dir() and (path / "refs").is_dir()


def pointed(gitfile: Path) -> Path | None:
    """Where a `.git` file (or symlink, or directory) leads, or None when it is no such thing."""
    if gitfile.is_dir():
        return _real(gitfile)
    try:
        with gitfile.open("rb") as file:
            text = file.read(MAX_POINTER)
    except OSError:
        return None
    if not text.startswith(b"gitdir: "):
        return None
    return _real(gitfile.parent / os.fsdecode(text.removeprefix(b"gitdir: ").rstrip(b"\r\n")))


def linked_inside(pointed: Path, common: Path, checkout: str, worktree: Path) -> GitDir | None:
    """The linked worktree of the repository `common` whose own directory is `pointed`; None for one of another."""
    if pointed.parent != common / "worktrees" or not os.path.lexists(pointed / "HEAD"):
        return None
    return GitDir(common, pointed, f".git/worktrees/{pointed.name}", worktree, checkout, shared=True)


def is_linked(git_dir: Path) -> bool:
    return (git_dir / "commondir").is_file()


class Alternates(msgspec.Struct, frozen=True):
    """Object directories outside a repository that it borrows from, directly or through another, and lost ones."""

    directories: tuple[Path, ...]
    missing: tuple[Path, ...]


def alternates(common: Path) -> Alternates:
    stores: dict[Path, None] = {}
    missing: dict[Path, None] = {}
    own = _real(common / "objects")
    todo = [own]
    while todo:
        objects = todo.pop(0)
        for path in _listed(objects):
            if path == own or path in stores:
                continue
            if not path.is_dir():
                missing[path] = None
                continue
            stores[path] = None
            todo.append(path)
    return Alternates(tuple(stores), tuple(missing))


def _listed(objects: Path) -> Iterator[Path]:
    try:
        text = files.read(objects / "info" / "alternates", files.RECORD)
    except (OSError, ValueError):  # git takes no notice of what it cannot read there
        return
    for line in text.split(b"\n"):
        if line and not line.startswith(b"#"):
            yield _real(objects / os.fsdecode(_unquoted(line)))


def reading(git: Git, *stores: Path) -> Git:
    """`git`, which also finds the objects in `stores`. For reading only: git does not write an object that it finds
    anywhere, and the repository would lack it when the store has gone.
    """
    known = git.environment().get("GIT_ALTERNATE_OBJECT_DIRECTORIES", "")
    named = [*([known] if known else []), *(quoted(store) for store in stores if store.is_dir())]
    return git.with_env(GIT_ALTERNATE_OBJECT_DIRECTORIES=":".join(named)) if named else git


def writing_to(git: Git, store: Path, common: Path) -> Git:
    """`git`, whose new objects go to `store`, a directory; the repository's are found, too."""
    store.mkdir(mode=0o700, exist_ok=True)
    return git.with_env(
        GIT_OBJECT_DIRECTORY=os.fspath(store), GIT_ALTERNATE_OBJECT_DIRECTORIES=quoted(common / "objects")
    )


def quoted(path: Path) -> str:
    """A directory of objects as `alternates` and GIT_ALTERNATE_OBJECT_DIRECTORIES take it, where a colon or a line's
    end would part two of them (git(1)).
    """
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _unquoted(line: bytes) -> bytes:
    """Git quotes a path in `alternates` like C when it must (a leading double quote says so)."""
    if not (line.startswith(b'"') and line.endswith(b'"') and len(line) > 1):
        return line
    try:
        return line[1:-1].decode("unicode_escape").encode("latin-1")
    except ValueError:  # not written by git
        return line


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
