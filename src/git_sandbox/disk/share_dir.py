"""The workspace as a host directory that virtiofsd shares with the guest.

    share/        mode 0700, owned by a subordinate id: neither this user's shell nor any of his programs can enter
      tree/       all that the guest gets to see: the worktree with its .git

Everything in `tree` is written by the guest from its first boot on, with hooks and a configuration that git would
obey. So no program of this host may ever stand in it, and git would refuse it as somebody else's (safe.directory).
"""

from __future__ import annotations

from pathlib import Path

from git_sandbox import files
from git_sandbox.helpers import userns
from git_sandbox.idspace import IdSpace
from git_sandbox.sandbox_dir import SandboxDir

TAG = "workspace"


def is_asked(transport: str) -> bool:
    """The one rule: a disk, unless a share is asked for.

    A disk is quicker at what git and builds do, bounds what a guest can write, and needs one program less.
    """
    return transport == "share"


def used(directory: SandboxDir) -> bool:
    """Whether a sandbox works on a share. Told by where it is: no guest can make or remove it."""
    return directory.share.is_dir()


def lay_out(directory: SandboxDir) -> Path:
    """Make the place for the copy; the repository belongs at the path returned."""
    directory.share.mkdir(mode=0o700)
    return directory.share / userns.TREE


def give(directory: SandboxDir, space: IdSpace) -> None:
    """Make the finished copy the guest's. From here on nothing of it is read on this host."""
    space.give(directory.share)


def size(directory: SandboxDir) -> int:
    """Bytes that it takes, where there is one."""
    return IdSpace.of(directory.share).size(directory.share) if used(directory) else 0


def remove(directory: SandboxDir) -> None:
    """Delete it, whoever owns it by now."""
    if used(directory):
        IdSpace.of(directory.share).remove(directory.share)
        files.remove_tree(directory.share)  # of one that had not been given away
