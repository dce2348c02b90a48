from __future__ import annotations

import os

import click

from git_sandbox.cli import common, pager
from git_sandbox.cli.result import Result
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import review
from git_sandbox.integrate.review import Span, Style
from git_sandbox.sandbox import inspect
from git_sandbox.text import printable

MOST = 32 << 20  # bytes of a difference that are read: a small pack can hold one without end


@click.command("diff")
@common.id_argument
@click.argument("paths", metavar="[-- PATH...]", nargs=-1, type=click.Path())
@click.option("--from-base", "span", flag_value=Span.BASE, help="From the base commit: what a merge brings.")
@click.option("--wip", "span", flag_value=Span.WIP, help="The uncommitted work on top of the sandbox's HEAD.")
@click.option("--stat", "style", flag_value=Style.STAT, help="Only how much changed in which file.")
@click.option("--name-only", "style", flag_value=Style.NAME_ONLY, help="Only the names of changed files.")
@click.option("--color", "when", type=click.Choice(pager.WHEN), default="auto", help="Colours; auto: on a terminal.")
@common.json_option
def command(
    *, name: str, paths: tuple[str, ...], span: Span | None, style: Style | None, when: str, as_json: bool
) -> Result:
    """Show what a sandbox changed: from the worktree it started with to how it left it, committed or not.

    Text from the sandbox is shown with control characters replaced. On a terminal it goes through your pager, as
    with git (GIT_PAGER, core.pager, PAGER). Paths are files or directories, relative to where you are.

    \b
    Examples:
      sandbox diff vm-1
      sandbox diff --stat vm-1
      sandbox diff vm-1 -- src docs/index.md
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo = common.repository()
    found = inspect.known(repo, name)
    chosen = Span(span or Span.SPAWN)
    head = found.head if found.wip else inspect.require_head(found)
    if chosen is Span.SPAWN:
        head = found.wip or head
    ends = review.ends(repo, found.base, head, found.wip, chosen)
    kind = Style(style or Style.PATCH)
    argv = review.diff_argv(*ends, style=kind, paths=[_from_top(repo, path) for path in paths])
    raw, whole = found.base.seen_by(repo.git).beginning(*argv, most=MOST)
    text = printable(raw).rstrip("\n")
    if not as_json and text:
        pager.show(pager.diff_colours(text) if kind is Style.PATCH and pager.coloured(when) else text)
    notes = () if whole else (f"only the first {MOST >> 20} MiB are shown: name paths, or use --stat",)
    data = {"id": name, "from": ends[0], "to": ends[1], "diff": text, "whole": whole}
    return Result("diff", data, notes=notes)


def _from_top(repo: Repository, path: str) -> str:
    """`path` as git has it: relative to the top of the worktree, whether it exists or not."""
    return os.path.normpath(os.path.join(common.subdirectory(repo), path))  # noqa: PTH118 - need not exist
