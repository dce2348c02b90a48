"""What `spawn` and `run` have in common: options, the story, what to do with what came home, and saying so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from git_sandbox import settings
from git_sandbox.cli import ask, common, progress, words
from git_sandbox.cli.result import Result
from git_sandbox.errors import UsageError
from git_sandbox.sandbox import after, story
from git_sandbox.sandbox.options import Options

_SETTINGS = (
    "backend", "accelerator", "cpus", "memory", "disk", "net", "image", "packages", "ignored", "on_exit", "dirty",
    "boot_timeout",
)  # fmt: skip


def options(function: common.F) -> common.F:
    """The options of both verbs."""
    decorators: list[Callable[[Any], Any]] = [
        click.option("--name", help="Name of the sandbox instead of vm-1, vm-2, …: a-z, 0-9 and hyphens."),
        click.option("--skip-unreadable", is_flag=True, help="Leave files behind that you cannot read."),
        common.setting_options(*_SETTINGS),
        common.json_option,
    ]
    for decorate in reversed(decorators):
        function = decorate(function)
    return function


def live(verb: str, command: tuple[str, ...] | None, given: dict[str, Any]) -> Result:
    """Spawn, run, bring home, settle; the session's exit code is the result's."""
    as_json = bool(given.pop("as_json"))
    name, skip = given.pop("name"), bool(given.pop("skip_unreadable"))
    wanted, _ = settings.resolve(given)
    if command is None and not sys.stdin.isatty():
        raise UsageError("a shell needs a terminal", hint="run a command with `sandbox run -- CMD …`")
    repo = common.repository()
    chosen = Options(wanted, name, command, common.subdirectory(repo), skip_unreadable=skip, stdout=2 if as_json else 1)
    with progress.shown(quiet=as_json) as say:
        if command is None:
            words.first_use(wanted, say)
        finished = story.spawn(repo, chosen, say)
    asked = _can_ask(command, finished.interrupted, as_json=as_json)
    questions = ask.questions(repo, finished) if asked else after.Questions()
    settled = after.settle(repo, finished.record, finished.home, questions, on_exit=wanted.on_exit, dirty=wanted.dirty)
    return Result(
        verb, words.data(finished, settled), notes=words.story(repo, finished, settled), exit_code=finished.exit_code
    )


def _can_ask(command: tuple[str, ...] | None, interrupted: int, *, as_json: bool) -> bool:
    return command is None and not interrupted and not as_json and common.interactive()
