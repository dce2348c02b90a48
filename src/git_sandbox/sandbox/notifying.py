"""Notifies the user when a sandbox waits, is done or failed: by a command of the user, or on the desktop.

What a guest says never becomes a word that a shell reads: it is cleaned, and goes by environment and standard input.
"""

from __future__ import annotations

import contextlib
import html
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from git_sandbox import process
from git_sandbox.background import Beside
from git_sandbox.errors import SandboxError
from git_sandbox.record import Activity, Record
from git_sandbox.setting_values import command_words
from git_sandbox.text import one_line

DESKTOP = "notify-send"
WITHIN = 30.0  # seconds for one command
MOST = 64 << 10  # bytes that it may say
_BUSY = threading.BoundedSemaphore(4)  # commands at a time; a guest may say something every second


def tell(command: Sequence[str], record: Record, activity: Activity) -> None:
    """Beside what else is done. `command`: the user's, empty for none. Nobody is told that somebody works."""
    if command and activity.state != "working":
        Beside(lambda: _run(command, record, activity))


def command(notify: str, environ: Mapping[str, str], *, agent: bool) -> tuple[str, ...]:
    """What the setting `notify` means here. `auto`: the desktop's program, for agents, where there is one."""
    if notify == "no":
        return ()
    if notify != "auto":
        return command_words(notify)
    return (DESKTOP,) if agent and _bus(environ) and process.which(DESKTOP) else ()


def _bus(environ: Mapping[str, str]) -> bool:
    """Whether a desktop listens. Not in a directory of another user's, as after `su`, where pathlib raises."""
    runtime = environ.get("XDG_RUNTIME_DIR", "/none")
    return bool(environ.get("DBUS_SESSION_BUS_ADDRESS")) or os.path.exists(f"{runtime}/bus")  # noqa: PTH110 - see above


def argv(command: Sequence[str], record: Record, activity: Activity) -> list[str]:
    """The desktop's program gets its text as arguments, which it takes for markup once it has resolved what begins
    with a backslash in them; a command of the user's gets none.
    """
    if tuple(command) != (DESKTOP,):
        return list(command)
    title = f"sandbox {record.id}: {activity.state}"
    body = html.escape(activity.message or record.agent or "-").replace("\\", "\\\\")
    return [DESKTOP, "--app-name=sandbox", "--", title, body]


def variables(record: Record, activity: Activity) -> dict[str, str]:
    return {
        "SANDBOX_ID": record.id,
        "SANDBOX_STATE": one_line(activity.state),
        "SANDBOX_MESSAGE": one_line(activity.message),
        "SANDBOX_AGENT": one_line(record.agent),
        "SANDBOX_REPOSITORY": record.worktree,
    }


def _run(command: Sequence[str], record: Record, activity: Activity, wait: float = 0.0) -> None:
    """What goes wrong with it is nobody's concern here. `wait`: seconds for those that run already, when all places are
    taken; then it is left out.
    """
    if not _BUSY.acquire(timeout=wait):
        return
    try:
        more = variables(record, activity)
        with contextlib.suppress(SandboxError, OSError, ValueError):
            process.run(
                argv(command, record, activity), env=process.environment(process.asking() | more), cwd=Path("/"),
                input=json.dumps(more).encode() + b"\n", timeout=WITHIN, output=MOST,
            )  # fmt: skip
    finally:
        _BUSY.release()


def ended(command: Sequence[str], record: Record, code: int) -> None:
    """Of an agent that has ended. Waits until it is told: this process ends with it, and what the guest said before is
    no reason to leave it out.
    """
    if command:
        state = "failed" if code else "done"
        _run(command, record, Activity(state, f"exit {code}"), wait=2 * WITHIN)
