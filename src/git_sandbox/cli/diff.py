from __future__ import annotations

import sys

import click

from git_sandbox.cli import common
from git_sandbox.cli.result import Result
from git_sandbox.integrate import review
from git_sandbox.integrate.review import Span, Style
from git_sandbox.sandbox import inspect
from git_sandbox.text import printable


@click.command("diff")
@common.id_argument
@click.option("--from-base", "span", flag_value=Span.BASE, help="From the base commit: what a merge brings.")
@click.option("--wip", "span", flag_value=Span.WIP, help="The uncommitted work on top of the sandbox's HEAD.")
@click.option("--stat", "style", flag_value=Style.STAT, help="Only how much changed in which file.")
@click.option("--name-only", "style", flag_value=Style.NAME_ONLY, help="Only the names of changed files.")
@common.json_option
def command(name: str, span: Span | None, style: Style | None, as_json: bool) -> Result:
    """Show what a sandbox changed: from the worktree it started with to how it left it, committed or not.

    Text from the sandbox is shown with control characters replaced; colours only on a terminal.
    """
    repo = common.repository()
    found = inspect.known(repo, name)
    chosen = Span(span or Span.SPAWN)
    head = found.head if found.wip else inspect.require_head(found)
    if chosen is Span.SPAWN:
        head = found.wip or head
    ends = review.ends(repo, found.base, head, found.wip, chosen)
    raw = repo.git.run(*review.diff_argv(*ends, style=Style(style or Style.PATCH)))
    text = printable(raw).rstrip("\n")
    data = {"id": name, "from": ends[0], "to": ends[1], "diff": text}
    if not as_json and sys.stdout.isatty():
        click.echo_via_pager(_coloured(text) + "\n")
        return Result("diff", data)
    return Result("diff", data, text=text)


def _coloured(text: str) -> str:
    return "\n".join(_line(line) for line in text.splitlines())


def _line(line: str) -> str:
    if line.startswith(("+++", "---", "diff ", "index ")):
        return click.style(line, bold=True)
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line
