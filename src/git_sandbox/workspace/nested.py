"""Repositories inside the worktree on the way in: the recorded state of each, for comparison at the end."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from git_sandbox.errors import RepositoryError
from git_sandbox.git import gitdirs, large, snapshot
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.gitdirs import GitDir
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import refs
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.guest import protocol, stage
from git_sandbox.guest.stage import Choose
from git_sandbox.later import dataclass, field, regex
from git_sandbox.store import NestedRecord
from git_sandbox.text import one_line
from git_sandbox.workspace.incremental import SourceChanged

NO_WORK = regex(b"[0-9a-f]+ " + protocol.NO_WORK.encode())  # in a state, where the stash counts


def record(copy: Path, git_dirs: Iterable[GitDir], *, whole: bool = True) -> tuple[NestedRecord, ...]:
    """What goes into the sandbox, read from the copy at `copy` before it becomes a disk. When that is not `whole`, the
    files are the live worktree's, which must be proved not to have changed.
    """
    inner = (git_dir for git_dir in git_dirs if git_dir.target != ".git" and not git_dir.shared)
    return tuple(_recorded_or_broken(copy, git_dir, whole=whole) for git_dir in inner)


def apart(records: Iterable[NestedRecord]) -> tuple[str, ...]:
    """Large files that are in no tree of a repository inside, by their paths in the outer worktree."""
    return tuple(f"{inner.path}/{path}" for inner in records for path in inner.apart)


def broken(records: Iterable[NestedRecord]) -> tuple[str, ...]:
    """One line for each repository inside that git cannot use, safe to show."""
    return tuple(
        f"git cannot use the repository {one_line(inner.path or inner.git_dir)}: its files went in as they are"
        f" ({inner.broken})"
        for inner in records
        if inner.broken
    )


@dataclass(frozen=True)
class Worktrees:
    """Linked worktrees that went in, by name: of each HEAD, and the trees of its files and of its index. `apart`: large
    files that are in none of them, by their paths in the outer worktree.
    """

    states: dict[str, tuple[str | None, str | None, str | None]] = field(default_factory=dict)
    apart: tuple[str, ...] = ()


def worktrees(copy: Path, git_dirs: Iterable[GitDir], *, whole: bool = True) -> Worktrees:
    """They are the user's own repository, and read with his configuration, as the outer one."""
    states, apart = {}, []
    for git_dir in git_dirs:
        if not git_dir.shared or git_dir.checkout is None or git_dir.worktree is None:
            continue
        place = copy / git_dir.target
        objects = [copy / ".git/objects", *([] if whole else [git_dir.common / "objects"])]
        checkout = copy / git_dir.checkout if whole else git_dir.worktree
        git = gitdirs.reading(Git(place, checkout), *objects)
        try:
            head = git.try_run(*_HEAD[1])
            taken = _worktree(git, place, copied=whole, choose=large.chooser(checkout, changed=True))
        except RepositoryError:  # then all of it comes home as new
            continue
        trees = (taken.tree, taken.index_tree) if taken else (None, None)
        states[place.name] = (head.text.strip() if head.returncode == 0 else None, *trees)
        apart += [f"{git_dir.checkout}/{path}" for path in (taken.apart if taken else ())]
    return Worktrees(states, tuple(apart))


def confirm_links(git: Git, tree: Oid, records: Iterable[NestedRecord]) -> None:
    """Prove that `tree`, taken from the live worktree, has the same commits of repositories inside as were copied.

    Raises SourceChanged.
    """
    heads = {inner.path: inner.base for inner in records if inner.path}
    if not heads:
        return
    listed = git.run("ls-tree", "-z", "--full-tree", tree, "--", *heads)
    for row in listed.split(b"\0")[:-1]:
        words, _, path = row.partition(b"\t")
        mode, _, name = words.decode().split(" ")
        if mode == "160000" and name != heads[os.fsdecode(path)]:
            raise SourceChanged("a nested repository changed while it was copied")


def _recorded_or_broken(copy: Path, git_dir: GitDir, *, whole: bool) -> NestedRecord:
    try:
        return _recorded(copy, git_dir, whole=whole)
    except RepositoryError as error:
        worktree = os.fspath(git_dir.worktree) if git_dir.worktree else None
        why = one_line(error.cause or error.message)
        return NestedRecord(
            git_dir.target, git_dir.checkout, os.fspath(git_dir.common), worktree, None, None, broken=why or "unknown"
        )


def _recorded(copy: Path, git_dir: GitDir, *, whole: bool) -> NestedRecord:
    checkout = (copy / git_dir.checkout if whole else git_dir.worktree) if git_dir.checkout is not None else None
    place = copy / git_dir.target
    objects = ":".join(map(gitdirs.quoted, (place / "objects", *([] if whole else [git_dir.common / "objects"]))))
    environment = {**HERMETIC, "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects}
    git = snapshot.without_filters(Git(place, checkout or place, tuple(environment.items())))
    head = [git.try_run(*words) for words in _HEAD]
    symref, base = (done.text.strip() if done.returncode == 0 else "" for done in head)
    clean = checkout is None or _clean(git)
    choose = large.chooser(checkout, changed=True) if checkout is not None else stage.nothing
    taken = None if clean or checkout is None else _worktree(git, place, copied=whole, choose=choose)
    return NestedRecord(
        git_dir=git_dir.target,
        path=git_dir.checkout,
        host=os.fspath(git_dir.common),
        host_worktree=os.fspath(git_dir.worktree) if git_dir.worktree else None,
        state=_state(symref, base, git) if clean else None,
        base=base or None,
        refs=_refs(git),
        stash=tuple(git.try_run("rev-list", "-g", "refs/stash").text.split()),
        snapshot=taken.tree if taken else None,
        index_tree=taken.index_tree if taken else None,
        apart=taken.apart if taken else (),
    )


_HEAD = (("symbolic-ref", "-q", "HEAD"), ("rev-parse", "-q", "--verify", "HEAD"))


def _clean(git: Git) -> bool:
    """No uncommitted work, and no path where it could hide from `git status`."""
    if git.run("status", "--porcelain", "-z", "--untracked-files=all", "--ignore-submodules=dirty"):
        return False
    return all(row.startswith(b"H ") for row in git.run("ls-files", "-v", "-z").split(b"\0") if row)


def _state(symref: str, base: str, git: Git) -> str:
    listed = git.run("for-each-ref", "--format=%(objectname) %(refname)").splitlines(keepends=True)
    head = f"{symref}\n{base}\n".encode("utf-8", "surrogateescape")
    return hashlib.sha256(head + b"".join(row for row in listed if not NO_WORK.match(row))).hexdigest()


def _refs(git: Git) -> dict[str, str]:
    return {str(name): str(value) for name, value in refs(git, "refs/heads", "refs/tags", "refs/notes").items()}


def _worktree(git: Git, place: Path, *, copied: bool, choose: Choose) -> Snapshot | None:
    """Trees of worktree and index. Their objects are thrown away: only the names are needed.

    Not where it has submodules of its own: git would start another git in each, with that one's filters.
    """
    if any(row.startswith(b"160000") for row in git.run("ls-files", "-s", "-z").split(b"\0")):
        return None
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as scratch:
        objects = Path(scratch, "objects")
        objects.mkdir()
        side = git.with_env(GIT_OBJECT_DIRECTORY=str(objects))
        return snapshot.take(side, place / "index", Path(scratch), copied=copied, choose=choose)
