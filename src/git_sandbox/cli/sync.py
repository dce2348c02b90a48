from __future__ import annotations

import click

from git_sandbox.cli import common, ondisk, progress, words
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import guest_requests, live
from git_sandbox.text import one_line


@click.command("sync")
@common.id_argument
@click.option("--send", is_flag=True, help="Send this repository's branches into the sandbox instead.")
@common.json_option
def command(name: str, send: bool, as_json: bool) -> Result:
    """Bring home now what a running sandbox has: commits, branches, tags, stashes, uncommitted work.

    Only what is new since the last time is sent. The sandbox keeps running; nothing is merged. In the guest, `sandbox
    push` does the same. With --send your branches appear in the guest as refs/remotes/host/*, as with `sandbox pull`
    there.

    \b
    Examples:
      sandbox sync vm-1
      sandbox sync --send vm-1
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo, name = common.sandbox(name)
    if send:
        sent = live.send(repo, name)
        return Result("sync", {"id": name, "sent": sent}, text="\n".join(sent))
    with progress.shown(quiet=as_json) as say:
        brought = live.sync(repo, name, say)
    came = brought.collected
    lines = guest_requests.describe(brought)
    lines += [f"warning: {one_line(text, limit=300)}" for text in brought.warnings]
    lines += words.in_progress(name, brought.manifest.operation, brought.manifest.unmerged, running=True)
    lines += ondisk.lines(name, brought.changes, runs=True)
    data = {
        "id": name, "head": came.head, "wip": came.wip, "updated": came.updated, "changes": brought.changes,
        "warnings": brought.warnings, "operation": brought.manifest.operation, "unmerged": brought.manifest.unmerged,
    }  # fmt: skip
    return Result("sync", data, text="\n".join(lines))
