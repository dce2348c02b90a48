from __future__ import annotations

from typing import Any

import click

from git_sandbox.cli import life
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError


@click.command("spawn")
@life.options
@click.option("--open", "opened", is_flag=True, help="Leave it running and open it in your editor: `sandbox code`.")
@click.option(
    "--on",
    "places",
    multiple=True,
    metavar="PLACE",
    help="Run it on another machine: ssh:HOST, the one of several with the most room.",
)
def command(opened: bool, places: tuple[str, ...], **given: Any) -> Result:
    """Open a shell in a new sandbox of this repository.

    The sandbox is a virtual machine with your repository at /workspace: all of it, with what is staged, changed,
    untracked or in the middle of a rebase. When the shell ends, commits, branches, tags, stashes and uncommitted work
    come home into refs/sandbox*/ID, and a fast-forward is merged unless --on-exit says otherwise. The exit code is
    that of the shell.

    With --on ssh:HOST the machine is on that host, as with `run --on`, and the shell comes through your ssh. When the
    connection drops it keeps running: `sandbox shell ID` opens another one, `sandbox recover --on ssh:HOST ID` ends it
    and brings its work home.

    \b
    Examples:
      sandbox
      sandbox --name fix-login --memory 4G
      sandbox --net nat --on-exit ask
      sandbox --open --name dev
      sandbox spawn --on ssh:build-1
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    elsewhere = life.Elsewhere(places)
    if not opened:
        return life.live("spawn", None, given, elsewhere=elsewhere)
    if places:
        raise UsageError("--open and --on cannot be used together", hint="an editor reaches machines of this host")
    from git_sandbox.cli import code

    as_json, words = bool(given["as_json"]), code.ready()
    return code.after(life.live("spawn", None, given | {"detach": True}), words, as_json=as_json)
