from __future__ import annotations

from pathlib import Path

import click

from git_sandbox.cli import common, life, printer, progress
from git_sandbox.cli.result import Result
from git_sandbox.jobs.result import Hearing
from git_sandbox.sandbox import dispatch
from git_sandbox.settings import resolve


@click.command("collect")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--quiet", "-q", is_flag=True, help="Do not print what the command printed.")
@common.json_option
def command(file: Path, quiet: bool, as_json: bool) -> Result:
    """Bring home the result of a job that ran on another machine.

    FILE is what `sandbox worker` wrote. It belongs to one sandbox of this repository, created by `sandbox run
    --job-out` and shown as away by `sandbox ls`. Commits, branches, tags, stashes and uncommitted work land in
    refs/sandbox*/ID, examined like those of a machine on this host; nothing is merged. The exit code is that of the
    command.

    \b
    Examples:
      sandbox run --name try --job-out try.job -- make test
      ssh build-1 sandbox worker < try.job > try.result
      sandbox collect try.result
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo = common.repository()
    hearing = Hearing() if quiet else Hearing(output=printer.Foreign(as_json=as_json))
    with progress.shown(quiet=as_json) as say:
        say("Collecting commits and uncommitted work")
        finished = dispatch.collect(repo, file, hearing)
    settings, _ = resolve({"on_exit": "keep", "dirty": "keep"})
    return life.settled("collect", settings, finished, as_json=as_json)
