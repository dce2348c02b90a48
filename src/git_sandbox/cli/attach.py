from __future__ import annotations

import click

from git_sandbox import store
from git_sandbox.cli import attached, common, shell
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.store import State


@click.command("attach")
@common.id_argument
@common.json_option
def command(name: str, as_json: bool) -> Result:
    """Attach to the terminal of the program that runs in a sandbox, with its screen; from anywhere, several at once.

    Ctrl-\\ leaves it again, and so does closing the terminal: the program keeps running. Shift-PageUp scrolls. When the
    program ends, the work comes home, and the exit code is the program's.

    Agents have such a terminal, and so does what `sandbox run --detach --tty` starts. In a sandbox without one this
    opens a shell, as `sandbox shell` does.

    \b
    Examples:
      sandbox agent claude --detach --name fix      start one and leave it running
      sandbox attach fix
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo, ident = common.sandbox(name)
    entry = store.find(repo, ident)
    if entry.state is State.RUNNING and entry.record is not None and entry.record.terminal:
        if not common.interactive():
            raise UsageError("attaching needs a terminal", hint=f"`sandbox logs -f {ident}` shows its output")
        return attached.show("attach", repo, ident, quiet=as_json)
    return shell.attach("attach", name, as_json=as_json)
