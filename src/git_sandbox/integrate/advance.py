"""Moves HEAD, index and worktree together from one commit to another, or not at all.

Plain `git merge` cannot: it refuses while the user still has the dirty files the sandbox started from, silently
overwrites ignored files, and runs hooks out of the new tree.

What a crash (kill -9, power loss) leaves, step by step. The backup ref exists before `execute` starts.
1. lock taken, private index built: a stale index.lock that the next merge recognises as ours and takes over.
2. worktree half moved: index and HEAD say the old state, every old file is in the backup, every new one in the
   target; merging again finds each path either moved or not, and goes on.
3. index published: everything shows as staged; merging again, or `git commit`, completes it.
4. HEAD moved: done; only the lock is left.
Any exception, Ctrl-C included, instead of a crash puts the old state back.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from git_sandbox.errors import IntegrateError, RepositoryError, SandboxError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import Head, Repository
from git_sandbox.integrate.host import Checkout
from git_sandbox.integrate.trees import Entry, empty_tree, overlay, set_entries, staged
from git_sandbox.later import dataclass
from git_sandbox.text import printable

_PRIVATE = "sandbox-index"
_LOCK_MARK = b"git-sandbox holds this lock\n"


@dataclass(frozen=True)
class Move:
    """From `before` to `after` (None: back to an unborn HEAD). The three maps have the same paths: what is on disk,
    what shall be there, and what the index shall say. No other path is touched.
    """

    before: Head
    after: Oid | None
    disk: Mapping[bytes, Entry | None]
    worktree: Mapping[bytes, Entry | None]
    index: Mapping[bytes, Entry | None]
    log: str  # for the reflog
    backup: RefName  # named to the user should putting back fail


@contextlib.contextmanager
def locked(repo: Repository) -> Iterator[None]:
    """Hold git's own lock on the index, so that no other git changes it meanwhile.

    Raises IntegrateError when somebody has it. A lock left by a crash of ours is told by its text and by nobody
    holding flock(2) on it, and taken over.
    """
    if repo.given_index is not None and repo.given_index != repo.git_dir / "index":
        raise IntegrateError(
            "GIT_INDEX_FILE is set, but a merge changes the index of the checkout",
            hint="merge outside the git command that set it, or with `env -u GIT_INDEX_FILE`",
        )
    path = repo.git_dir / "index.lock"
    descriptor = _open_lock(path)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _LOCK_MARK, 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return descriptor
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = os.pread(descriptor, len(_LOCK_MARK) + 1, 0) == _LOCK_MARK
            if ours and os.fstat(descriptor).st_ino == path.lstat().st_ino:
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise IntegrateError(
        "another git command is running in this checkout",
        cause=f"{path} exists",
        hint="wait for it to end; if none runs, remove that file",
    )


def execute(repo: Repository, move: Move, scratch: Path) -> None:
    """Make the move. The caller holds the lock and has written the backup.

    Raises IntegrateError, with nothing changed, when the worktree no longer holds what `move.disk` says.
    """
    with _private_index(repo) as private:
        git = repo.git.with_env(GIT_INDEX_FILE=str(private))
        source, target = _trees(git, move, scratch)
        _align(git, move, source)
        _check(git, source, target)
        _check_head(repo, move.before)
        _carry_out(repo, git, move, (source, target), scratch)


def _carry_out(repo: Repository, git: Git, move: Move, trees: tuple[Oid, Oid], scratch: Path) -> None:
    source, target = trees
    with _rolled_back(repo, move, source, scratch):
        git.run("read-tree", "-m", "-u", source, target)
        kept = {path: entry for path, entry in move.index.items() if entry != move.worktree[path]}
        if kept:
            set_entries(git, kept, len(source))
            git.run("update-index", "-q", "--refresh", ok=(0, 1))
        _publish(repo)
        _move_head(repo, move)


@contextlib.contextmanager
def _private_index(repo: Repository) -> Iterator[Path]:
    """A copy of the index beside it: the rename at the end must not cross file systems."""
    private = repo.git_dir / _PRIVATE
    leftovers = (private, private.with_name(f"{_PRIVATE}.lock"))
    for path in leftovers:
        path.unlink(missing_ok=True)
    try:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(repo.git_dir / "index", private)
        yield private
    finally:
        for path in leftovers:
            path.unlink(missing_ok=True)


def _trees(git: Git, move: Move, scratch: Path) -> tuple[Oid, Oid]:
    """Trees of the touched paths alone. Paths in neither tree keep their index entry: git's two-tree rule."""
    nothing = empty_tree(git)
    return overlay(git, nothing, move.disk, scratch), overlay(git, nothing, move.worktree, scratch)


