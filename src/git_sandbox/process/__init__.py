"""The only package that starts programs.

Every child gets a curated environment, no standard input unless given one, and a way to die: `spawn` stops what
it started when its block ends, and the kernel does it (PR_SET_PDEATHSIG, through setpriv(1)) when we are killed.
"""

from __future__ import annotations

from git_sandbox.process.bounds import NO_LIMITS, Limits, asking, environment, inherited
from git_sandbox.process.child import (
    DEVNULL,
    PIPE,
    STDOUT,
    STOP_GRACE,
    Child,
    answering,
    detach,
    interactive,
    kill_group,
    page,
    spawn,
)
from git_sandbox.process.completed import (
    ASKED,
    STDERR_LIMIT,
    Completed,
    FloodError,
    beginning,
    foreground,
    run,
)
from git_sandbox.process.starting import require, which

__all__ = [
    "ASKED", "DEVNULL", "NO_LIMITS", "PIPE", "STDERR_LIMIT", "STDOUT", "STOP_GRACE", "Child", "Completed", "FloodError",
    "Limits", "answering", "asking", "beginning", "detach", "environment", "foreground", "inherited", "interactive",
    "kill_group",
    "page", "require", "run", "spawn", "which",
]  # fmt: skip
