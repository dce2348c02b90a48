from __future__ import annotations

import click

from git_sandbox.cli import common, progress, words
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import drop, uncommitted
from git_sandbox.sandbox.inspect import base_of


@click.command("recover")
@click.argument("name", metavar="[ID]", required=False, shell_complete=common.complete_ids)
@common.json_option
def command(name: str | None, as_json: bool) -> Result:
    """Bring home what is on the disk of a sandbox that ended badly; of all recoverable ones without ID.

    A rescue machine attaches the disk, so nothing a guest wrote is read by this host's kernel. Commits, branches,
    tags, stashes and uncommitted work land in refs/sandbox*/ID; the disk stays until `sandbox drop ID`.

    \b
    Examples:
      sandbox recover                  all that need it
      sandbox recover vm-1
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo = common.repository()
    names = [name] if name else drop.recoverable(repo)
    lines, data = [], []
    for each in names:
        with progress.shown(quiet=as_json) as say:
            found = drop.recover(repo, each, say)
        data.append({"id": each, "head": found.home.collected.head, "wip": found.home.collected.wip})
        lines += words.homecoming(repo, found.record, found.home) or [f"Sandbox {each}: no new commits."]
        took = found.home.collected
        if uncommitted.new_work(repo, base_of(repo, found.record), took.head, took.wip):
            lines.append(f"Uncommitted work is in refs/sandbox-wip/{each}: `sandbox diff --wip {each}`")
        lines += [f"warning: {text}" for text in found.home.warnings]
    return Result("recover", data, text="\n".join(lines) or "Nothing to recover.")
