from __future__ import annotations

from pathlib import Path

import click

from git_sandbox import store
from git_sandbox.cli import columns, common
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.sandbox import trashed
from git_sandbox.sandbox.trashed import Pruned
from git_sandbox.trash import note


@click.command("prune")
@click.argument("names", metavar="[ID]...", nargs=-1, shell_complete=common.complete_trashed)
@click.option(
    "-a", "--all", "everything", is_flag=True, help="Delete everything in the trash, not only what has expired."
)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be deleted; delete nothing.")
@click.option("--everywhere", is_flag=True, help="Prune the trash of every repository.")
@common.json_option
def command(names: tuple[str, ...], everything: bool, dry_run: bool, everywhere: bool, as_json: bool) -> Result:
    """Permanently delete the expired sandboxes in the trash of this repository; with ID only that one, expired or not.

    Sandboxes that are not in the trash are not touched: `sandbox drop ID` puts one there. Expired ones are also deleted
    by the next command, whatever it is.

    \b
    Examples:
      sandbox prune --dry-run
      sandbox prune --all
      sandbox prune vm-1
      sandbox prune KEY/vm-1     as `sandbox prune --everywhere` names it
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    if names and (everything or everywhere):
        raise UsageError("names and --all or --everywhere cannot be used together", hint="see `sandbox prune --help`")
    if everywhere:
        roots = note.everywhere()
    else:
        far = [root for root in note.everywhere() if any(name.startswith(f"{root.name}/") for name in names)]
        roots = [] if names and all("/" in name for name in names) else [_own()]
        if roots and far:
            names = tuple(name if "/" in name else f"{roots[0].name}/{name}" for name in names)
        roots += far
    done = trashed.prune(roots, names, everything=everything, dry_run=dry_run)
    return Result("prune", done, text=_text(done, everywhere=everywhere))


def _own() -> Path:
    """The state directory of the repository we stand in."""
    repo = common.repository()
    trashed.finish(repo)
    return store.state_directory(repo)


def _text(done: Pruned, *, everywhere: bool) -> str:
    verb = "Would delete" if done.dry_run else "Deleted"
    lines = [
        f"{verb} {f'{freed.repository}/' if everywhere else ''}{freed.id} "
        f"({freed.why} {columns.age(freed.when)} ago, {columns.size(freed.size)})"
        for freed in done.sandboxes
    ]
    if done.sandboxes:
        lines.append(f"{'It would free' if done.dry_run else 'Freed'} {columns.size(done.freed)}.")
    else:
        lines.append("Nothing in the trash has expired." if done.kept else "The trash is empty.")
    if done.kept:
        kept = columns.number(len(done.kept), "sandbox").replace("sandboxs", "sandboxes")
        lines.append(f"{kept} in the trash: `sandbox ls --all`. All of it: `sandbox prune --all`")
    return "\n".join(lines)
