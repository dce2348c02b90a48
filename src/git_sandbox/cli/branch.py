from __future__ import annotations

import click

from git_sandbox.cli import ask, common
from git_sandbox.cli.choices import choose
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.integrate import branches
from git_sandbox.integrate.branches import Branch, Move
from git_sandbox.integrate.risky import Risk
from git_sandbox.sandbox import lookup
from git_sandbox.text import one_line


@click.command("branch")
@common.id_argument
@click.argument("names", metavar="[NAME[:NEW]...]", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Show what would happen; change nothing.")
@click.option("--undo", is_flag=True, help="Undo: remove or move back the branches that have not moved since.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask about files that run by themselves.")
@common.json_option
def command(*, name: str, names: tuple[str, ...], dry_run: bool, undo: bool, yes: bool, as_json: bool) -> Result:
    """Create or fast-forward your branches from those of a sandbox: all that it made or moved, or those named.

    A branch that exists here is only moved forward, and not while it is checked out (`sandbox merge` does that); if a
    named one cannot be created or moved, none is. NAME:NEW gives it another name here.

    Changes to files that run by themselves are listed. Your branches get them only when you agree; without a
    terminal that takes --yes.

    \b
    Examples:
      sandbox branch vm-1
      sandbox branch vm-1 topic
      sandbox branch vm-1 topic:try-1
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    repo, name = common.sandbox(name)
    sandbox = lookup.known(repo, name)
    if undo:
        if names or dry_run:
            raise UsageError("--undo cannot be used with names or --dry-run")
        return Result("branch", _data(name, back := branches.undo(repo, sandbox.entry.id)), text=_undone(back))
    chosen = branches.choose(sandbox.branches, names)
    moves = branches.look(repo, chosen, explicit=bool(names))
    risky = branches.risky(repo, moves, moved_only=False)
    if not dry_run:
        if not yes:
            _agree(name, branches.risky(repo, moves, moved_only=True), can_ask=common.interactive() and not as_json)
        branches.make(repo, sandbox.entry.id, moves)
    notes = [f"left: {one_line(branch.name)} {one_line(branch.reason)}" for branch in moves if branch.move is Move.LEFT]
    return Result("branch", _data(name, moves), text=_text(moves, dry_run=dry_run), notes=(*notes, *ask.careful(risky)))


def _agree(name: str, risky: tuple[Risk, ...], *, can_ask: bool) -> None:
    """Ask before a branch of the user's gets files that run by themselves."""
    if not risky:
        return
    if not can_ask:
        named = "; ".join(ask.risk_line(risk) for risk in risky[: ask.SHOWN])
        message = "not moved without your consent: it changes files that run by themselves"
        raise UsageError(message, cause=named, hint="look at `sandbox log` and the files, then add --yes")
    ask.warn(risky)
    answers = {"yes": "move the branches anyway", "no": "nothing changes"}
    if choose(f"Move your branches to those of sandbox {name}?", answers, "no") != "yes":
        raise click.Abort


def _data(name: str, moves: tuple[Branch, ...]) -> dict[str, object]:
    return {"id": name, "branches": moves}


def _text(moves: tuple[Branch, ...], *, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    words = {Move.CREATE: f"{would}new", Move.FORWARD: f"{would}moved forward", Move.SAME: "already up to date"}
    rows = [branch for branch in moves if branch.move in words]
    return (
        "\n".join(f"{one_line(branch.name)} {branch.after[:10]} {words[branch.move]}" for branch in rows)
        or "No branches to create or move."
    )


def _undone(moves: tuple[Branch, ...]) -> str:
    return "\n".join(f"{one_line(branch.name)} is {_became(branch)}" for branch in moves)


def _became(branch: Branch) -> str:
    return f"back at {branch.before[:10]}" if branch.before else f"gone (was {branch.after})"
