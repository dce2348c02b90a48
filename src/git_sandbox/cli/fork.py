from __future__ import annotations

import click

from git_sandbox.cli import common, progress, words
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import fork


@click.command("fork")
@common.id_argument
@click.option("--name", "new", help="Name of the new sandbox instead of vm-1, vm-2, …")
@common.json_option
def command(name: str, new: str | None, as_json: bool) -> Result:
    """Create a sandbox from a copy of another one's disk: its files, its commits and what was installed in it.

    The other one may be running: its file system is frozen while the disk is copied; processes and memory are not
    copied. The new sandbox is stopped; `sandbox shell NEW` starts it. It has refs, keys and a record of its own, and
    starts from the same commit. To try several things from one prepared tree, start sandboxes from it: `run --from ID`.

    \b
    Examples:
      sandbox fork vm-1 --name other-way
      sandbox run --from vm-1 --count 4 -- ./agent.sh
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo, name = common.sandbox(name)
    with progress.shown(quiet=as_json) as say:
        forked = fork.fork(repo, name, new, say)
    notes = tuple(words.homecoming(repo, forked.record, forked.home)) if forked.home else ()
    head = forked.home.collected.head if forked.home else None
    text = f"Created {forked.id} from {forked.origin}. Shell: `sandbox shell {forked.id}`"
    return Result("fork", {"id": forked.id, "origin": forked.origin, "head": head}, text=text, notes=notes)
