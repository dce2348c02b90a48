from __future__ import annotations

import click

from git_sandbox import store
from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import live


@click.command("exec")
@common.id_argument
@click.argument("command_line", metavar="CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
@common.tty_option
@common.json_option
def command(name: str, command_line: tuple[str, ...], tty: bool | None, as_json: bool) -> Result:
    """Run a command in a running sandbox and exit with its code.

    On a terminal the command gets one, too (size, keys, a single output stream). Otherwise, or with -T, standard input,
    output and error pass through byte for byte. With --json there is no terminal unless -t asks for it, and the
    command's standard output goes to standard error.

    The command ends with its caller: it gets the first Ctrl-C (SIGINT), SIGTERM or SIGHUP that `sandbox exec` gets;
    when that or the connection is gone, SIGTERM and later SIGKILL. What it started in a session of its own (setsid)
    keeps running.

    In a sandbox of `spawn --on` or `run --on` the command runs on the machine that has it, through your ssh.

    \b
    Examples:
      sandbox exec vm-1 -- git log -1
      sandbox exec vm-1 -- top
      sandbox exec vm-1 -- sh -c 'cat > notes' < notes
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo, name = common.sandbox(name)
    if (kept := store.directory(repo, name)).dispatch.exists():
        from git_sandbox.sandbox import remote_session

        seen, place = common.terminal(tty, as_json=as_json), common.subdirectory(repo)
        there = remote_session.visited(kept, command_line, place, tty=seen, stdout=2 if as_json else 1)
        if there is not None:
            return Result("exec", {"id": name, "exit_code": there}, exit_code=there)
    session = live.open_session(repo, name)
    directory = live.directory(live.running(repo, name)[1], common.subdirectory(repo))
    code = session.run(
        command_line, directory, stdout=2 if as_json else 1, tty=common.terminal(tty, as_json=as_json),
        on_signal=live.Caller(),
    )  # fmt: skip
    return Result("exec", {"id": name, "exit_code": code}, exit_code=code)
