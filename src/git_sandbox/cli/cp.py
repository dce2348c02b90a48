from __future__ import annotations

from pathlib import Path

import click

from git_sandbox import settings
from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import copy, live


@click.command("cp")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--limit", metavar="SIZE", default="16G", help="The most that may come out. [default: 16G]")
@common.json_option
def command(source: str, target: str, limit: str, as_json: bool) -> Result:
    """Copy a file or a directory into a running sandbox, or out of it.

    One side is ID:PATH; a guest path that is not absolute is one of /workspace. Directories go with all below them.
    Symbolic links are followed where they are: a link of the guest arrives as the file it points to there. Nothing
    on this host is written through a link. For a host path with a colon in it write ./a:b.

    A file of the guest may have no end: when more than --limit arrives, or a large copy leaves less than 1 GiB of this
    host's disk free, it is stopped, and nothing of it is kept.

    \b
    Examples:
      sandbox cp vm-1:build/report.html .
      sandbox cp ~/fixtures vm-1:/tmp
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    given, wanted = copy.plan(source, target)
    most = settings.size("limit", limit)
    name = given.sandbox or wanted.sandbox or ""
    session = live.open_session(common.repository(), name)
    if wanted.sandbox:
        copy.upload(session, Path(given.path), wanted.path)
        return Result("cp", {"id": name, "target": wanted.path})
    return Result("cp", {"id": name, "target": copy.download(session, given.path, Path(wanted.path), most)})
