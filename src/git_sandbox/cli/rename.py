from __future__ import annotations

import click

from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import rename


@click.command("rename")
@common.id_argument
@click.argument("new", metavar="NEW")
@common.json_option
def command(name: str, new: str, as_json: bool) -> Result:
    """Give a stopped sandbox another name.

    Its refs (refs/sandbox/ID becomes refs/sandbox/NEW, with reflogs, in submodules as well), disk and record are
    renamed; the guest's host name is NEW from its next start on. Branches created from it keep their names. A
    running sandbox is refused: stop it first.

    \b
    Examples:
      sandbox rename vm-1 fix-login
      sandbox rename KEY/vm-1 fix-login      KEY is in `ls --everywhere`
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    done = rename.rename(*common.sandbox(name), new)
    return Result("rename", done, text=f"Sandbox {done.former} is now called {done.id}. Look: `sandbox log {done.id}`")
