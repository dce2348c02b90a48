from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Protocol

import click

from git_sandbox import store
from git_sandbox.cli import columns, common, printer
from git_sandbox.cli.result import Result
from git_sandbox.errors import SandboxError, StateError, UsageError
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.sandbox import everywhere, listing, remove
from git_sandbox.sandbox.remove import Dropped
from git_sandbox.store import State


@click.command("drop")
@click.argument("names", metavar="ID...", nargs=-1, shell_complete=common.complete_ids)
@click.option("-f", "--force", is_flag=True, help="Drop even if its work exists nowhere else.")
@click.option("--merged", is_flag=True, help="Drop every stopped sandbox whose work is merged.")
@common.json_option
def command(names: tuple[str, ...], force: bool, merged: bool, as_json: bool) -> Result:
    """Drop sandboxes: they go to the trash, with refs, disk and record.

    Refuses while commits, uncommitted work or files exist nowhere else, unless --force is given; with --merged such
    sandboxes are kept and reported. Either way `sandbox restore ID` brings everything back until it expires (settings
    `trash`, `trash-size`); `sandbox prune` frees the space now.

    \b
    Examples:
      sandbox drop vm-1
      sandbox drop --merged
      sandbox drop --force vm-2 vm-3
      sandbox drop KEY/vm-1        from anywhere; KEY is in `ls --everywhere`
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if not names and not merged:
        raise UsageError("no sandbox given", hint="name one from `sandbox ls`, or use --merged")
    gone: list[Dropped] = []
    chosen = [_named(name) for name in dict.fromkeys(names)]  # a wrong name is noticed before anything is gone
    try:
        gone += [take(force=force) for take in chosen]
    except SandboxError:
        if gone and not as_json:
            printer.line(_text(gone), err=False)
        raise
    kept = _drop_merged(common.repository(), gone, force=force) if merged else []
    return Result("drop", gone, text=_text(gone) or "Nothing to drop.", notes=tuple(kept))


class _Take(Protocol):
    def __call__(self, *, force: bool) -> Dropped: ...


def _named(name: str) -> _Take:
    """What drops the sandbox of that name: an ID here, or KEY/ID, whose repository may be gone. Raises StateError."""
    if everywhere.SEPARATOR in name and everywhere.find(name, None).common_dir is None:
        return partial(remove.drop_orphan, name)
    repo, ident = common.sandbox(name)
    store.find(repo, ident)
    return lambda *, force: replace(remove.drop(repo, ident, force=force), id=name)


def _drop_merged(repo: Repository, gone: list[Dropped], *, force: bool) -> list[str]:
    """Those nobody named. One that has more than its merged commits is kept, and holds up no other; why, of each."""
    kept = []
    for row in listing.rows(repo):
        if row.merged and row.state in (State.STOPPED, State.REFS):
            try:
                gone.append(remove.drop(repo, row.id, force=force))
            except StateError as error:
                kept.append(f"Kept {row.id}: {error.message}{f' ({error.cause})' if error.cause else ''}")
                kept.append(f"  {error.hint}")
    return kept


_WORK = ("refs/sandbox/", "refs/sandbox-heads/", "refs/sandbox-wip/", "refs/sandbox-stash/")


def _worth(name: str, value: Oid, gone: Dropped) -> bool:
    """Whether somebody could ask for what a ref pointed at: the work, but not what went in, nor all tags."""
    return value in gone.unmerged or name.startswith(_WORK)


def _text(gone: list[Dropped]) -> str:
    lines = []
    for dropped in gone:
        back = f"`sandbox restore {dropped.id}` brings it back{columns.until(dropped.expires)}."
        lines.append(f"Dropped {dropped.id}. {back if dropped.restorable else columns.FLEETING}")
        lines += [f"  only on its disk: {dropped.disk}"] if dropped.disk else []
        lines += [f"  {name} was {value}" for name, value in dropped.tips.items() if _worth(name, value, dropped)]
    return "\n".join(lines)
