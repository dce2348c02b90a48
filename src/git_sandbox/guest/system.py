"""What is in the sandbox's system, where our own programs have another root (`roots`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from git_sandbox.guest import protocol
from git_sandbox.guest.common import Config, T


def device(name: str) -> Path:
    """Its node below /dev: the system's, where the root of our own processes has only the usual ones."""
    own = Path("/dev", name)
    return own if own.exists() else Path(f"/proc/1/fd/{protocol.SYSTEM}/dev", name)


def in_system(config: Config, task: Callable[[], T]) -> T:
    """What `task` returns, done where the sandbox's system is the root; JSON has to hold it. Raises OSError."""
    if not config.get("root"):
        return task()
    from git_sandbox.guest import roots  # late: other machines do without

    return roots.in_root(protocol.SYSTEM, task)
