"""Settings on the command line: their options, and what the repository's project file adds.

Apart from `common`, because verbs that only look must not wait for all of this to be imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from git_sandbox import projectfile, registry, settings
from git_sandbox.cli import printer
from git_sandbox.cli.common import repository
from git_sandbox.errors import RepositoryError, UsageError
from git_sandbox.git.repo import Repository
from git_sandbox.projectfile import ProjectFile
from git_sandbox.sandbox.options import Options
from git_sandbox.setting_values import AUTO
from git_sandbox.settings import Settings, Value
from git_sandbox.text import whole

F = TypeVar("F", bound=Callable[..., Any])
# The settings that `--help` of `spawn` and `run` shows; the others are in `--help-all` and in the reference.
COMMON = frozenset({"cpus", "memory", "net", "allow", "image", "env", "publish", "on_exit"})
_WHOLE = "git_sandbox.help_all"  # in a context's `meta`


class RareOption(click.Option):
    """An option that only `--help-all` shows."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return super().get_help_record(ctx) if ctx.meta.get(_WHOLE) else None


def _show_all(ctx: click.Context, _parameter: click.Parameter, given: bool) -> None:
    if given and not ctx.resilient_parsing:
        ctx.meta[_WHOLE] = True
        printer.line(ctx.get_help(), err=False, color=ctx.color)
        ctx.exit()


help_all_option = click.option(
    "--help-all", is_flag=True, is_eager=True, expose_value=False, callback=_show_all,
    help="Show all options and exit.",
)  # fmt: skip


def project(repo: Repository | None = None) -> ProjectFile | None:
    """What the repository around the working directory says about its sandboxes, if there is one."""
    try:
        where = repo or repository()
    except RepositoryError:
        return None
    return projectfile.read(where.worktree, registry.consent(where))


def resolved(repo: Repository, given: Mapping[str, object] | None = None) -> tuple[Settings, list[Value]]:
    """Settings for a sandbox of `repo`; says what its project file asks for in vain."""
    effective, values = settings.resolve(given, project(repo))
    held = [value for value in values if value.withheld]
    for value in held:
        line = f"note: the repository asks for {value.name.replace('_', '-')} = {whole(value.withheld)}: "
        printer.line(click.style(f"{line}ignored without your consent", fg="yellow"))
    if held:
        printer.line("Read it with `sandbox config`, agree to it with `sandbox config --trust`.")
    return effective, values


def with_devcontainer(
    repo: Repository, options: Options, values: list[Value], *, agent: bool, many: bool, here: bool
) -> Options:
    """`options` with what the repository's devcontainer.json asks for, if the user has agreed to that; says what does
    not work. `agent`: which has an image of its own. `many`: a port leads to one sandbox only. `here`: on this host.
    """
    setting = options.settings.devcontainer
    if setting == "none":
        return options
    from git_sandbox.devcontainer import discovery

    if setting == AUTO and not discovery.places(repo.worktree):
        return options
    if not here:
        if setting != AUTO:
            raise UsageError("--devcontainer cannot be used with --on and --job-out")
        _note("without the repository's devcontainer: it works on this host only")
        return options
    from git_sandbox.sandbox import devcontainers

    applied, notes = devcontainers.applied(repo, options, values, image=not agent, forwarded=not many)
    for note in notes:
        _note(note)
    return applied


def _note(text: str) -> None:
    printer.line(click.style(f"note: {whole(text)}", fg="yellow"))


def _complete_images(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of images that were fetched before, transports, and files."""
    from git_sandbox.cli import image_names  # late: only the shell asks

    names = image_names.complete_sources(context, parameter, incomplete)
    return [*(CompletionItem(name) for name in names), CompletionItem(incomplete, type="file")]


def setting_options(*names: str) -> Callable[[F], F]:
    """Options for settings, with help, choices and default taken from the one table of settings."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            row = settings.BY_NAME[name]
            kind: dict[str, Any] = {"type": click.Choice(row.choices)} if row.choices else {"metavar": name.upper()}
            kind["cls"] = click.Option if name in COMMON else RareOption
            if row.kind in ("list", "rules", "lines"):
                kind["multiple"] = True
            if name == "image":
                kind["shell_complete"] = _complete_images
            if row.choices == ("no", "yes"):
                kind |= {"is_flag": False, "flag_value": "yes"}  # `--auto-push` alone means yes
            default = f" [default: {row.default}]" if row.default else ""
            option = click.option(
                f"--{name.replace('_', '-')}", name, help=f"{row.help[0].upper()}{row.help[1:]}.{default}", **kind
            )
            function = option(function)
        return function

    return decorate
