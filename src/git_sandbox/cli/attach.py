from __future__ import annotations

import click

from git_sandbox.cli import common, shell
from git_sandbox.cli.result import Result


@click.command("attach")
@common.id_argument
@common.json_option
def command(name: str, as_json: bool) -> Result:
    """Open a shell in a detached sandbox; the same as `sandbox shell`.

    \b
    Examples:
      sandbox --detach --name long      start one and leave it running
      sandbox attach long
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    return shell.attach("attach", name, as_json=as_json)
