from __future__ import annotations

import click

from git_sandbox.cli import common, ondisk, progress, words
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.sandbox import live


@click.command("stop")
@click.argument("names", metavar="ID...", nargs=-1, shell_complete=common.complete_ids)
@common.json_option
def command(names: tuple[str, ...], as_json: bool) -> Result:
    """Stop running sandboxes: their work comes home first, then the machine is shut down.

    \b
    Examples:
      sandbox stop vm-1
      sandbox stop vm-1 vm-2
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if not names:
        raise UsageError("which sandbox?", hint="name one of `sandbox ls`")
    repo = common.repository()
    lines, data = [], []
    for name in names:
        with progress.shown(quiet=as_json) as say:
            refs = live.stop(repo, name, say)
        changes = live.changes(repo, name) if refs else None
        data.append({"id": name, "refs": refs, "changes": changes})
        if refs:
            lines.append(f"Stopped {name}. Look: `sandbox log {name}`")
        else:
            lines.append(f"Stopped {name}: no changes. {words.in_trash(repo, name)}")
        lines += ondisk.lines(name, changes)
    return Result("stop", data, text="\n".join(lines))
