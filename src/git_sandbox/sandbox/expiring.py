"""Deletes expired sandboxes from the trash at the end of every verb. Most verbs need nothing else of `trashed`."""

from __future__ import annotations

from git_sandbox import settings
from git_sandbox.errors import SandboxError
from git_sandbox.trash import expiry
from git_sandbox.trash.expiry import Rule


def rule() -> Rule:
    """What the user's settings say. A repository's own file has no say: the trash is that of all repositories."""
    effective, _ = settings.resolve()
    return Rule(effective.trash, effective.trash_size << 20)


def expire() -> None:
    """Delete what has expired, in the trashes of all repositories. Never fails, and waits for nobody."""
    try:
        known = expiry.summary()
        if known.oldest is not None:
            expiry.expire(rule())
    except (SandboxError, OSError):
        return
