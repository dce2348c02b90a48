from __future__ import annotations

import click

from git_sandbox.cli import common, progress
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import live
from git_sandbox.text import one_line


@click.command("sync")
@common.id_argument
@common.json_option
def command(name: str, as_json: bool) -> Result:
    """Bring home now what a running sandbox has: commits, branches, tags, stashes, uncommitted work.

    Only what is new since the last time moves. The sandbox goes on running; nothing is merged.
    """
    repo = common.repository()
    with progress.shown(quiet=as_json) as say:
        came = live.sync(repo, name, say).collected
    lines = [f"{ref}  {(old or 'new')[:10]} -> {new[:10]}" for ref, (old, new) in came.updated.items()]
    lines += [f"warning: {one_line(text, limit=300)}" for text in came.warnings]
    data = {"id": name, "head": came.head, "wip": came.wip, "updated": came.updated, "warnings": came.warnings}
    return Result("sync", data, text="\n".join(lines) or "Everything was here already.")
