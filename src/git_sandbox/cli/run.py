from __future__ import annotations

from typing import Any

import click

from git_sandbox.cli import common, life
from git_sandbox.cli.result import Result


@click.command("run", context_settings={"ignore_unknown_options": False})
@life.options
@click.option("--count", type=int, metavar="N", help="N sandboxes at once, each with a SANDBOX_INDEX of 1 to N.")
@common.tty_option
@click.argument("command_line", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(command_line: tuple[str, ...], **given: Any) -> Result:
    """Run a command in a new sandbox of this repository.

    On a terminal the command has one, too: its size, its keys, one output for everything. Otherwise, or with -T,
    standard input, output and error pass through byte for byte. The exit code is that of the command, 128 + n when
    signal n killed it. Commits come home into refs/sandbox*/ID and are not merged unless --on-exit merge is given.
    With --json there is no terminal unless -t asks for it, and the command's standard output goes to standard error.

    Ctrl-C is for the command. The second one, or SIGTERM, ends all that runs in the sandbox: SIGTERM, SIGKILL after
    --stop-timeout seconds or one more Ctrl-C. What programs save on the way out comes home.

    With --count N the command runs in N sandboxes side by side, without input, for N tries of one task: SANDBOX_INDEX
    tells it which it is (1 to N), SANDBOX_COUNT how many there are. Each line of output begins with the sandbox's
    name; with --name NAME they are called NAME-1 to NAME-N. One that fails disturbs no other. The exit code is 0 when
    all ended with 0, else that of the first that did not. When memory or disk are too small for N, nothing is started.

    \b
    Examples:
      sandbox run -- make test
      sandbox run -- sh -c 'make fmt && git commit -am "Format"'
      git diff | sandbox run --name review -- ./review.sh
      sandbox run -- vim README.md
      sandbox run --count 4 --env TOKEN -- ./agent.sh && sandbox compare
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    return life.live("run", command_line, given)
