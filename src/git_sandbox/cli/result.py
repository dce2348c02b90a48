"""What a verb returns, and the one place that prints it: for people, or as a versioned JSON envelope.

Envelope: `{"schema": 1, "command": …, "status": "ok"|"error", "data": …, "errors": [{kind, message, cause, hint,
exit_code}]}`, one line on standard output, also for failures before a verb ran.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import click
import msgspec

from git_sandbox import notices
from git_sandbox.cli import columns
from git_sandbox.errors import SandboxError
from git_sandbox.text import outgoing

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """`data`: plain values, dataclasses or msgspec structs. `text`: the same for people. `notes` go to stderr."""

    command: str
    data: Any = None
    text: str = ""
    notes: tuple[str, ...] = field(default=())
    exit_code: int = 0


def colours() -> bool | None:
    """False where nobody wants any. None: click looks where it goes."""
    return False if columns.plain() else None


def show(result: Result, *, as_json: bool) -> None:
    _notices()
    if as_json:
        _envelope(result.command, "ok", result.data, [])
        return
    for note in result.notes:
        click.echo(outgoing(note), err=True, color=colours())
    if result.text:
        click.echo(outgoing(result.text), color=colours())


def fail(command: str, error: SandboxError, *, as_json: bool) -> None:
    """Message, cause and next step on stderr, or the envelope on stdout."""
    _notices()
    if as_json:
        row = {
            "kind": error.kind, "message": error.message, "cause": error.cause, "hint": error.hint,
            "exit_code": error.exit_code,
        }  # fmt: skip
        _envelope(command, "error", None, [row])
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {outgoing(error.message)}", err=True, color=colours())
    for line in error.cause.splitlines():
        click.echo(f"  {outgoing(line)}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {outgoing(error.hint)}", err=True, color=colours())


def _notices() -> None:
    for notice in notices.heard():
        click.echo(f"note: {outgoing(notice)}", err=True, color=colours())


def _envelope(command: str, status: str, data: Any, errors: list[dict[str, Any]]) -> None:
    body = {"schema": SCHEMA, "command": command, "status": status, "data": data, "errors": errors}
    # Not msgspec.json: it refuses names that are not UTF-8, and leaves C1 and bidirectional controls as they are.
    plain = msgspec.to_builtins(body, enc_hook=str)
    sys.stdout.write(json.dumps(plain, separators=(",", ":")).replace("\x7f", "\\u007f") + "\n")
    sys.stdout.flush()
