"""Copies one git directory, possibly in use, to one real `.git` that depends on nothing outside itself.

Order makes the copy consistent without stopping anybody: loose refs before packed ones, all refs, index and logs
before any object (objects only grow while nothing collects garbage), loose objects before packs. What order cannot
guarantee is noticed: refs, index or packs that differ before and after. Then the phase runs again, and in the end
git proves that every object is there.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox import files
from git_sandbox.errors import RepositoryError
from git_sandbox.git import gitdirs, gitvariables
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.guest.protocol import WORKSPACE
from git_sandbox.later import dataclass, field
from git_sandbox.text import one_line
from git_sandbox.workspace import filecopy, git_dir_entries, git_dir_texts
from git_sandbox.workspace.git_dir_allowlist import GitFiles
from git_sandbox.workspace.incremental import ChangeTracker

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_sandbox.git.gitdirs import GitDir
    from git_sandbox.workspace.git_dir_entries import Stamp

ATTEMPTS = 3
POLL = 0.05  # seconds between looks at a lock
GC_FORGOTTEN = 12 * 3600  # seconds after which git itself ignores a gc.pid


@dataclass
class GitDirCopy:
    """The copy of one git directory, at `target`. `run` makes it; `warnings` tell what was not perfect."""

    source: GitDir
    target: Path
    patience: float  # seconds
    say: Callable[[str], None]
    warnings: list[str] = field(default_factory=list)
    tracker: ChangeTracker = field(default_factory=ChangeTracker)
    files: GitFiles = field(default_factory=GitFiles)
    inside: tuple[tuple[GitDir, Path], ...] = ()  # linked worktrees that come along, and where each goes

    def run(self) -> None:
        """Raises RepositoryError when the repository changes faster than it can be copied."""
        if self.source.linked and (self.source.common / "reftable").is_dir():
            raise RepositoryError(
                "a linked worktree of a repository with reftable refs cannot be copied",
                cause="its HEAD is in a separate reftable that only git can merge",
                hint="start from the main worktree",
            )
        for attempt in range(ATTEMPTS):
            if attempt:
                self.say("The repository changed while it was copied; copying it again")
            if self._once():
                return
        self._give_up()

    def _once(self) -> bool:
        """One copy in the right order; False when objects are missing from it."""
        stamp = self._copy_state()
        raced = False
        for name in git_dir_entries.STORES:
            if (self.source.common / name).is_dir():
                store = self.source.common / name
                foreign = store.is_symlink() or name == "objects"
                raced |= _copy_objects(store, self.target / name, foreign=foreign, choose=self._chooser(store, name))
        raced |= self._copy_alternates()
        raced |= stamp != self._stamp()
        if self.tracker.base is not None:
            self.tracker.require(not raced, "the repository changed while it was copied")
        for path in [*git_dir_entries.litter(self.target), *self.files.strangers(self.target)]:
            files.remove_tree(path, ignore_errors=False)
        filecopy.clone_directory(self.source.common, self.target)
        return not raced or self._complete()

    def _chooser(self, store: Path, name: str) -> Callable[[list[str]], list[str]]:
        return lambda entries: self.tracker.store(store, f"{self.source.target}/{name}", entries)

    def _copy_state(self) -> Stamp:
        """Refs, HEAD, index, logs, operations, as they were when they had the stamp that is returned."""
        for _ in range(ATTEMPTS):
            self._wait()
            files.remove_tree(self.target, ignore_errors=False)
            (self.target / "refs").mkdir(parents=True)  # git asks for both, even empty
            (self.target / "objects").mkdir()
            stamp = self._stamp()
            for lot in git_dir_entries.state_lots(self.source, self.files):
                _refuse(filecopy.copy(lot.root, self.target, lot.entries, *lot.options), lot.root)
            self._copy_given_index()
            self._copy_inside()
            if stamp == self._stamp():
                break
        git_dir_texts.clean(self.target, *(target for _, target in self.inside))
        return stamp

    def _stamp(self) -> Stamp:
        stamp = git_dir_entries.state_stamp(self.source)
        for git_dir, _ in self.inside:
            stamp |= git_dir_entries.state_stamp(git_dir)
        return stamp

    def _copy_inside(self) -> None:
        """What each linked worktree inside has of its own: before any object, as all that names objects."""
        for git_dir, target in self.inside:
            target.mkdir(parents=True)
            entries = git_dir_entries.private_entries(git_dir.private, self.files)
            _refuse(filecopy.copy(git_dir.private, target, entries), git_dir.private)
            # Git before 2.48 wants the second one absolute.
            for name, text in (("commondir", "../.."), ("gitdir", f"{WORKSPACE}/{git_dir.checkout}/.git")):
                (target / name).write_bytes(os.fsencode(f"{text}\n"))
                with contextlib.suppress(OSError):
                    shutil.copystat(git_dir.private / name, target / name)
            for litter in list(git_dir_entries.litter(target)):
                files.remove_tree(litter, ignore_errors=False)
            filecopy.clone_directory(git_dir.private, target)
        if self.inside:
            filecopy.clone_directory(self.source.common / "worktrees", self.target / "worktrees")

    def _copy_given_index(self) -> None:
        """The index that git names while it calls us is the one to go in."""
        if self.source.index is None:
            return
        (self.target / "index").unlink(missing_ok=True)
        try:
            shutil.copy2(self.source.index, self.target / "index")
        except FileNotFoundError:  # to git, too, that is an empty one
            return
        except OSError as error:
            place = one_line(os.fspath(self.source.index))
            raise RepositoryError(f"cannot read GIT_INDEX_FILE ({place})", cause=str(error)) from error

    def _copy_alternates(self) -> bool:
        """Borrowed objects to `alt/N`, all named in one place, so that no chain has to be followed."""
        borrowed = gitdirs.alternates(self.source.common)
        for path in borrowed.missing:
            self._warn(f"the alternate object directory {one_line(os.fspath(path))} is missing")
        raced = False
        for number, objects in enumerate(borrowed.directories):
            place = self.target / "alt" / str(number)
            raced |= _copy_objects(objects, place, foreign=True, choose=self._chooser(objects, f"alt/{number}"))
            (place / "info" / "alternates").unlink(missing_ok=True)
        listing = self.target / "objects" / "info" / "alternates"
        if listing.is_dir() and not listing.is_symlink():
            shutil.rmtree(listing)
        listing.unlink(missing_ok=True)
        if borrowed.directories:
            listing.parent.mkdir(exist_ok=True)
            listing.write_text("".join(f"../alt/{number}\n" for number in range(len(borrowed.directories))))
        return raced

    def _wait(self) -> None:
        """Until no git holds the index or collects garbage here, or patience is at its end."""
        deadline = time.monotonic() + self.patience
        reported = False
        while (holder := self._holder()) and time.monotonic() < deadline:
            if holder == "index.lock" and self._held_for_us():
                break
            if not reported:
                self.say(f"Waiting for another git to finish ({holder})")
                reported = True
            time.sleep(POLL)
        if holder == "index.lock" and self.source.index is None:
            lock = one_line(os.fspath(self.source.private / holder))
            self._warn(f"{lock} is still there: the index was copied as it was before that command")

    def _holder(self) -> str:
        if (self.source.private / "index.lock").exists():
            return "index.lock"
        return "gc.pid" if gc_runs(self.source.common / "gc.pid") else ""

    def _held_for_us(self) -> bool:
        """Whether the git that holds the index waits for us: a hook of its own began the sandbox."""
        try:
            since = (self.source.private / "index.lock").stat().st_mtime
        except OSError:
            return False
        return self.source.index is not None or gitvariables.within_git(since)

    def _warn(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _complete(self) -> bool:
        """Has the copy every object that its refs, reflogs and index name?"""
        for objects in (self.target / "objects", *(self.target / "alt").glob("*")):
            for cache in (objects / "pack").glob("multi-pack-index*"):
                cache.unlink()  # names packs that may have gone since
        self.say("The repository was in use while it was copied; checking the copy")
        return connected(self.target)

    def _give_up(self) -> None:
        place = one_line(os.fspath(self.source.common))
        if connected(self.source.private):
            raise RepositoryError(
                f"{place} kept changing while it was copied",
                cause="a git process keeps repacking or rewriting it",
                hint="wait for it to finish (`git gc`, an IDE, a backup), then try again",
            )
        self._warn(f"{place} lacks objects: see `git fsck`")


def connected(git_dir: Path) -> bool:
    # A worktree is named only so that a submodule's core.worktree, which need not exist yet, is not looked at.
    git = Git(git_dir, git_dir, tuple(HERMETIC.items()))
    checked = git.try_run(
        "rev-list", "--objects", "--all", "--reflog", "--indexed-objects", "--quiet", "--missing=allow-promisor"
    )
    return checked.returncode == 0


def _all(entries: list[str]) -> list[str]:
    return entries


def _copy_objects(
    source: Path, target: Path, *, foreign: bool, choose: Callable[[list[str]], list[str]] = _all
) -> bool:
    """A directory of objects; True when it was being repacked meanwhile. `foreign`: nothing but objects is taken."""
    target.mkdir(parents=True, exist_ok=True)
    for attempt in range(ATTEMPTS):
        before = git_dir_entries.pack_stamp(source)
        # -u: the second time only what is new. -H: `objects/pack` may be a link to a larger disk.
        entries = choose(git_dir_entries.store_entries(source, foreign=foreign))
        outcome = filecopy.copy(source, target, entries, "-H", "-u")
        _refuse(outcome, source)
        if not outcome.vanished and before == git_dir_entries.pack_stamp(source):
            filecopy.clone_directory(source, target)
            return attempt > 0
    return True


def _refuse(outcome: filecopy.Outcome, place: Path) -> None:
    if outcome.denied:
        raise RepositoryError(
            f"cannot read everything in {one_line(os.fspath(place))}",
            cause=one_line(outcome.denied[0]),
            hint="make it yours again, e.g. `sudo chown -R $USER .git`",
        )


def gc_runs(pid_file: Path) -> bool:
    """Does the process in a `gc.pid` ("pid host") live? One on another host does, until git forgets it too."""
    try:
        with pid_file.open("rb") as file:
            pid, _, host = file.read(1024).decode("utf-8", "replace").strip().partition(" ")
            age = time.time() - os.fstat(file.fileno()).st_mtime
        if age > GC_FORGOTTEN:
            return False
        if host == socket.gethostname():
            os.kill(int(pid), 0)
    except (FileNotFoundError, ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
