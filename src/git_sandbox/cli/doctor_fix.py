"""`sandbox doctor --fix`: shows each command before running it, and runs none without the user's consent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from git_sandbox import process
from git_sandbox.cli import common, printer
from git_sandbox.cli.choices import choose
from git_sandbox.cli.result import Result
from git_sandbox.doctor import Check, Verdict, fixes
from git_sandbox.doctor.fixes import Fix
from git_sandbox.errors import RequirementError

_STDERR = 2


def fix(look: Callable[[], list[Check]], *, dry_run: bool, yes: bool, as_json: bool) -> Result:
    """`look`: the checks, made again at the end. Raises RequirementError where nobody can be asked, or root's rights
    cannot be had.
    """
    rows = look()
    planned = fixes.fixes(rows, apt=process.which("apt-get") is not None)
    left = _by_hand(rows, planned)
    if not as_json:
        for line in (*_shown(planned), *left):
            printer.line(line)
    if dry_run or not planned:
        return _result(rows, planned, [], left, dry_run=dry_run)
    fixes.require_root()
    if not yes and (as_json or not common.interactive()):
        raise RequirementError(
            "nothing was run: there is no terminal to ask on", hint="add --yes: `sandbox doctor --fix --yes`"
        )
    done = [fix for fix in planned if (yes or _agreed(fix)) and _ran(fix)]
    return _result(look(), planned, done, left, dry_run=False)


def _shown(planned: Sequence[Fix]) -> list[str]:
    lines = []
    for fix in planned:
        lines += [f"{'Needed' if fix.needed else 'Optional'}: {fix.why}", *(f"  {words}" for words in fix.shown)]
    return lines or ["There is nothing that --fix can do."]


def _by_hand(rows: Sequence[Check], planned: Sequence[Fix]) -> list[str]:
    """What is missing and stays so."""
    lines = []
    if (names := fixes.unknown(rows)) and not any("apt-get" in words for fix in planned for words in fix.argv):
        lines.append(f"No apt-get here: use your package manager to install what Debian calls {', '.join(names)}.")
    rest = [row for row in rows if row.verdict is Verdict.MISSING and not (row.packages or row.command)]
    return [*lines, *(f"By hand: {row.name}: {row.result}{f': {row.hint}' if row.hint else ''}" for row in rest)]


def _agreed(fix: Fix) -> bool:
    question = f"Run {'this' if len(fix.argv) == 1 else 'these'} for {fix.why}?"
    answers = {"yes": f"run {'; '.join(fix.shown)}", "no": "leave it as it is"}
    return choose(question, answers, "no") == "yes"


def _ran(fix: Fix) -> bool:
    """What it says goes to our standard error; it may ask for a password."""
    for words in fix.argv:
        printer.line(click.style(f"$ {' '.join(words)}", bold=True))
        with process.spawn(words, stdin=0, stdout=_STDERR, stderr=_STDERR, foreground=True) as child:
            code = child.wait()
        if code != 0:
            printer.line(f"`{words[0]}` ended with exit code {code}: the remaining commands of this fix were not run")
            return False
    if fix.then:
        printer.line(fix.then[0].upper() + fix.then[1:])
    return True


def _result(rows: list[Check], planned: list[Fix], done: list[Fix], left: list[str], *, dry_run: bool) -> Result:
    missing = [row.name for row in rows if row.verdict is Verdict.MISSING]
    text = f"Still missing: {', '.join(missing)}." if missing else "Nothing required is missing."
    data: dict[str, Any] = {"checks": rows, "fixes": planned, "done": done, "by_hand": left, "dry_run": dry_run}
    return Result("doctor", data, text=text, exit_code=RequirementError.exit_code if missing else 0)
