from __future__ import annotations

import click

from git_sandbox import settings, store
from git_sandbox.cli import common, configured, life, printer, progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import StateError, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import live, remove
from git_sandbox.store import State


@click.command("shell")
@common.id_argument
@click.option("-d", "--detach", is_flag=True, help="Start it and leave it running; open no shell.")
@common.json_option
def command(name: str, detach: bool, as_json: bool) -> Result:
    """Open a shell in a sandbox: another one if it runs, or start it again from its disk if it is stopped.

    After a crash (state `recoverable`), the work on its disk is brought home first.

    Several shells can be open at once. When a shell in a running sandbox ends, the sandbox keeps running; one that was
    started for this shell stops with it, and its work comes home.

    A sandbox of `spawn --on` or `run --on` is entered on the machine that has it, through your ssh.

    \b
    Examples:
      sandbox shell vm-1
      sandbox shell --detach vm-1
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    return attach("shell", name, as_json=as_json, detach=detach)


def attach(verb: str, name: str, *, as_json: bool, detach: bool = False) -> Result:
    repo, name = common.sandbox(name)
    if not detach and not common.interactive():
        raise UsageError("a shell needs a terminal", hint=f"run a command with `sandbox exec {name} -- CMD …`")
    if (directory := store.directory(repo, name)).dispatch.exists() and not detach:
        from git_sandbox.sandbox import remote_session

        there = remote_session.visited(directory, (), common.subdirectory(repo), tty=True)
        if there is not None:
            return Result(verb, {"id": name, "exit_code": there}, exit_code=there)
    state = store.find(repo, name).state
    if state is State.RECOVERABLE:
        _recover(repo, name, quiet=as_json)
    if state in (State.STOPPED, State.RECOVERABLE):
        effective, _ = settings.resolve(None, configured.project(repo))
        return life.resume(verb, repo, name, effective, as_json=as_json, detach=detach)
    if detach:
        raise StateError(f"sandbox `{name}` is {state}: it cannot be started", hint="`sandbox ls`")
    with progress.shown(quiet=as_json):
        session = live.open_session(repo, name)
    code = session.shell(live.directory(live.running(repo, name)[1], common.subdirectory(repo)))
    return Result(verb, {"id": name, "exit_code": code}, exit_code=code)


def _recover(repo: Repository, name: str, *, quiet: bool) -> None:
    """Its supervisor was killed: before the guest runs again and may spoil it, what is on the disk comes home."""
    with progress.shown(quiet=quiet) as say:
        remove.recover(repo, name, say)
    if not quiet:
        printer.line(f"Sandbox {name} had crashed; its work came home before the restart: `sandbox log {name}`")
