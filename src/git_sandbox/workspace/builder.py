"""Builds the workspace disk: the repository's base image plus a difference where that is exact, otherwise a whole copy.

The first sandbox of a repository makes the image, which stays in the cache; later ones show it copy-on-write. Whatever
is odd leads to a whole copy, and that becomes the next base.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import msgspec

from git_sandbox import files, paths, store
from git_sandbox.cache import bases
from git_sandbox.cache.bases import Base, BaseInfo
from git_sandbox.disk import cow, delta_archive, ext4, job_parts, workspace_disk
from git_sandbox.disk.cow import Means
from git_sandbox.disk.delta_archive import Tail
from git_sandbox.errors import HostResourceError
from git_sandbox.git import gitdirs, large, snapshot
from git_sandbox.git.command import Git
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.guest import protocol
from git_sandbox.image.spec import asked
from git_sandbox.later import dataclass, field, regex, replace
from git_sandbox.progress import Progress
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.settings import Settings
from git_sandbox.store import NestedRecord, SandboxHandle
from git_sandbox.text import one_line
from git_sandbox.workspace import nested, stray_volumes
from git_sandbox.workspace.base_content import divide
from git_sandbox.workspace.base_index import Known
from git_sandbox.workspace.capture import WORTH_SAYING, Captured, capture
from git_sandbox.workspace.delta import confirm_lasting, confirm_still, confirm_young, difference
from git_sandbox.workspace.incremental import ChangeTracker, NotIncremental, SourceChanged
from git_sandbox.workspace.nested import Worktrees
from git_sandbox.workspace.set_aside import aside
from git_sandbox.workspace.survey import CapturePolicy

WORTH_BYTES = 32 << 20  # a repository that is smaller and has fewer files is copied in a blink
WORTH_INODES = 2_000
ROOM = 64 << 20  # bytes that a difference may always have
SHARE = 0.2  # of the base; a larger difference makes a new base
ATTEMPTS = 2
CONSOLE = 1 << 20  # bytes of it that are searched
WRITES, READS = 100, 4 << 20  # files and bytes a second that a guest without KVM applies on a busy host, at the least
_REFUSED = regex(f"git-sandbox: {protocol.CANNOT_USE}".encode())


@dataclass(frozen=True)
class Workspace:
    """`base`: what the disk was laid over when only the difference to it was copied. `applying`: seconds the guest may
    take for the difference, before anything else.
    """

    captured: Captured
    snapshot: Snapshot
    nested: tuple[NestedRecord, ...] = ()
    base: Base | None = None
    applying: float = 0.0
    worktrees: Worktrees = field(default_factory=Worktrees)


def make(
    handle: SandboxHandle,
    policy: CapturePolicy,
    settings: Settings,
    formats: tuple[str, ...],
    progress: Progress,
    *,
    whole: bool = False,
    parts: bool = False,
) -> Workspace:
    """Leave the disk in `handle`, and say what is on it. Raises what `capture` and `disk.make` do; then there is none.

    `whole`: over no base that is there. `parts`: leave base and difference beside each other, for another machine to
    make the disk of (`SandboxDir.job`).
    """
    task = _Task(handle, policy, settings, formats, progress, parts)
    try:
        if settings.bases and not task.cached():
            progress("Cannot write the cache: the repository is copied whole")
            task = replace(task, settings=replace(settings, bases=0))
        return (None if whole else task.from_base()) or task.copied()
    except BaseException:
        store.delete(handle, name_too=False)
        raise


def refused(directory: SandboxDir) -> bool:
    """Whether a guest that ended before anybody used it could not make sense of its disk."""
    with suppress(OSError), directory.console.open("rb") as console:
        return _REFUSED.search(console.read(CONSOLE)) is not None
    return False


@dataclass(frozen=True)
class _Task:
    handle: SandboxHandle
    policy: CapturePolicy
    settings: Settings
    formats: tuple[str, ...]
    progress: Progress
    parts: bool = False

    @property
    def repository(self) -> str:
        return self.handle.directory.root.parent.name

    @property
    def key(self) -> str:
        """Of everything that decides what a base looks like, apart from the repository's state."""
        repo = self.handle.repo
        words = (
            bases.SCHEMA, repo.worktree, repo.git_dir, repo.common_dir, repo.object_format, self.settings.disk,
            self.policy.ignored, self.policy.skip_unreadable, self.policy.exclude, self.policy.git_extra,
            os.getuid(), os.getgid(),
        )  # fmt: skip
        return hashlib.sha256(repr(words).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    @cached_property
    def means(self) -> Means:
        """For disks that show a base. Raises RequirementError when what the settings ask for does not work here."""
        settings, place = self.settings, self.handle.directory.root
        spec = asked(settings)
        source = paths.private_directory(bases.bases_root())
        support = cow.look(source, place, self.formats, settings.thin_pool, layers=spec.layers, size=None)
        cow.choose(settings.cow, support)
        return support

    def cached(self) -> bool:
        """Whether bases can be kept: a cache is never required. Raises what `means` does, before anything is copied."""
        try:
            _ = self.means
        except (HostResourceError, OSError):
            return False
        return True

    def from_base(self) -> Workspace | None:
        """None when there is no base, or when something is odd."""
        base = bases.find(self.repository, self.key) if self.settings.bases else None
        try:
            known = Known.decoded(base.known.read_bytes()) if base else None
            room = max(ROOM, int(base.info.bytes * SHARE)) if base else 0
        except (OSError, ValueError, msgspec.DecodeError):
            return None
        for _ in range(ATTEMPTS if base and known else 0):
            try:
                return self._difference(base, ChangeTracker(known, room))  # type: ignore[arg-type]
            except SourceChanged:
                self.progress("The worktree changed while it was read; reading it again")
            except NotIncremental:
                return None
        return None

    def _difference(self, base: Base, tracker: ChangeTracker) -> Workspace:
        repo = self.handle.repo
        with self._staging() as place:
            captured = capture(repo, place, self.policy, progress=self.progress, tracker=tracker)
            self.progress("Recording the starting point")
            taken = take(apart(self.handle, repo.git), captured)
            inside = nested.record(place, captured.git_dirs, whole=False)
            linked = nested.worktrees(place, captured.git_dirs, whole=False)
            nested.confirm_links(gitdirs.reading(repo.git, self.handle.directory.objects), taken.tree, inside)
            confirm_young(repo.git, place, tracker, captured.git_dirs)
            confirm_still(repo.git, tracker)
            delta = difference(place, tracker)
            confirm_lasting(tracker, delta, captured.git_dirs)
            applying = self._attach(base, delta_archive.build(place, delta.remove, delta.write))
        return Workspace(captured, taken, inside, base, applying, linked)

    def _attach(self, base: Base, difference: Tail) -> float:
        """The disk, by the strategy that fits (`disk/cow.py`); seconds that the guest may take for the difference.
        Raises NotIncremental if the base no longer exists.
        """
        try:
            if self.parts:
                job_parts.keep(self.handle.directory.job, base.image, difference)
            else:
                means = replace(self.means, bytes=base.size)
                chosen = cow.choose(self.settings.cow, means)
                workspace_disk.lay(chosen.strategy, base.image, self.handle.directory, difference, means.pool)
        except FileNotFoundError as error:
            raise NotIncremental("the base no longer exists") from error
        return difference.entries / WRITES + difference.size / READS

    def copied(self) -> Workspace:
        """A whole copy; a base for the next ones where that is worth it and can be exact."""
        tracker = ChangeTracker()
        with self._staging() as place:
            captured = capture(self.handle.repo, place, self.policy, progress=self.progress, tracker=tracker)
            self.progress("Recording the starting point")
            # The copy is what the guest will see, so the copy is what is recorded, not the worktree a moment later.
            taken = take(apart(self.handle, Git(self.handle.repo.git_dir, place)), captured, copied=True)
            inside = nested.record(place, captured.git_dirs)
            linked = nested.worktrees(place, captured.git_dirs)
            self.progress("Making the workspace disk")
            applying = None
            if self._worth(captured) and not tracker.obstacle:
                applying = self._new_base(captured, tracker, place)
            if applying is None:
                workspace_disk.discard(self.handle.directory)
                self._make(
                    captured, job_parts.fresh(self.handle.directory.job) if self.parts else self.handle.directory.disk
                )
        return Workspace(captured, taken, inside, applying=applying or 0.0, worktrees=linked)

    def _worth(self, captured: Captured) -> bool:
        large = captured.bytes >= WORTH_BYTES or captured.inodes >= WORTH_INODES
        return (large or self.parts) and self.settings.bases > 0

    def _new_base(self, captured: Captured, tracker: ChangeTracker, place: Path) -> float | None:
        """A base, and the disk laid over it, as in `_attach`; None when it could not be kept: the cache's disk is full.

        What the next sandbox may not see any more is not in it (`workspace/base_content.py`).
        """
        try:
            with bases.building(self.repository) as build:
                base = Base(build)
                held = divide(place, tracker.layout, captured.git_dirs)
                base.known.write_bytes(tracker.known(place).holding(held).encoded())
                with aside(place, held.roots, self.handle.directory.staging / "aside"):
                    self._make(captured, base.image, growth=max(ROOM, int(captured.bytes * SHARE)))
                base.image.chmod(0o400)
                applying = self._attach(base, delta_archive.build(place, (), held.write))
                info = BaseInfo(self.key, os.fspath(self.handle.repo.worktree), captured.bytes, time.time())
                bases.publish(build, info, self.settings.bases << 20)
        except (HostResourceError, OSError) as error:
            self.progress(f"Cannot cache an image of the repository ({one_line(str(error))})")
            return None
        with suppress(HostResourceError):  # a volume that stays is no reason to go without a sandbox
            stray_volumes.tidy(self.means.pool)
        return applying

    def _make(self, captured: Captured, target: Path, growth: int = 0) -> None:
        size = int(captured.bytes * 1.15) + captured.inodes * 512 + (self.settings.disk << 20) + growth
        content = self.handle.directory.staging / "disk"
        ext4.make(content, target, inodes=captured.inodes, size=size, meter=self._meter(captured.bytes))

    def _meter(self, total: int) -> Callable[[int], None] | None:
        if total < WORTH_SAYING:
            return None
        return lambda written: self.progress(
            f"Making the workspace disk: {min(written, total) >> 20} of {total >> 20} MiB"
            f" ({100 * min(written, total) // total} %)"
        )

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        staging = self.handle.directory.staging
        staging.mkdir(mode=0o700)
        try:
            yield ext4.staging_layout(staging / "disk")
        finally:
            files.remove_tree(staging)  # also directories without write permission: a Go module cache has them


def apart(handle: SandboxHandle, git: Git) -> Git:
    """`git` with a store of the sandbox's own for new objects: the user's repository does not grow."""
    return gitdirs.writing_to(git, handle.directory.objects, handle.repo.common_dir)


def take(git: Git, captured: Captured, *, copied: bool = False) -> Snapshot:
    """What the worktree holds, as trees."""
    with tempfile.TemporaryDirectory(prefix="git-sandbox-") as scratch:
        choose = large.chooser(git.worktree or git.git_dir, changed=True)
        return snapshot.take(git, captured.index, Path(scratch), copied=copied, choose=choose)
