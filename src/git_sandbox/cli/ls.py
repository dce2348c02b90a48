from __future__ import annotations

import sys
import time

import click

from git_sandbox.cli import common, printer, tables
from git_sandbox.cli.result import Result
from git_sandbox.errors import Interrupted, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import listing
from git_sandbox.sandbox.listing import Row

EVERY = 2.0  # seconds between two looks of --watch


@click.command("ls")
@click.option("-w", "--watch", is_flag=True, help="Refresh every two seconds until Ctrl-C.")
@click.option("-a", "--all", "everything", is_flag=True, help="Include the trash.")
@click.option("--everywhere", is_flag=True, help="List those of all repositories, including deleted ones.")
@common.json_option
def command(watch: bool, everything: bool, everywhere: bool, as_json: bool) -> Result:
    """List the sandboxes of this repository.

    STATE is running, recovering (its machine died, and its disk is being read), recoverable (its disk holds work that
    is not home: `sandbox recover ID`), stopped (everything is home, the disk is kept until `sandbox drop ID`), refs
    (only refs are left) or broken (its record is damaged). With --all also trash: it was dropped, or ended without a
    change; `sandbox restore ID` brings it back, and EXPIRES says how long that works.

    BASE is the branch and commit the sandbox started from, with a + when that branch has moved on since. AHEAD counts
    the commits beyond it. WORK is merged, stashed (only your stash has it), uncommitted (work that is in no commit), or
    -; partly home when something could not come and is only on its disk (--json has what and why); how much else is
    only there (ignored, outside the workspace, in repositories inside); and unknown when the guest could not be
    searched. OVERLAP names other sandboxes that changed some of the same files, and how many; `sandbox compare` has
    details.

    With --everywhere, from any directory: each sandbox under a unique name, KEY/ID, with its disk and where its
    repository was last seen, "gone" when it is not there any more. `sandbox recover KEY/ID --into REPO` brings the work
    of a sandbox whose repository is gone into another one. A repository that was moved is recognized as soon as a
    command runs in it. Every command that takes an ID takes KEY/ID in any directory; `merge`, `compare` and `run
    --from` work on the checkout they run in and take only sandboxes of its repository.

    \b
    Examples:
      sandbox ls
      sandbox ls --watch
      sandbox ls --all
      sandbox ls --everywhere
      sandbox ls --json | jq -r '.data[] | select(.state == "recoverable").id'
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if everywhere:
        if watch or everything:
            raise UsageError("--everywhere cannot be used with --watch or --all")
        return _everywhere()
    repo = tables.repository()
    if watch:
        return _watched(repo, everything=everything, as_json=as_json)
    rows = _rows(repo, everything=everything)
    return Result("ls", rows, text=tables.text(rows))


def _everywhere() -> Result:
    from git_sandbox.sandbox import everywhere

    look = everywhere.look()
    return Result("ls", look, text=tables.everywhere(look))


def _rows(repo: Repository, *, everything: bool) -> list[Row]:
    rows = listing.rows(repo)
    if everything:
        from git_sandbox.sandbox import trashed

        trashed.finish(repo)
        rows += trashed.rows(repo)
    return rows


def _watched(repo: Repository, *, everything: bool, as_json: bool) -> Result:
    if as_json or not sys.stdout.isatty():
        raise UsageError("--watch needs a terminal", hint="without it, `sandbox ls` prints the list once")
    before: set[tuple[str, str]] | None = None
    try:
        while True:
            rows = _rows(repo, everything=everything)
            printer.clear()
            printer.line(tables.text(rows), err=False)
            text = _told(rows)
            for name, state in sorted(text - before if before is not None else ()):
                printer.bell(f"sandbox {name}: {state}")
            before = text
            time.sleep(EVERY)
    except Interrupted:
        return Result("ls")


def _told(rows: list[Row]) -> set[tuple[str, str]]:
    """Which sandboxes wait for somebody, or have ended."""
    return {(row.id, row.activity.state) for row in rows if row.activity and row.activity.state != "working"}
