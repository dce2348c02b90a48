from __future__ import annotations

from typing import Any

import click

from git_sandbox.cli import life
from git_sandbox.cli.result import Result


@click.command("run", context_settings={"ignore_unknown_options": False})
@life.options
@click.argument("command_line", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(command_line: tuple[str, ...], **given: Any) -> Result:
    """Run a command in a new sandbox of this repository, without a terminal.

    Standard input, output and error pass through byte for byte. The exit code is that of the command, 128 + n when
    signal n killed it. Commits come home into refs/sandbox*/ID and are not merged unless --on-exit merge is given.
    With --json the command's standard output goes to standard error.

    \b
    Examples:
      sandbox run -- make test
      sandbox run -- sh -c 'make fmt && git commit -am "Format"'
      git diff | sandbox run --name review -- ./review.sh
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    return life.live("run", command_line, given)
