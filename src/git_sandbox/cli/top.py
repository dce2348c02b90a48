from __future__ import annotations

import importlib.util
import os
import sys

import click

from git_sandbox.cli import common, top_plain
from git_sandbox.cli.result import Result
from git_sandbox.cli.top_source import Host, OwnVerbs
from git_sandbox.errors import Interrupted, RequirementError
from git_sandbox.tui.content import Scope

EXTRA = "textual"  # what the extra `tui` brings


@click.command("top")
@click.option("--everywhere", is_flag=True, help="The sandboxes of all repositories.")
@click.option("--plain", is_flag=True, help="Print lines of text, for screen readers and logs; no keys.")
@common.json_option
def command(everywhere: bool, plain: bool, as_json: bool) -> Result:
    """Watch and control all sandboxes on one screen: which work, which wait for you, what they did; keys run commands.

    The list has what `ls` has, with each one's processor time, memory and network. Below it is the selected sandbox:
    its log, what a merge would change, what is on its disk only, what it asked its network for, the last lines of its
    program. Keys run the same commands that you would type: attach, shell, sync, merge (after showing what it brings),
    fork, stop, drop, restore, compare. `?` lists the keys; the mouse works, too.

    It needs the extra `tui`: `pipx install 'git-sandbox[tui]'`. The screen never waits for a guest or for git.

    With --plain, or where there is no screen (a pipe, TERM=dumb), it prints a line for each sandbox; on a terminal it
    then adds a line whenever one changes, until Ctrl-C. That reads well with a screen reader. NO_COLOR is respected.

    \b
    Examples:
      sandbox top
      sandbox top --everywhere
      sandbox top --plain
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    source, scope = Host(everywhere=everywhere), Scope(everywhere=everywhere)
    if as_json:
        return top_plain.once(source, scope)
    screen = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    if plain or not screen:
        return top_plain.lines(source, scope)
    _require()
    from git_sandbox import signals
    from git_sandbox.tui import app

    ended = app.run(source, OwnVerbs(), scope=scope)
    signals.listen_again()
    if ended:
        raise Interrupted(ended)
    return Result("top")


def _require() -> None:
    if importlib.util.find_spec(EXTRA) is None:
        raise RequirementError(
            "`sandbox top` needs the Python package `textual`, which is not installed",
            hint="`pipx inject git-sandbox textual`, or install `git-sandbox[tui]`; `sandbox top --plain` needs none",
        )
