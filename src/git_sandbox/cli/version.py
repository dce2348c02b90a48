"""`sandbox --version`, answered before anything is imported: programs and prompts call it often."""

from __future__ import annotations

import sys

from git_sandbox import __version__


def show() -> int | None:
    """The exit code, or None when it cannot be written: the command says better why."""
    try:
        sys.stdout.write(f"sandbox, version {__version__}\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        return None
    return 0
