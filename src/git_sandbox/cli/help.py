from __future__ import annotations

import click

from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError


@click.command("help")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@common.json_option
def command(words: tuple[str, ...], as_json: bool) -> Result:
    """Say more about a command; the same as `sandbox COMMAND --help`.

    \b
    Examples:
      sandbox help
      sandbox help merge
      sandbox help image build
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    from git_sandbox.cli.main import cli

    context = click.Context(cli, info_name="sandbox", **cli.context_settings)
    found: click.Command = cli
    rest = list(words)
    while rest:
        if not isinstance(found, click.Group):
            raise UsageError(f"`{context.command_path}` has no commands", hint=f"see `{context.command_path} --help`")
        name, inner, rest = found.resolve_command(context, rest)
        if inner is None:
            raise UsageError(f"there is no command `{name}`", hint=f"see `{context.command_path} --help`")
        found, context = inner, click.Context(inner, info_name=name, parent=context)
    text = found.get_help(context)
    return Result("help", {"command": context.command_path, "text": text}, text=text)
