"""Questions at the end of an interactive session. Every default is the answer that changes nothing."""

from __future__ import annotations

import contextlib
import sys
import termios
from collections.abc import Sequence

import click

from git_sandbox.cli import printer, words
from git_sandbox.cli.choices import choose, shown_again
from git_sandbox.errors import LimitError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, SandboxId, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import review
from git_sandbox.integrate.apart import Apart
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.modes import Relation, Request
from git_sandbox.integrate.plan import Plan
from git_sandbox.integrate.preview import preview
from git_sandbox.integrate.risky import Risk
from git_sandbox.later import dataclass
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.lookup import base_of
from git_sandbox.sandbox.settle import Questions, waits
from git_sandbox.text import listed, one_line, printable

SHOWN = 10  # paths listed before a question
MOST = 64 << 10  # bytes of a summary shown before a question


def forget_typed() -> None:
    """Throw away what was typed before a question could be read: it was meant for a shell, not as an answer."""
    with contextlib.suppress(termios.error, OSError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


@dataclass
class Asker:
    """Asks at the end of a session. What came home is shown before the first question; `told`: it was."""

    repo: Repository
    finished: Finished
    explained: bool = False

    def questions(self) -> Questions:
        return Questions(self.merge, self.dirty)

    def merge(self, plan: Plan) -> bool:
        self._tell()
        for line in elsewhere(self.finished, plan):
            printer.line(line)
        return confirm_merge(self.repo, plan, base_of(self.repo, self.finished.record), self.finished.id)

    def dirty(self, wip: Oid) -> str:
        self._tell()
        ref = SandboxRefs(SandboxId(self.finished.id)).wip
        printer.line(f"Uncommitted work, safe in {ref}:")
        _stat(self.repo.git, self.finished.home.collected.head or wip, wip)
        forget_typed()
        question = "Keep it there, commit it, stash it here, or discard it?"
        answers = {
            "keep": f"leave it in {ref}; your checkout does not change",
            "commit": "commit it on top of the sandbox's commits",
            "stash": "add it to this repository's stash list",
            "discard": "do not ask again; it stays on the sandbox's disk until `sandbox drop`",
        }
        if waits(self.finished.home):  # its files are not a commit, nor a stash: a conflict or a parent would be lost
            question, answers = "Keep it there, or discard it?", {name: answers[name] for name in ("keep", "discard")}
        return choose(question, answers, "keep")

    def _tell(self) -> None:
        if not self.explained:
            for line in words.homecoming(self.repo, self.finished.record, self.finished.home):
                printer.line(line)
        self.explained = True


def elsewhere(finished: Finished, plan: Plan) -> list[str]:
    """Why there is a question: the sandbox, or the user, is on another branch than at the start."""
    refs = (finished.record.base_symref, finished.home.manifest.head.symref, plan.head.symref)
    start, there, here = map(_branch, refs)
    lines = [f"The sandbox started on {start}; your checkout is on {here} now."] if here != start else []
    if there not in (start, here):
        own = f"`sandbox branch {finished.id}` creates its branches here"
        lines.append(f"The sandbox ended on {there}; a merge puts its commits on {here}. {own}.")
    return lines


def _branch(ref: str | None) -> str:
    return one_line(ref.removeprefix("refs/heads/")) if ref else "a detached HEAD"


def confirm_merge(repo: Repository, plan: Plan, base: BaseRecord, name: str) -> bool:
    """Show what a merge would change here and ask; the default is no."""
    if plan.relation is Relation.DIVERGED:
        printer.line("Your branch has commits that the sandbox does not have. Merging both changes here:")
    request = Request(SandboxId(name), plan.target, plan.mode, plan.picks)
    with preview(repo, base, request) as merged:
        _stat(merged.git, merged.before, merged.after)
    if plan.late:
        printer.line(
            f"You have edited {listed(plan.late)} since: your edits stay uncommitted, merged with the changes."
        )
    warn(plan.risky)
    forget_typed()
    answers = {
        "yes": "apply these changes to your checkout; `sandbox merge --undo` reverts that",
        "no": f"nothing changes; `sandbox merge {name}` asks again",
    }
    return choose(f"Merge sandbox {name} now?", answers, "no") == "yes"


def confirm_conflicts(plan: Plan, name: str) -> bool:
    """Show the predicted conflicts and ask whether to begin the merge all the same; the default is no."""
    printer.line(f"Merging sandbox {name} conflicts in {len(plan.conflicts)} file(s):")
    _some([one_line(path) for path in plan.conflicts])
    warn(plan.risky)
    answers = {
        "yes": "files get conflict markers; resolve and commit them, or `sandbox merge --abort`",
        "no": "nothing changes",
    }
    return choose("Start the merge in your checkout and resolve the conflicts there?", answers, "no") == "yes"


def branch_name(apart: Apart) -> str:
    """Say how the histories stand and ask for a branch to put the sandbox's on; empty means none."""
    printer.line(apart.text)
    question = "Name of a new branch for it (empty: none)"
    with shown_again(f"{question}: "):
        return printer.prompt(question, "")


def warn(risky: Sequence[Risk]) -> None:
    for line in careful(risky):
        printer.line(line)


def careful(risky: Sequence[Risk]) -> tuple[str, ...]:
    """A line for each of the first few."""
    lines = [f"warning: {risk_line(risk)}" for risk in risky[:SHOWN]]
    lines += [f"warning: and {len(risky) - SHOWN} more like these"] if len(risky) > SHOWN else []
    return tuple(click.style(line, fg="yellow") for line in lines)


def risk_line(risk: Risk) -> str:
    return f"{one_line(risk.path)} {one_line(risk.reason)}"


def _some(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        printer.line(f"  {line}")
    if len(lines) > SHOWN:
        printer.line(f"  and {len(lines) - SHOWN} more")


def _stat(git: Git, before: Oid, after: Oid) -> None:
    try:
        difference = review.difference(git, before, after, style=review.Style.STAT, most=MOST)
    except LimitError as error:
        printer.line(f"({error.message})")
        return
    printer.line(printable(difference.raw).rstrip() + ("" if difference.whole else "\n…"))
