from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import click

from git_sandbox import process, settings, store
from git_sandbox.cli import common, configured, life, printer
from git_sandbox.cli.result import Result
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import editors, live
from git_sandbox.sandbox.editors import Target
from git_sandbox.store import State
from git_sandbox.text import one_line


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in editors.EDITORS if name.startswith(incomplete)]


@click.command("code")
@common.id_argument
@click.argument("path", required=False)
@click.option(
    "--editor", metavar="EDITOR", shell_complete=_complete, help="Use this one instead of the setting editor-command."
)
@click.option("--print", "shown", is_flag=True, help="Print the command line and run nothing.")
@common.json_option
def command(name: str, path: str | None, editor: str | None, shown: bool, as_json: bool) -> Result:
    """Open a sandbox in your editor, which reaches it over ssh: VS Code, Zed, JetBrains, Emacs, vim.

    PATH is a file or directory in the sandbox, relative to the repository in there. A stopped sandbox is started again
    and left running. ssh has to know it: put the Include line that `sandbox ssh-config` prints into ~/.ssh/config once.

    EDITOR, or the setting editor-command, is vscode, cursor, zed, jetbrains (Gateway), toolbox, emacs, neovim or vim,
    or your own command in which {host}, {user}, {path} and {url_path} stand for the sandbox. Without it, the first
    that is installed.

    \b
    Examples:
      sandbox code vm-1
      sandbox code vm-1 src/main.c --editor vim
      sandbox code vm-1 --editor 'subl sftp://{user}@{host}{url_path}' --print
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo, name = common.sandbox(name)
    effective, _ = settings.resolve({"editor_command": editor}, configured.project(repo))
    words = editors.template(effective.editor_command)
    if store.find(repo, name).state is State.STOPPED:
        life.resume("code", repo, name, effective, as_json=as_json, detach=True)
    return _opened(repo, name, path, words, run=not shown, as_json=as_json)


def ready() -> tuple[str, ...]:
    """The words of the user's editor. Raises SandboxError, before anything is started for it."""
    return editors.template(settings.resolve()[0].editor_command)


def after(started: Result, words: tuple[str, ...], *, as_json: bool) -> Result:
    """Of a sandbox that `spawn` left running."""
    repo, name = common.repository(), started.data["id"]
    if started.text and not as_json:
        printer.line(started.text)
    opened = _opened(repo, name, None, words, run=True, as_json=as_json)
    return dataclasses.replace(opened, command="spawn", data=started.data | opened.data)


def _opened(
    repo: Repository, name: str, path: str | None, words: tuple[str, ...], *, run: bool, as_json: bool
) -> Result:
    entry, record = live.running(repo, name)
    host = f"sandbox-{entry.id}"
    inside = editors.guest_path(record.workdir, path)
    user = editors.user(host, entry.directory)
    argv = editors.argv(words, Target(host, user, inside, whole=path is None))
    data = {"id": name, "host": host, "path": inside, "argv": argv}
    if not run:
        return Result("code", data, text=one_line(shlex.join(argv), limit=4096))
    with process.spawn(
        argv, cwd=Path.cwd(), env=settings.environment(), stdin=0, stdout=2 if as_json else 1, stderr=2, foreground=True
    ) as child:
        code = child.wait() or 0
    return Result("code", data | {"exit_code": code}, exit_code=code)
