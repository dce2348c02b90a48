from __future__ import annotations

from pathlib import Path

import click

from git_sandbox import requirements, settings
from git_sandbox.cli import common, progress
from git_sandbox.cli.result import Result
from git_sandbox.errors import RequirementError
from git_sandbox.image import spec
from git_sandbox.requirements import Check, Verdict
from git_sandbox.text import one_line

_COLOURS = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.MISSING: "red"}


@click.command("doctor")
@common.json_option
def command(as_json: bool) -> Result:
    """Check what this machine has and say what is missing.

    The accelerator is proved by booting a kernel: a /dev/kvm that can be opened may still hang every guest. Ends with
    11 when something needed is missing.
    """
    wanted, _ = settings.resolve()
    asked = spec.load(Path(wanted.image) if wanted.image else None, wanted.packages)
    rows = []
    with progress.shown(quiet=as_json) as say:
        say("Checking")
        rows = list(requirements.checks(asked, accelerator=wanted.accelerator))
    missing = any(row.verdict is Verdict.MISSING for row in rows)
    return Result("doctor", rows, text=_text(rows), exit_code=RequirementError.exit_code if missing else 0)


def _text(rows: list[Check]) -> str:
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        verdict = click.style(f"{row.verdict.value:7}", fg=_COLOURS[row.verdict])
        lines.append(f"{verdict}  {row.name:{width}}  {one_line(row.result)}")
        if row.hint:
            lines.append(f"{'':7}  {'':{width}}  {click.style('next:', fg='cyan')} {row.hint}")
    return "\n".join(lines)
