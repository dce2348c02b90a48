from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common.json_option
def command(shell: str, as_json: bool) -> Result:
    """Print the completion script for a shell.

    \b
    Examples:
      sandbox completion bash > ~/.local/share/bash-completion/completions/sandbox
      sandbox completion zsh > "${fpath[1]}/_sandbox"
      sandbox completion fish > ~/.config/fish/completions/sandbox.fish
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    from git_sandbox.cli.main import cli

    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"no completion for {shell}")
    script = made(cli, {}, "sandbox", "_SANDBOX_COMPLETE").source()
    return Result("completion", {"shell": shell, "script": script}, text=script)
