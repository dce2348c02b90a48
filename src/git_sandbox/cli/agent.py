from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from git_sandbox.agents import agreed, catalogue
from git_sandbox.cli import agent_start, agent_words, columns, common, life
from git_sandbox.cli.result import Result
from git_sandbox.errors import RepositoryError, UsageError
from git_sandbox.git.repo import Repository


class Agents(click.Group):
    """`ls`, `show` and `trust`; any other word is the name of an agent that is to start."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or start_agent

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        matching = [name for name in names() if name.startswith(incomplete)]
        return [*(CompletionItem(name) for name in matching), *super().shell_complete(ctx, incomplete)]


def names() -> list[str]:
    """Those of the agents there are here; nothing at all when something is wrong."""
    try:
        return [*catalogue.names(_worktree())]
    except Exception:  # noqa: BLE001 - completion must never print a traceback into a command line
        return []


def complete_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in names() if name.startswith(incomplete)]


def _around() -> Repository | None:
    try:
        return common.repository()
    except RepositoryError:
        return None


def _worktree() -> Path | None:
    repository = _around()
    return repository.worktree if repository else None


@click.group("agent", cls=Agents, invoke_without_command=True, no_args_is_help=False)
@click.pass_context
def command(context: click.Context) -> None:
    """List coding agents, and show what each of them asks for.

    An agent is a manifest: what is installed into the guest's image for it, what it reaches, which keys it can use,
    which files of this host it gets, and its command. Some are shipped; yours are in `agents/NAME.toml` of the
    configuration directory, those of a repository in `.sandbox/agents/NAME.toml`.

    \b
    Examples:
      sandbox agent ls
      sandbox agent show claude
      sandbox agent show --toml claude > ~/.config/git-sandbox/agents/mine.toml
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    if context.invoked_subcommand is None:
        raise UsageError("`sandbox agent` needs the name of an agent", hint="`sandbox agent ls` lists them")


@command.command("NAME", short_help="Start that agent in a new sandbox, on this terminal.")
@life.options
@common.tty_option
@click.option(
    "--on",
    "places",
    multiple=True,
    metavar="PLACE",
    help="Run one task on another machine (ssh:HOST); of several, the one with the most room.",
)
@click.option("--update", is_flag=True, help="Rebuild its image first, with the newest versions its manifest allows.")
@click.argument("arguments", metavar="[-- ARGS...]", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def start_agent(
    context: click.Context, /, arguments: tuple[str, ...], places: tuple[str, ...], update: bool, **given: Any
) -> Result:
    """Start the agent NAME in a new sandbox of this repository. ARGS are appended to its command.

    Before the first start you see what it may reach, which keys it can use and what of this host goes in, and
    are asked; again only when its manifest changes. The agent has a terminal that outlives yours: Ctrl-\\ leaves it,
    `sandbox attach` comes back. When it ends, its commits come home into refs/sandbox*/ID and wait for you to merge.

    With --on ssh:HOST, as for `sandbox run --on`, there is no terminal: ARGS are its single task. Keys stay on this
    host, so the agent has none there; `--env NAME` passes a variable, which the guest can read.

    `sandbox NAME` is short for it where no command has that name. For one task and no terminal:
    `sandbox run --agent NAME -- TASK`.

    \b
    Examples:
      sandbox agent claude
      sandbox agent claude --detach --name fix -- 'Fix the failing test'
      sandbox codex --memory 8G
      sandbox agent claude --on ssh:build-1 --env ANTHROPIC_API_KEY -- 'Fix it'
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    return life.live(
        "agent", arguments, given, agent=context.info_name or "", update=update, elsewhere=life.Elsewhere(places)
    )


name_argument = click.argument("name", metavar="NAME", shell_complete=complete_names)


@command.command("ls", short_help="List agents and where their manifests come from.")
@common.json_option
def list_agents(as_json: bool) -> Result:
    """List the available agents. FROM is user (your configuration directory), shipped, or repository.

    \b
    Examples:
      sandbox agent ls
      sandbox agent ls --json | jq -r '.data[].name'
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    rows = catalogue.every(_worktree())
    cells = [(row.name, row.origin, row.description or f"not valid: {row.problem}") for row in rows]
    return Result("agent ls", rows, text=columns.table(("NAME", "FROM", "WHAT"), cells))


@command.command("show", short_help="Show what an agent asks for, and whether you agreed to it.")
@name_argument
@click.option("--toml", is_flag=True, help="Print its manifest as TOML: a template for your own.")
@common.json_option
def show_agent(name: str, toml: bool, as_json: bool) -> Result:
    """Show what an agent would reach and get, before it does.

    \b
    Examples:
      sandbox agent show claude
      sandbox agent show --toml claude
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    repo = _around()
    agent = catalogue.find(name, repo.worktree if repo else None)
    if toml:
        return Result("agent show", catalogue.as_data(agent), text=agent.content.decode("utf-8", "replace").rstrip())
    place = agent_start.identity(agent, repo)
    given, chosen = agreed.given(agent, place), agent_words.chosen(agent)
    data = catalogue.as_data(agent) | {
        "agreed": given,
        "changes": agent_words.changes(agent, place),
        "goes_in": [f"~/{file.path}" for file in chosen.files],
        "stays": list(chosen.kept),
    }
    lines = [*agent_words.about(agent, chosen), *agent_words.consent(agent, place)]
    return Result("agent show", data, text="\n".join(lines))


@command.command("trust", short_help="Agree to what an agent asks for, without starting it.")
@name_argument
@common.json_option
def trust_agent(name: str, as_json: bool) -> Result:
    """Agree to what an agent asks for now, without a question, for scripts. All of it is printed first, on
    standard error. A changed manifest needs consent again.

    \b
    Examples:
      sandbox agent trust claude
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    repo = _around()
    agent = catalogue.find(name, repo.worktree if repo else None)
    place = agent_start.identity(agent, repo)
    agent_start.show(agent, place, agent_words.chosen(agent))
    agreed.give(agent, place)
    return Result("agent trust", {"name": name}, text=f"Agreed to {name}. `sandbox agent {name}` starts it.")
