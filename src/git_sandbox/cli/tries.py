"""`run --count N`: the output of parallel tries of one task, labelled, and the result of each."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

import click

from git_sandbox import store
from git_sandbox.cli import first, places, progress
from git_sandbox.cli.result import Result
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.siblings import MAX_SIBLINGS
from git_sandbox.sandbox import listing, parallel
from git_sandbox.sandbox.crowd import Ran, Try
from git_sandbox.sandbox.listing import Row
from git_sandbox.sandbox.options import Options
from git_sandbox.text import one_line, printable

SHOWN = 200  # tries that are named at the end
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")


def live(repo: Repository, options: Options, count: int, *, share_processors: bool, as_json: bool) -> Result:
    planned = parallel.plan(repo, options, count, share_processors=share_processors)
    with store.followed(repo) as where:
        with progress.shown(quiet=as_json) as say:
            first.first_use(options.settings, say, quiet=as_json)
            room = places.room(options, say, quiet=as_json)
            ran = parallel.run(repo, planned, say, lambda *line: _line(*line, as_json=as_json), room=room)
        rows = {row.id: row for row in listing.rows(where())}
    return Result("run", _data(ran.tries), notes=tuple(_notes(ran, rows)), exit_code=ran.exit_code)


def _line(label: str, channel: int, line: bytes, *, as_json: bool) -> None:
    """A line with the sandbox's name before it; on a terminal nothing in it is obeyed."""
    to = sys.stderr if channel != 1 or as_json else sys.stdout
    number = sum(label.encode()) % len(_COLOURS)
    mark = click.style(f"{label} |", fg=_COLOURS[number]) if to.isatty() else f"{label} |"
    shown = printable(line.rstrip(b"\r")).encode() if to.isatty() else line
    to.buffer.write(mark.encode() + b" " + shown + b"\n")
    to.flush()


def _data(tries: Sequence[Try]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(attempt) for attempt in tries]


def _notes(ran: Ran, rows: dict[str, Row]) -> list[str]:
    tries = ran.tries
    width = max((len(attempt.id or "-") for attempt in tries), default=0)
    chosen = _shown(tries)
    lines = [f"{attempt.id or '-':{width}}  {_became(attempt, rows.get(attempt.id or ''))}" for attempt in chosen]
    if len(chosen) < len(tries):
        lines.append(f"and {len(tries) - len(chosen)} more: `sandbox ls`")
    for attempt in chosen:
        warnings = [text for text in (attempt.ended.warnings if attempt.ended else ()) if text not in ran.warned]
        warnings += [attempt.failure.hint] if attempt.failure else []
        lines += [f"{attempt.id or '-'}: {one_line(text, limit=300)}" for text in warnings if text]
    ahead = [attempt.id for attempt in tries if attempt.id and attempt.id in rows and rows[attempt.id].ahead]
    run = [attempt.id for attempt in tries if attempt.detached and attempt.id]
    if run:
        lines.append(f"Running: `sandbox ls --watch`. Stop: `sandbox stop {' '.join(run)}`")
    elif len(ahead) > MAX_SIBLINGS:
        lines.append("Group: `sandbox compare --group-by result`. Rank: `sandbox compare --best CMD`")
    elif len(ahead) > 1:
        lines.append(
            f"Compare: `sandbox compare {' '.join(ahead)}`. Look: `sandbox diff ID`. Merge: `sandbox merge ID`"
        )
    elif ahead:
        lines.append(f"Look: `sandbox diff {ahead[0]}`. Merge: `sandbox merge {ahead[0]}`")
    return lines


def _shown(tries: Sequence[Try]) -> Sequence[Try]:
    """All; of very many those that went wrong first, and as many in all as anybody reads."""
    if len(tries) <= SHOWN:
        return tries
    first = sorted(tries, key=lambda attempt: attempt.failure is None and attempt.exit_code == 0)[:SHOWN]
    return sorted(first, key=lambda attempt: attempt.index)


def _became(attempt: Try, row: Row | None) -> str:
    begin = f"try {attempt.index}  "
    if attempt.failure is not None:
        cause = f" ({one_line(attempt.failure.cause, limit=300)})" if attempt.failure.cause else ""
        return begin + click.style(f"failed: {one_line(attempt.failure.message, limit=300)}{cause}", fg="red")
    if attempt.detached:
        return f"{begin}runs"
    ended = f"{begin}exit {attempt.exit_code}  "
    if row is None:
        return f"{ended}no changes: it is in the trash"
    return f"{ended}{row.ahead or 0} commit(s){', uncommitted work' if row.uncommitted else ''}"
