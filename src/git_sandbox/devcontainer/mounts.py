"""Mounts of a devcontainer: a workspace directory at a second place, or an empty directory of the sandbox.

There is no directory that host and guest share, so a bind mount of anything outside of the repository is named and left
out; `--mount` takes a read-only copy in.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from git_sandbox.devcontainer.model import MountTable
from git_sandbox.devcontainer.variables import Replaced
from git_sandbox.image.guestfiles import GuestPlace
from git_sandbox.later import dataclass
from git_sandbox.text import one_line

_TARGET = re.compile(r"/[A-Za-z0-9._@+/-]{1,500}")
_NAMES = {"src": "source", "dst": "target", "destination": "target"}  # Docker's other words
# Where the guest's own parts are: no mount goes there, or above it.
TAKEN = ("/dev", "/proc", "/run", "/sys", "/workspace", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/boot")
VOLUME, BIND, TMPFS = "volume", "bind", "tmpfs"


@dataclass(frozen=True)
class Folders:
    """The worktree on this host, and where the guest has it."""

    local: str
    container: str


def parsed(given: str | MountTable, replaced: Replaced) -> MountTable:
    """One of Docker's `--mount` texts, or a table, with its variables replaced. Raises ValueError."""
    if isinstance(given, MountTable):
        return MountTable(replaced(given.type), replaced(given.target), replaced(given.source))
    rows = dict(_pair(word) for word in replaced(given).split(","))
    if not rows.get("target"):
        raise ValueError("it has no target")
    return MountTable(rows.get("type", VOLUME), rows["target"], rows.get("source", ""))


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.strip().partition("=")
    return _NAMES.get(name, name), value


def place(mount: MountTable, folders: Folders) -> GuestPlace | None:
    """What the guest gets for it; None where it has that already. Raises ValueError, saying why there is nothing."""
    target = clean(mount.target)
    if inside(target, folders.container) is not None:
        if mount.type == BIND and _source(mount, folders) != inside(target, folders.container):
            raise ValueError("another directory in the middle of the workspace")
        return None  # the workspace is the sandbox's own copy already
    target = free(target)
    if mount.type in (VOLUME, TMPFS):
        return GuestPlace(target)
    if mount.type == BIND:
        return GuestPlace(target, source=_source(mount, folders))
    raise ValueError("a mount of that type has no meaning in a virtual machine")


def _source(mount: MountTable, folders: Folders) -> str:
    mounted = inside(str(PurePosixPath(mount.source)), folders.local)
    if mounted is None or ".." in PurePosixPath(mounted).parts:
        raise ValueError("its source is outside of the repository (`--mount` gives a guest a read-only copy)")
    return mounted


def clean(target: str) -> str:
    """A path of the guest's without anything that means another one. Raises ValueError."""
    path = PurePosixPath(target)
    if not _TARGET.fullmatch(target) or ".." in path.parts:
        raise ValueError(f"`{one_line(target, limit=60)}` is not a plain path")
    return str(path).replace("//", "/")


def free(target: str) -> str:
    """A plain path that nothing of the guest's own is at, below or above. Raises ValueError."""
    path = clean(target)
    if any(inside(path, directory) is not None or inside(directory, path) is not None for directory in TAKEN):
        raise ValueError(f"{path} belongs to the guest")
    return path


def inside(path: str, top: str) -> str | None:
    """`path` relative to `top`, `.` for `top` itself; None where it is not below."""
    try:
        return str(PurePosixPath(path).relative_to(top)) if top else None
    except ValueError:
        return None
