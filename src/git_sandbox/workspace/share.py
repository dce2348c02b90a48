"""The workspace on a share: the whole copy in a directory, and a small disk for changes to the guest's system."""

from __future__ import annotations

import shutil

from git_sandbox import idspace, store
from git_sandbox.disk import ext4, share_dir
from git_sandbox.errors import HostResourceError
from git_sandbox.git.command import Git
from git_sandbox.idspace import IdSpace
from git_sandbox.progress import Progress
from git_sandbox.settings import Settings
from git_sandbox.store import SandboxHandle
from git_sandbox.workspace import nested
from git_sandbox.workspace.builder import Workspace, apart, take
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.incremental import ChangeTracker
from git_sandbox.workspace.survey import CapturePolicy


def make(handle: SandboxHandle, policy: CapturePolicy, settings: Settings, progress: Progress) -> Workspace:
    """Create both in `handle`, and describe the copy. Raises what `capture` and `disk.make` do; then there is none.

    Blocks are shared with the worktree's where the file system can (Btrfs, XFS), never files: a guest that writes
    through a hard link would write into the user's repository.
    """
    directory, space = handle.directory, IdSpace.ours()
    try:
        place = share_dir.lay_out(directory)
        captured = capture(handle.repo, place, policy, progress=progress, tracker=ChangeTracker())
        _require_descriptors(captured.inodes)
        progress("Recording the starting point")
        taken = take(apart(handle, Git(handle.repo.git_dir, place)), captured, copied=True)
        inside = nested.record(place, captured.git_dirs)
        linked = nested.worktrees(place, captured.git_dirs)
        progress("Making the share")
        share_dir.give(directory, space)
        _system_disk(handle, settings)
    except BaseException:
        store.delete(handle, name_too=False)
        raise
    return Workspace(captured, taken, inside, worktrees=linked)


def _require_descriptors(files: int) -> None:
    """Half of what is possible: git and builds make as many again. Raises HostResourceError."""
    most = idspace.files_at_once() // 2
    if files > most:
        raise HostResourceError(
            f"this working copy has {files} files, and on a share this user can have {most}",
            cause="virtiofsd keeps a descriptor for every file the guest knows",
            hint="use `--transport disk`, or raise the hard limit `nofile` (limits.conf(5)) to four times that many",
        )


def _system_disk(handle: SandboxHandle, settings: Settings) -> None:
    """Sparse, and as large as a workspace disk leaves free: what the guest installs lands there."""
    staging = handle.directory.staging
    try:
        ext4.staging_layout(staging)
        ext4.make(staging, handle.directory.disk, inodes=0, size=settings.disk << 20)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
