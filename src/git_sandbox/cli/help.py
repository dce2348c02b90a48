from __future__ import annotations

import difflib
from pathlib import Path

import click

import git_sandbox
from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.text import one_line


@click.command("help")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@common.json_option
def command(words: tuple[str, ...], as_json: bool) -> Result:
    """Show help for a command, like `sandbox COMMAND --help`, or a page of the documentation.

    The pages are backends, share, network, secrets, many, no-kvm and so on; an unknown name lists them.

    \b
    Examples:
      sandbox help
      sandbox help merge
      sandbox help image build
      sandbox help backends
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    from git_sandbox.cli.main import VERBS, cli

    if len(words) == 1 and words[0] not in VERBS:
        return _page(words[0])
    context = click.Context(cli, info_name="sandbox", **cli.context_settings)
    group: click.Command = cli
    rest = list(words)
    while rest:
        if not isinstance(group, click.Group):
            raise UsageError(f"`{context.command_path}` has no commands", hint=f"see `{context.command_path} --help`")
        name, inner, rest = group.resolve_command(context, rest)
        if inner is None:
            raise UsageError(f"there is no command `{name}`", hint=f"see `{context.command_path} --help`")
        group, context = inner, click.Context(inner, info_name=name, parent=context)
    text = group.get_help(context)
    return Result("help", {"command": context.command_path, "text": text}, text=text)


def _page(name: str) -> Result:
    """A page of docs/how-to: an installation has them in the package, a checkout beside it."""
    from git_sandbox.cli.main import VERBS

    package = Path(git_sandbox.__file__).parent
    place = next(
        folder for folder in (package / "how-to", package.parent.parent / "docs" / "how-to") if folder.is_dir()
    )
    pages = {page.stem: page for page in sorted(place.glob("*.md"))}
    if name not in pages:
        near = difflib.get_close_matches(name, [*VERBS, *pages], n=1)
        meant = f"did you mean `sandbox help {near[0]}`? " if near else ""
        raise UsageError(
            f"there is no command and no page `{one_line(name, limit=60)}`",
            hint=f"{meant}See `sandbox --help`; pages: {', '.join(pages)}",
        )
    text = pages[name].read_text(encoding="utf-8").rstrip()
    return Result("help", {"command": name, "text": text}, text=text)
