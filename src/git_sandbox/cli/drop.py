from __future__ import annotations

import click

from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.sandbox import drop, overview
from git_sandbox.store import State


@click.command("drop")
@click.argument("names", metavar="ID...", nargs=-1, shell_complete=common.complete_ids)
@click.option("-f", "--force", is_flag=True, help="Also when its work exists nowhere else.")
@click.option("--merged", is_flag=True, help="Every stopped sandbox whose work is merged.")
@common.json_option
def command(names: tuple[str, ...], force: bool, merged: bool, as_json: bool) -> Result:
    """Remove sandboxes: refs, disk and record.

    Refuses while commits or uncommitted work exist nowhere else, unless --force is given. What the refs pointed at is
    printed; git keeps those objects for some weeks.
    """
    del as_json
    repo = common.repository()
    if merged:
        done = (State.STOPPED, State.REFS)
        names = (*names, *(row.id for row in overview.rows(repo) if row.merged and row.state in done))
    if not names and not merged:
        raise UsageError("which sandbox?", hint="name one of `sandbox ls`, or use --merged")
    gone = [drop.drop(repo, name, force=force) for name in dict.fromkeys(names)]
    lines = []
    for each in gone:
        lines.append(f"Dropped {each.id}")
        lines += [f"  {name} was {value}" for name, value in each.tips.items() if value in each.unmerged]
    return Result("drop", gone, text="\n".join(lines) or "Nothing to drop.")
