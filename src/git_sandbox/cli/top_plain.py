"""`sandbox top` without a screen: one line for each sandbox, then one for each change."""

from __future__ import annotations

import sys
import time

from git_sandbox.cli import printer
from git_sandbox.cli.result import Result
from git_sandbox.errors import Interrupted
from git_sandbox.tui.content import COLUMNS, Row, Scope, Source

EVERY = 2.0  # seconds between two looks
_STEADY = ("STATE", "WORK", "AHEAD", "NET", "OVERLAP")  # what is worth a line when it changes
_ONCE = ("AGE", "CPU", "MEMORY", "DISK", "BASE", "COMMAND")


def once(source: Source, scope: Scope) -> Result:
    """For --json: `ls` with what `top` adds, by column."""
    rows = source.listing(scope).rows
    data = [{"id": row.name, **dict(zip(map(str.lower, COLUMNS[1:]), row.cells[1:], strict=True))} for row in rows]
    return Result("top", data)


def lines(source: Source, scope: Scope) -> Result:
    """Once, and on a terminal again and again what is new, until Ctrl-C."""
    before: dict[str, str] = {}
    try:
        while True:
            listing = source.listing(scope)
            now = {row.name: sentence(row, _STEADY) for row in listing.rows}
            if not before:
                printer.line(f"{listing.title}: {len(now)} {'sandbox' if len(now) == 1 else 'sandboxes'}", err=False)
                for row in listing.rows:
                    printer.line(sentence(row, _STEADY + _ONCE), err=False)
            else:
                _changes(before, now)
            if not sys.stdout.isatty():
                return Result("top")
            before = now or {"": ""}
            time.sleep(EVERY)
    except Interrupted:
        return Result("top")


def _changes(before: dict[str, str], now: dict[str, str]) -> None:
    for name, text in now.items():
        if before.get(name) != text:
            printer.line(text, err=False)
    for name in before.keys() - now.keys() - {""}:
        printer.line(f"{name}: gone", err=False)


def sentence(row: Row, names: tuple[str, ...]) -> str:
    """`vm-1: running, waiting; ahead 2; …`: columns with nothing in them are left out."""
    cells = dict(zip(COLUMNS, row.cells, strict=True))
    parts = [f"{name.lower()} {cells[name]}" for name in names[1:] if cells[name] not in ("-", "…")]
    return "; ".join([f"{row.name}: {cells[names[0]]}", *parts])
