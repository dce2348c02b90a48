from __future__ import annotations

import importlib.util
import os

import click

from git_sandbox.errors import Interrupted, RequirementError

SDK = "mcp"


@click.command("mcp")
@click.option(
    "--repository", "places", multiple=True, metavar="PATH", type=click.Path(),
    help="Serve this repository, the first by default; may be repeated. [default: the one around you]",
)  # fmt: skip
def command(places: tuple[str, ...]) -> None:
    """Serve tools for a coding agent on this computer, over standard input and output (Model Context Protocol).

    A program such as Claude Code, Codex, VS Code or Zed starts it; `sandbox help host-agents` says what to write into
    their settings. The agent can start sandboxes, work in those it started, bring their commits home and look at all.
    To merge, or to give a sandbox network access, credentials, directories or images of this computer, it has to ask
    you, through that program; the setting mcp-allow says what you allow without being asked.

    It needs `pip install 'git-sandbox[mcp]'`, and ends with its input.

    \b
    Examples:
      sandbox mcp
      sandbox mcp --repository ~/src/app --repository ~/src/lib
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if importlib.util.find_spec(SDK) is None:
        raise RequirementError("`sandbox mcp` needs the package `mcp`", hint="pip install 'git-sandbox[mcp]'")
    from git_sandbox.mcp import service

    ready = service.service(places)
    from git_sandbox.mcp import server  # takes a second

    code = 0
    try:
        server.serve(ready)
    except Interrupted as ended:
        code = ended.exit_code
    # All of ours has ended. A thread that reads standard input may not have, and nobody wakes it; to take the SDK apart
    # takes a second, of the two after which clients end a server by force.
    os._exit(code)
