"""The result of a verb, and its output: text for people, or a versioned JSON envelope.

Envelope: `{"schema": 1, "command": …, "status": "ok"|"error", "data": …, "errors": [{kind, message, cause, hint,
exit_code}]}`, one line on standard output, also for failures before a verb ran.
"""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from git_sandbox import notices
from git_sandbox.cli import printer
from git_sandbox.errors import SandboxError
from git_sandbox.later import dataclass, field
from git_sandbox.text import one_line, printable

SCHEMA = 1
MOST = 2000  # characters of a message, which has no colours and no lines of its own: a name in it may


@dataclass(frozen=True)
class Result:
    """`data`: plain values, dataclasses or msgspec structs. `text`: the same for people. `notes` go to stderr."""

    command: str
    data: Any = None
    text: str = ""
    notes: tuple[str, ...] = field(default=())
    exit_code: int = 0


def show(result: Result, *, as_json: bool) -> None:
    _notices()
    if as_json:
        _envelope(result.command, "ok", result.data, [])
        return
    for note in result.notes:
        printer.line(note)
    if result.text:
        printer.line(result.text, err=False)


def fail(command: str, error: SandboxError, *, as_json: bool) -> None:
    """Message, cause and next step on stderr, or the envelope on stdout. No name in them begins a line."""
    _notices()
    if as_json:
        row = {
            "kind": error.kind, "message": error.message, "cause": error.cause, "hint": error.hint,
            "exit_code": error.exit_code,
        }  # fmt: skip
        _envelope(command, "error", None, [row])
        return
    printer.line(f"{click.style('error:', fg='red', bold=True)} {one_line(error.message, limit=MOST)}")
    for line in printable(error.cause).splitlines():
        printer.line(f"  {line}")
    if error.hint:
        printer.line(f"{click.style('hint:', fg='cyan')} {one_line(error.hint, limit=MOST)}")


def _notices() -> None:
    for notice in notices.heard():
        printer.line(f"note: {one_line(notice, limit=MOST)}")


def _envelope(command: str, status: str, data: Any, errors: list[dict[str, Any]]) -> None:
    body = {"schema": SCHEMA, "command": command, "status": status, "data": data, "errors": errors}
    # Not msgspec.json: it refuses names that are not UTF-8, and leaves C1 and bidirectional controls as they are.
    plain = msgspec.to_builtins(body, enc_hook=str)
    printer.machine(json.dumps(plain, separators=(",", ":")).replace("\x7f", "\\u007f"))
