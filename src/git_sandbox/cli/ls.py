from __future__ import annotations

import shlex

import click

from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import inspect
from git_sandbox.sandbox.inspect import Row
from git_sandbox.text import one_line


@click.command("ls")
@common.json_option
def command(as_json: bool) -> Result:
    """List the sandboxes of this repository.

    STATE is running, recoverable (its disk holds work that is not home: `sandbox recover ID`), stopped (everything is
    home, the disk is kept until `sandbox drop ID`), refs (only refs are left) or broken (its record is damaged).
    """
    del as_json
    rows = inspect.rows(common.repository())
    if not rows:
        return Result("ls", [], text="No sandboxes in this repository. `sandbox` starts one.")
    return Result("ls", rows, text=common.table(_HEAD, [_cells(row) for row in rows]))


_HEAD = ("ID", "STATE", "AGE", "BASE", "COMMITS", "WORK", "DISK", "COMMAND")


def _cells(row: Row) -> tuple[str, ...]:
    work = "merged" if row.merged else "uncommitted" if row.uncommitted else "-"
    return (
        row.id,
        row.state.value,
        common.age(row.created) if row.created else "-",
        f"{one_line(row.branch or '(detached)', limit=30)}@{row.base[:8]}" if row.base else "(unborn)",
        "-" if row.ahead is None else str(row.ahead),
        work,
        common.size(row.disk_bytes) if row.disk_bytes else "-",
        one_line(shlex.join(row.command), limit=40) or "(shell)",
    )
