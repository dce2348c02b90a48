from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

import git_sandbox
from git_sandbox import settings
from git_sandbox.cli import columns, common, configured, printer
from git_sandbox.cli.choices import choose
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.sandbox import uninstall
from git_sandbox.sandbox.uninstall import Survey
from git_sandbox.text import one_line

_MOST = 1 << 20  # bytes of a start file that is looked at
_START_FILES = (".bashrc", ".bash_profile", ".profile", ".zshrc", ".config/fish/config.fish", ".ssh/config")
_COMPLETIONS = (
    ".config/fish/completions/sandbox.fish",
    ".local/share/bash-completion/completions/sandbox",
    ".zfunc/_sandbox",
)
_OURS = re.compile(r"git-sandbox|_sandbox_completion|_SANDBOX_COMPLETE|sandbox completion")


@click.command("uninstall")
@click.option("--settings", "with_settings", is_flag=True, help="Remove your configuration, keys and agents, too.")
@click.option("-f", "--force", is_flag=True, help="Remove sandboxes whose work exists nowhere else.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
@common.json_option
def command(with_settings: bool, force: bool, as_json: bool, **given: bool) -> Result:
    """Remove all data from this computer: sandboxes of all repositories, their refs, images, the trash.

    Shows it first and asks. It refuses while a sandbox runs, and, without --force, while one holds work that exists
    nowhere else; nothing can be restored afterwards. Repositories are otherwise unchanged, except for objects that git
    removes itself. The program and lines in your start files stay; how to remove them is printed.

    \b
    Examples:
      sandbox uninstall --dry-run
      sandbox uninstall --settings
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    effective, _ = settings.resolve(None, configured.project())
    survey = uninstall.survey()
    if not as_json:
        for line in _shown(survey, with_settings=with_settings):
            printer.line(line)
    by_hand = [_program(), *_start_files(Path.home())]
    data = {"found": survey, "by_hand": by_hand, "left": list[Path](), "dry_run": given["dry_run"]}
    if given["dry_run"]:
        return Result("uninstall", data, text=_then(by_hand))
    uninstall.require_removable(survey, force=force)
    _agree(yes=given["yes"], as_json=as_json)
    data["left"] = left = uninstall.uninstall(effective, with_settings=with_settings, force=force)
    lines = ["Removed.", *(f"Cannot remove {one_line(os.fspath(path))}" for path in left), _then(by_hand)]
    return Result("uninstall", data, text="\n".join(lines), exit_code=1 if left else 0)


def _agree(*, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json or not common.interactive():
        raise UsageError("there is no terminal to ask on", hint="add --yes")
    answers = {"yes": "remove it; nothing of it can be restored", "no": "nothing changes"}
    if choose("Remove all of that?", answers, "no") != "yes":
        raise click.Abort


def _shown(survey: Survey, *, with_settings: bool) -> Iterator[str]:
    yield f"{columns.number(len(survey.sandboxes), 'sandbox', 'sandboxes')}, {survey.trash} in the trash"
    for sandbox in (*survey.sandboxes, *survey.others):
        yield f"  {sandbox.name}{f': {one_line(sandbox.why, limit=300)}' if sandbox.why else ''}"
    yield f"refs/sandbox* in {columns.number(len(survey.repositories), 'repository', 'repositories')}"
    for place in survey.repositories:
        yield f"  {one_line(os.fspath(place), limit=300)}"
    for kept in survey.places:
        yield f"{one_line(os.fspath(kept.path), limit=300)} ({columns.size(kept.size)})"
    fate = "" if with_settings else " (stays: your settings; --settings removes them)"
    yield from [f"{one_line(os.fspath(survey.settings), limit=300)}{fate}"] if survey.settings.is_dir() else []


def _then(by_hand: list[str]) -> str:
    return "\n".join(["To finish, by hand:", *(f"  {line}" for line in by_hand)])


def _program() -> str:
    """How this program goes, by where it is."""
    prefix = Path(sys.prefix)
    if "pipx" in prefix.parts:
        return "`pipx uninstall git-sandbox`"
    if prefix.parts[-3:-1] == ("uv", "tools") or "tools" in prefix.parts:
        return "`uv tool uninstall git-sandbox`"
    source = prefix.parent / "src" / "git_sandbox"
    if prefix.name == ".venv" and Path(git_sandbox.__file__).is_relative_to(source):  # not a project that uses it
        return f"`rm -r {one_line(os.fspath(prefix.parent), limit=300)}`, the clone it was installed from"
    return "`pip uninstall git-sandbox`"


def _start_files(home: Path) -> list[str]:
    lines = [f"`rm ~/{name}`" for name in _COMPLETIONS if (home / name).is_file()]
    for name in _START_FILES:
        try:
            with (home / name).open("rb") as file:
                text = file.read(_MOST).decode("utf-8", "replace")
        except OSError:
            continue
        numbers = [str(number) for number, line in enumerate(text.splitlines(), 1) if _OURS.search(line)]
        lines += [f"~/{name}: line {', '.join(numbers)} (what `sandbox` printed for it)"] if numbers else []
    return lines
