from __future__ import annotations

import click

from git_sandbox import settings, store
from git_sandbox.cli import common, life, progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.sandbox import live
from git_sandbox.store import State


@click.command("shell")
@common.id_argument
@common.json_option
def command(name: str, as_json: bool) -> Result:
    """Open a shell in a sandbox: another one if it runs, or start it again from its disk if it is stopped.

    Several can be open at once. The end of a shell in a running sandbox ends nothing else; a sandbox that was started
    again for this shell stops with it, and its work comes home.

    \b
    Examples:
      sandbox shell vm-1
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    return attach("shell", name, as_json=as_json)


def attach(verb: str, name: str, *, as_json: bool) -> Result:
    repo = common.repository()
    if not common.interactive():
        raise UsageError("a shell needs a terminal", hint=f"run a command with `sandbox exec {name} -- CMD …`")
    if store.find(repo, name).state is State.STOPPED:
        wanted, _ = settings.resolve()
        return life.resume(verb, repo, name, wanted, as_json=as_json)
    with progress.shown(quiet=as_json):
        session = live.open_session(repo, name)
    code = session.shell(f"/workspace/{common.subdirectory(repo)}".rstrip("/"))
    return Result(verb, {"id": name, "exit_code": code}, exit_code=code)
