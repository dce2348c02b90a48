from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import IO

import click

from git_sandbox import locks, store
from git_sandbox.cli import common, printer
from git_sandbox.cli.result import Result
from git_sandbox.errors import Interrupted, StateError, UsageError
from git_sandbox.store import Entry
from git_sandbox.text import printable

EVERY = 0.25  # seconds between two looks of --follow
MOST_JSON = 1 << 20  # bytes, the last ones
# What a program tells its terminal and not its reader (ECMA-48: CSI, OSC and other strings, two-byte sequences).
_CONTROL = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])?")


@click.command("logs")
@common.id_argument
@click.option("-f", "--follow", is_flag=True, help="Wait for more output until the sandbox ends.")
@common.json_option
def command(name: str, follow: bool, as_json: bool) -> Result:
    """Print what the command of a detached sandbox has written.

    On a terminal, colours and cursor movements are left out. Elsewhere it is byte for byte what the command wrote.
    The first and the last 8 MiB are kept; --follow shows the first, and the last when the sandbox has ended.

    \b
    Examples:
      sandbox logs -f vm-1
      sandbox logs vm-1 > build.log
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if follow and as_json:
        raise UsageError("--follow and --json cannot be used together", hint="`sandbox ls --json` shows its state")
    repo, name = common.sandbox(name)
    entry = store.find(repo, name)
    path = entry.directory.output
    if as_json:
        content = _last(path)
        data = {"id": name, "path": path, "bytes": len(content), "text": content.decode("utf-8", "replace")}
        return Result("logs", data)
    try:
        with path.open("rb") as source:
            _copy(source, entry.directory.lock, follow=follow)
    except FileNotFoundError:
        raise _nothing(entry) from None
    except Interrupted as signal:
        return Result("logs", exit_code=signal.exit_code)
    return Result("logs")


def _nothing(entry: Entry) -> StateError:
    hint = "only detached commands have a log: `sandbox run --detach -- CMD`, or an agent"
    return StateError(f"sandbox `{entry.id}` has no output", hint=hint)


def _last(path: Path) -> bytes:
    try:
        with path.open("rb") as source:
            source.seek(max(0, os.fstat(source.fileno()).st_size - MOST_JSON))
            return source.read(MOST_JSON)
    except FileNotFoundError:
        return b""


def _copy(source: IO[bytes], lock: Path, *, follow: bool) -> None:
    shown, rest = sys.stdout.isatty(), b""
    while True:
        over = not follow or not locks.held(lock)  # before the read: what is written until then is read
        while chunk := source.read(65536):
            *lines, rest = (rest + chunk).split(b"\n") if shown else [b""]
            for line in lines:
                printer.line(plain(line), err=False)
            if not shown:
                printer.raw(chunk)
        if over:
            break
        time.sleep(EVERY)
    if rest:
        printer.line(plain(rest), err=False)


def plain(line: bytes) -> str:
    """A line as a reader sees it: without what steers a terminal, and of what was overwritten only the last."""
    text = _CONTROL.sub(b"", line).rstrip(b"\r")
    return printable(text.rpartition(b"\r")[2])