def _align(git: Git, move: Move, source: Oid) -> None:
    """Make the private index say what is on disk, so that git sees unmodified files where we know better."""
    # What agrees already keeps its stat data and its flags (skip-worktree). An empty entry may be intent-to-add,
    # which looks the same and must become a real entry.
    other = staged(git, source).keys() & move.disk.keys()
    other |= {path for path, entry in move.disk.items() if entry and entry.empty}
    set_entries(git, {path: move.disk[path] for path in other}, len(source))
    git.run("update-index", "-q", "--refresh", ok=(0, 1))


def _check(git: Git, source: Oid, target: Oid) -> None:
    done = git.try_run("read-tree", "-m", "-u", "-n", source, target)
    if done.returncode != 0:
        raise IntegrateError(
            "the checkout changed while it was being merged, or has something that git will not overwrite",
            cause=printable(done.complaint, limit=2000),
            hint="nothing was changed; look at the files named, then retry",
        )


def _check_head(repo: Repository, before: Head) -> None:
    if repo.head() != before:
        raise IntegrateError("HEAD moved while the merge was being prepared", hint="nothing was changed; retry")


def _publish(repo: Repository) -> None:
    (repo.git_dir / _PRIVATE).replace(repo.git_dir / "index")


def _move_head(repo: Repository, move: Move) -> None:
    before = move.before.commit or "0" * len(move.after or "")
    if move.after is None:
        repo.git.run("update-ref", "-m", move.log, "-d", "HEAD", before)
    else:
        repo.git.run("update-ref", "-m", move.log, "HEAD", move.after, before)


@contextlib.contextmanager
def _rolled_back(repo: Repository, move: Move, source: Oid, scratch: Path) -> Iterator[None]:
    """Put worktree and index back when the block fails, whatever the reason."""
    checkout = Checkout.of(repo.git)
    present = [path for path, entry in move.disk.items() if entry and checkout.exists(path)]
    absent = [path for path, entry in move.disk.items() if entry is None and not checkout.exists(path)]
    missing = _missing_directories(checkout, absent)
    old, index = scratch / "old-index", repo.git_dir / "index"
    if index.exists():
        shutil.copy2(index, old)
    try:
        yield
    except BaseException as error:
        with _told_where(move.backup):
            _remove(checkout, absent, missing)
            _restore(repo.git, source, present, scratch)
            _restore_index(repo, old, index)
        if isinstance(error, RepositoryError):
            raise IntegrateError(
                "cannot put the new files in place",
                cause=error.cause,
                hint="nothing was changed; remove the cause and retry",
            ) from error
        raise


@contextlib.contextmanager
def _told_where(backup: RefName) -> Iterator[None]:
    try:
        yield
    except (SandboxError, OSError) as error:
        raise IntegrateError(
            "the merge failed half-way, and the checkout could not be restored completely",
            cause=str(error),
            hint=f"your files are in `{backup}`: `git restore --source={backup} -- PATH`",
        ) from error


def _missing_directories(checkout: Checkout, paths: list[bytes]) -> list[Path]:
    """Directories that do not exist yet and would come with `paths`, deepest first."""
    above = {folder for path in paths for folder in checkout.at(path).parents if checkout.root in folder.parents}
    return sorted((folder for folder in above if not folder.is_dir()), key=lambda it: len(it.parts), reverse=True)


def _remove(checkout: Checkout, paths: list[bytes], directories: list[Path]) -> None:
    for path in paths:
        if checkout.exists(path):
            with contextlib.suppress(OSError):
                checkout.at(path).unlink()
    for directory in directories:
        with contextlib.suppress(OSError):
            directory.rmdir()


def _restore(git: Git, source: Oid, paths: list[bytes], scratch: Path) -> None:
    private = git.with_env(GIT_INDEX_FILE=str(scratch / "rollback-index"))
    private.run("read-tree", source)
    private.run("update-index", "-q", "--refresh", ok=(0, 1))  # what is still right is not written again
    attributes = [path for path in paths if path.rsplit(b"/", 1)[-1] == b".gitattributes"]
    for group in (attributes, paths):  # they say how the others are written
        private.run("checkout-index", "-f", "-z", "--stdin", input=b"".join(path + b"\0" for path in group))


def _restore_index(repo: Repository, old: Path, index: Path) -> None:
    if not old.exists():
        index.unlink(missing_ok=True)
    elif not index.exists() or old.read_bytes() != index.read_bytes():
        shutil.copy2(old, repo.git_dir / _PRIVATE)
        _publish(repo)
