from __future__ import annotations

from pathlib import Path

import click

from git_sandbox import settings
from git_sandbox.cli import common, progress
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import live, scp


@click.command("cp")
@click.argument("source", metavar="SRC", shell_complete=common.complete_sandbox_path)
@click.argument("target", metavar="DST", shell_complete=common.complete_sandbox_path)
@click.option("--limit", metavar="SIZE", default="16G", help="Stop after this much data. [default: 16G]")
@click.option("-L", "--follow-links", is_flag=True, help="Follow symbolic links instead of copying them.")
@click.option(
    "-y", "--yes", is_flag=True, help="Also copy out files that programs on this host run or obey by themselves."
)
@common.json_option
def command(source: str, target: str, limit: str, follow_links: bool, yes: bool, as_json: bool) -> Result:  # noqa: PLR0917 - click passes by name
    """Copy a file or a directory into a running sandbox, or out of it.

    One side is ID:PATH; a guest path that is not absolute is one of /workspace. Directories go with all below them, as
    one stream; times, modes and symbolic links are kept. Nothing on this host is written through a link, and a link of
    the guest that leads out of what is copied is left out. For a host path with a colon in it write ./a:b.

    A repository is never copied out, and files that git, shells or editors on this host act on by themselves (dot
    files, for example) only with --yes. A file in the guest may be endless: when more than --limit arrives, or less
    than 1 GiB of this host's disk is free, the copy is stopped, and nothing of it is kept.

    \b
    Examples:
      sandbox cp vm-1:build/report.html .
      sandbox cp ~/fixtures vm-1:/tmp
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    given, transfer = scp.plan(source, target)
    most = settings.size("limit", limit)
    repo, name = common.sandbox(given.sandbox or transfer.sandbox or "")
    session = live.open_session(repo, name)
    with progress.shown(quiet=as_json) as say:
        if transfer.sandbox:
            scp.upload(session, Path(given.path), transfer.path, say, follow=follow_links)
            return Result("cp", {"id": name, "target": transfer.path})
        done = scp.download(session, given.path, Path(transfer.path), most, say, follow=follow_links, accept_risky=yes)
    notes = tuple(f"not copied: {skipped}" for skipped in done.arrival.skipped)
    data = {"id": name, "target": done.target, "skipped": done.arrival.skipped, "risky": done.arrival.risky}
    return Result("cp", data, notes=notes)
