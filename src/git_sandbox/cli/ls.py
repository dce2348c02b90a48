from __future__ import annotations

import shlex
import sys
import time

import click

from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.errors import Interrupted, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import overview
from git_sandbox.sandbox.overview import Row
from git_sandbox.text import one_line

EVERY = 2.0  # seconds between two looks of --watch
_NAMED = 2  # siblings named under OVERLAP; --json has them all
_NONE = "No sandboxes in this repository. `sandbox` starts one."


@click.command("ls")
@click.option("-w", "--watch", is_flag=True, help="Show it again every two seconds, until Ctrl-C.")
@common.json_option
def command(watch: bool, as_json: bool) -> Result:
    """List the sandboxes of this repository.

    STATE is running, recoverable (its disk holds work that is not home: `sandbox recover ID`), stopped (everything is
    home, the disk is kept until `sandbox drop ID`), refs (only refs are left) or broken (its record is damaged).

    BASE is the branch and commit it started from, with a + when that branch has moved on since. AHEAD counts the
    commits beyond it. WORK is merged, uncommitted (work that is in no commit), or -. OVERLAP names the other sandboxes
    that changed some of the same files, and how many; `sandbox compare` says more.

    \b
    Examples:
      sandbox ls
      sandbox ls --watch
      sandbox ls --json | jq -r '.data[] | select(.state == "recoverable").id'
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo = common.repository()
    if watch:
        return _watched(repo, as_json=as_json)
    rows = overview.rows(repo)
    return Result("ls", rows, text=_text(rows))


def _watched(repo: Repository, *, as_json: bool) -> Result:
    if as_json or not sys.stdout.isatty():
        raise UsageError("--watch needs a terminal", hint="without it, `sandbox ls` prints the list once")
    try:
        while True:
            shown = _text(overview.rows(repo))
            click.clear()
            click.echo(shown)
            time.sleep(EVERY)
    except Interrupted:
        return Result("ls")


def _text(rows: list[Row]) -> str:
    return common.table(_HEAD, [_cells(row) for row in rows]) if rows else _NONE


_HEAD = ("ID", "STATE", "AGE", "BASE", "AHEAD", "WORK", "OVERLAP", "DISK", "COMMAND")


def _cells(row: Row) -> tuple[str, ...]:
    work = "merged" if row.merged else "uncommitted" if row.uncommitted else "-"
    return (
        row.id,
        row.state.value,
        common.age(row.created) if row.created else "-",
        _base(row),
        "-" if row.ahead is None else str(row.ahead),
        work,
        _overlap(row) or "-",
        common.size(row.disk_bytes) if row.disk_bytes else "-",
        one_line(shlex.join(row.command), limit=40) or (f"(fork of {row.origin})" if row.origin else "(shell)"),
    )


def _overlap(row: Row) -> str:
    """The siblings with most files in common."""
    most = sorted(row.overlap.items(), key=lambda item: -item[1])
    named = ", ".join(f"{name} ({count})" for name, count in most[:_NAMED])
    return f"{named} +{len(most) - _NAMED}" if len(most) > _NAMED else named


def _base(row: Row) -> str:
    if not row.base:
        return "(unborn)"
    return f"{one_line(row.branch or '(detached)', limit=30)}@{row.base[:8]}{'+' if row.moved else ''}"
