from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

import click

from git_sandbox.cli import common, pager
from git_sandbox.cli.result import Result
from git_sandbox.errors import IntegrateError, LimitError, UsageError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import review
from git_sandbox.integrate.modes import Request
from git_sandbox.integrate.preview import preview, uncommitted
from git_sandbox.integrate.review import Span, Style
from git_sandbox.later import dataclass
from git_sandbox.sandbox import lookup
from git_sandbox.sandbox.lookup import Known
from git_sandbox.text import printable

MOST = 16 << 20  # bytes of a difference that are read: a small pack can hold one without end


@click.command("diff")
@common.id_argument
@click.argument("paths", metavar="[-- PATH...]", nargs=-1, type=click.Path())
@click.option(
    "--from-base", is_flag=True, help="From the base commit to the sandbox's HEAD, regardless of your checkout."
)
@click.option(
    "--from-start", is_flag=True, help="From the worktree at the start to the worktree at the end, committed or not."
)
@click.option("--wip", is_flag=True, help="The uncommitted work on top of the sandbox's HEAD.")
@click.option("--stat", is_flag=True, help="Show a diffstat.")
@click.option("--name-only", is_flag=True, help="Show only the names of changed files.")
@click.option("--color", "when", type=click.Choice(pager.WHEN), default="auto", help="Colours; auto: on a terminal.")
@common.json_option
def command(*, name: str, paths: tuple[str, ...], when: str, as_json: bool, **given: bool) -> Result:
    """Show what `sandbox merge ID` would change here, exactly.

    Uncommitted work of the sandbox is not part of a merge. On a terminal it follows under a heading of its own;
    elsewhere --wip shows it.

    Text from the sandbox is shown with control characters replaced. On a terminal it goes through your pager, as
    with git (GIT_PAGER, core.pager, PAGER). Paths are files or directories, relative to where you are.

    \b
    Examples:
      sandbox diff vm-1
      sandbox diff --stat vm-1
      sandbox diff vm-1 -- src docs/index.md
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    span = _one(given, _SPANS)
    style = _one(given, _STYLES) or Style.PATCH
    repo, name = common.sandbox(name)
    sandbox = lookup.known(repo, name)
    asked = _Asked(repo, sandbox, style, tuple(_from_top(repo, path) for path in paths))
    parts = [_span(asked, span)] if span else _default(asked)
    first, rest = parts[0], parts[1:]
    together = sys.stdout.isatty() and style is not Style.NAME_ONLY
    if not as_json:
        _show(parts if together else parts[:1], style, when)
    notes = [note for part in parts for note in part.notes]
    if rest and not together:
        notes.append(f"uncommitted work of the sandbox is not part of a merge: `sandbox diff --wip {name}`")
    data = {
        "id": name, "from": first.before, "to": first.after, "diff": first.text, "whole": first.whole,
        "uncommitted": rest[0].text if rest else "",
    }  # fmt: skip
    return Result("diff", data, notes=tuple(notes))


_SPANS = {"from_base": Span.BASE, "from_start": Span.SPAWN, "wip": Span.WIP}
_STYLES = {"stat": Style.STAT, "name_only": Style.NAME_ONLY}
Chosen = TypeVar("Chosen")


def _one(given: Mapping[str, bool], choices: Mapping[str, Chosen]) -> Chosen | None:
    options = [name for name in choices if given[name]]
    if len(options) > 1:
        one, other = (f"--{name.replace('_', '-')}" for name in options[:2])
        raise UsageError(f"{one} and {other} cannot be used together")
    return choices[options[0]] if options else None


@dataclass(frozen=True)
class _Asked:
    repo: Repository
    sandbox: Known
    style: Style
    paths: tuple[str, ...]
    most: int = MOST


@dataclass(frozen=True)
class _Part:
    """`text` is safe to print, and a beginning unless it is `whole`."""

    before: Oid
    after: Oid
    text: str
    whole: bool
    heading: str = ""
    notes: tuple[str, ...] = ()


def _compared(asked: _Asked, git: Git, before: Oid, after: Oid, *, heading: str = "", note: str = "") -> _Part:
    difference = review.difference(git, before, after, style=asked.style, paths=asked.paths, most=asked.most)
    notes = [text for text in (note, difference.note) if text]
    notes += [] if difference.whole else [f"only the first {asked.most >> 20} MiB are shown: name paths, or use --stat"]
    return _Part(before, after, printable(difference.raw).rstrip("\n"), difference.whole, heading, tuple(notes))


def _span(asked: _Asked, span: Span, note: str = "") -> _Part:
    ends = lookup.ends(asked.sandbox, span)
    return _compared(asked, asked.sandbox.base.seen_by(asked.repo.git), *ends, note=note)


def lines(repo: Repository, name: str, style: Style, most: int) -> list[str]:
    """What `sandbox diff` shows on a terminal, with its notes, of at most `most` bytes each; safe to print."""
    parts = _default(_Asked(repo, lookup.known(repo, name), style, (), most))
    texts = ["\n".join(filter(None, (*part.notes, part.heading, part.text))) for part in parts]
    return "\n\n".join(filter(None, texts)).splitlines()


def _default(asked: _Asked) -> list[_Part]:
    """What a merge brings, and then what is not committed."""
    sandbox = asked.sandbox
    parts = [_merge(asked, sandbox.head)] if sandbox.head else []
    if sandbox.wip or not parts:
        parts += [_uncommitted(asked, sandbox.wip)] if sandbox.wip else [_span(asked, Span.SPAWN)]
    return [parts[0], *(part for part in parts[1:] if part.text)]


def _merge(asked: _Asked, head: Oid) -> _Part:
    sandbox = asked.sandbox
    try:
        with preview(asked.repo, sandbox.base, Request(sandbox.entry.id, head)) as seen:
            note = f"{len(seen.conflicts)} file(s) are in conflict: shown with markers" if seen.conflicts else ""
            if seen.before == seen.after and sandbox.base.commit != head:
                note = "nothing is left to merge: --from-base shows what the sandbox committed"
            return _compared(asked, seen.git, seen.before, seen.after, note=note)
    except (IntegrateError, LimitError) as error:
        return _span(asked, Span.BASE, f"shown from the base, because it cannot be merged as it is: {error.message}")


def _uncommitted(asked: _Asked, wip: Oid) -> _Part:
    sandbox = asked.sandbox
    heading = f"Uncommitted in sandbox {sandbox.entry.id}, not part of a merge:"
    with uncommitted(asked.repo, sandbox.base, sandbox.head, wip) as (git, before):
        return _compared(asked, git, before, wip, heading=heading)


def _show(parts: Sequence[_Part], style: Style, when: str) -> None:
    coloured = style is Style.PATCH and pager.coloured(when)
    texts = []
    for part in parts:
        shown = pager.diff_colours(part.text) if coloured else part.text
        texts += [f"\n{part.heading}\n\n{shown}" if part.heading and part is not parts[0] else shown]
    if any(part.text for part in parts):
        pager.show("\n".join(text for text in texts if text))


def _from_top(repo: Repository, path: str) -> str:
    """`path` as git has it: relative to the top of the worktree, whether it exists or not."""
    return os.path.normpath(os.path.join(common.subdirectory(repo), path))  # noqa: PTH118 - need not exist
