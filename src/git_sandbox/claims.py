"""Names of sandboxes and their locks: who may use a name, and who may change the sandbox that has it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from git_sandbox import files, locks
from git_sandbox.errors import HostResourceError, StateError
from git_sandbox.git.names import SandboxId, sandbox_id
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.trash import note as trashed

WAIT = "`sandbox ls` shows when that is done"
LOOKING = 1.0  # seconds; who only looks whether a sandbox runs (`locks.held`) has its lock for an instant


def claim(root: Path, name: str | None, taken: set[SandboxId]) -> Path:
    """Mkdir decides who gets a name: it cannot be made twice. What is in the trash keeps its own."""
    if name is not None:
        ident = sandbox_id(name)
        require_not_trashed(root, ident)
        if ident not in taken and make(root / ident):
            return root / ident
        raise StateError(f"a sandbox named `{name}` exists already", hint=f"use another name, or `sandbox drop {name}`")
    number = 1
    while SandboxId(f"vm-{number}") in taken or not make(root / f"vm-{number}"):
        number += 1
    return root / f"vm-{number}"


def require_not_trashed(root: Path, name: SandboxId) -> None:
    """Raises StateError for a name that something in the trash has."""
    if trashed.holds(root, name):
        hint = f"`sandbox restore {name}` brings it back; `sandbox prune {name}` deletes it for good"
        raise StateError(f"the sandbox named `{name}` is in the trash", hint=hint)


def make(path: Path) -> bool:
    """False for a name that somebody has, here or in the trash."""
    try:
        path.mkdir(mode=0o700)
        if trashed.holds(path.parent, SandboxId(path.name)):  # asked when it can no longer be moved there
            path.rmdir()
            return False
    except FileExistsError:
        return False
    except OSError as error:
        raise HostResourceError(f"cannot create {path}", cause=error.strerror or str(error)) from error
    return True


@contextlib.contextmanager
def lock(directory: SandboxDir) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(files.opened(directory.lock, "a"))
        except FileNotFoundError:
            raise _dropped(directory) from None
        deadline = time.monotonic() + LOOKING
        while not locks.taken(handle):
            if time.monotonic() > deadline:
                raise _in_use(directory)
            time.sleep(0.02)
        if not locks.there(handle, directory.lock):
            raise _dropped(directory)
        yield


def _in_use(directory: SandboxDir) -> StateError:
    name = directory.root.name
    if directory.recovering.exists():
        return StateError(f"the work in sandbox `{name}` is being brought home from its disk", hint=WAIT)
    return StateError(f"sandbox `{name}` is running", hint="wait until it ends")


def _dropped(directory: SandboxDir) -> StateError:
    return StateError(f"sandbox `{directory.root.name}` was dropped by another process", hint="`sandbox ls --all`")
