"""Questions at the end of an interactive session. Every default is the answer that changes nothing."""

from __future__ import annotations

import click

from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import Plan, Relation, review
from git_sandbox.sandbox.after import ASKED_DIRTY, Questions
from git_sandbox.sandbox.story import Finished
from git_sandbox.text import one_line, printable

SHOWN = 10  # paths listed before a question


def questions(repo: Repository, finished: Finished) -> Questions:
    def merge(plan: Plan) -> bool:
        return confirm_merge(repo, plan, finished.id)

    def dirty(wip: Oid) -> str:
        click.echo("Uncommitted work in the sandbox:", err=True)
        _stat(repo, finished.home.collected.head or wip, wip)
        question = "Keep it in its ref, commit it, stash it here, or discard it?"
        return str(click.prompt(question, type=click.Choice(ASKED_DIRTY), default="keep", err=True))

    return Questions(merge, dirty)


def confirm_merge(repo: Repository, plan: Plan, name: str) -> bool:
    """Show what a merge would bring and ask; the default is no."""
    if plan.relation is not Relation.FAST_FORWARD:
        click.echo(f"History: {plan.relation.value}.", err=True)
    _stat(repo, plan.head.commit or plan.target, plan.target)
    for risk in plan.risky[:SHOWN]:
        click.secho(f"careful: {one_line(risk.path)}: {risk.reason}", fg="yellow", err=True)
    return click.confirm(f"Merge sandbox {name} now?", default=False, err=True)


def _stat(repo: Repository, before: Oid, after: Oid) -> None:
    click.echo(printable(repo.git.run(*review.diff_argv(before, after, style=review.Style.STAT))).rstrip(), err=True)
