from __future__ import annotations

import click

from git_sandbox import settings
from git_sandbox.cli import common, words
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.sandbox import rename


@click.command("set")
@common.id_argument
@click.option("--memory", metavar="SIZE", help="Memory of its machine: 512M, 4G, …")
@click.option("--cpus", metavar="N", help="Virtual processors of its machine, or auto.")
@common.json_option
def command(name: str, memory: str | None, cpus: str | None, as_json: bool) -> Result:
    """Change memory or processors of a stopped sandbox, from its next start on.

    Nothing else changes. A running sandbox is refused: stop it first. To allow it more names: `sandbox net ID
    --allow NAME`; to rename it: `sandbox rename`.

    \b
    Examples:
      sandbox set vm-1 --memory 8G
      sandbox set vm-1 --cpus 2 --memory 1G
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    if memory is None and cpus is None:
        raise UsageError("nothing to change given", hint=f"`sandbox set {name} --memory 4G`, or --cpus 2")
    given = {"memory": memory, "cpus": cpus}
    values = {key: settings.parsed(key, text, "command line") for key, text in given.items() if text is not None}
    done = rename.resize(*common.sandbox(name), **values)
    machine = f"{done.memory} MiB of memory and {words.count(done.cpus, 'processor')}"
    return Result("set", done, text=f"Sandbox {done.id} starts with {machine} from now on.")
