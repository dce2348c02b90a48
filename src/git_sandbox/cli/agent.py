from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from git_sandbox.agents import agreed, catalogue
from git_sandbox.agents.catalogue import Agent
from git_sandbox.cli import agent_words, columns, common
from git_sandbox.cli.result import Result
from git_sandbox.errors import RepositoryError, UsageError
from git_sandbox.git.repo import Repository


class Agents(click.Group):
    """Its shell completion knows the names of agents."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [each for each in complete_names(ctx, self.params[0], incomplete) if each not in self.commands]
        return [*(CompletionItem(each) for each in names), *super().shell_complete(ctx, incomplete)]


def complete_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of agents, for the shell; nothing at all when something is wrong."""
    try:
        return [each for each in catalogue.names(_worktree()) if each.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - completion must never print a traceback into a command line
        return []


def _around() -> Repository | None:
    try:
        return common.repository()
    except RepositoryError:
        return None


def _worktree() -> Path | None:
    found = _around()
    return found.worktree if found else None


def identity(agent: Agent, repo: Repository | None) -> str:
    """Of the repository whose manifest it is: agreeing to one says nothing about another's. Empty for other origins."""
    if agent.origin != catalogue.REPOSITORY or repo is None:
        return ""
    from git_sandbox import registry

    consent = registry.consent(repo)
    consent.claim()  # the repository may have its identity only now
    return consent.identity()


@click.group("agent", cls=Agents, invoke_without_command=True, no_args_is_help=False)
@click.pass_context
def command(context: click.Context) -> None:
    """List coding agents, and show what each of them wants.

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


name_argument = click.argument("name", metavar="NAME", shell_complete=complete_names)


@command.command("ls", short_help="List agents, and whose manifests they are.")
@common.json_option
def list_agents(as_json: bool) -> Result:
    """List the agents there are. FROM is user (your configuration directory), shipped, or repository.

    \b
    Examples:
      sandbox agent ls
      sandbox agent ls --json | jq -r '.data[].name'
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    rows = catalogue.every(_worktree())
    cells = [(row.name, row.origin, row.description or f"not valid: {row.problem}") for row in rows]
    return Result("agent ls", rows, text=columns.table(("NAME", "FROM", "WHAT"), cells))


@command.command("show", short_help="Show what an agent wants, and what of it you agreed to.")
@name_argument
@click.option("--toml", is_flag=True, help="Print its manifest as it is: a start for one of your own.")
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
    place = identity(agent, repo)
    given, chosen = agreed.given(agent, place), agent_words.chosen(agent)
    data = catalogue.as_data(agent) | {
        "agreed": given,
        "changes": agent_words.changes(agent, place),
        "goes_in": [f"~/{each.path}" for each in chosen.files],
        "stays": list(chosen.kept),
    }
    lines = [*agent_words.about(agent, chosen), *agent_words.consent(agent, place)]
    return Result("agent show", data, text="\n".join(lines))


@command.command("trust", short_help="Agree to what an agent wants, without starting it.")
@name_argument
@common.json_option
def trust_agent(name: str, as_json: bool) -> Result:
    """Agree to what an agent wants, as it is now: for scripts, which nobody can ask. Another content is asked about
    again.

    \b
    Examples:
      sandbox agent show claude && sandbox agent trust claude
    """  # noqa: D301 - \b is click's mark for text that must keep its lines
    del as_json
    repo = _around()
    agent = catalogue.find(name, repo.worktree if repo else None)
    agreed.give(agent, identity(agent, repo))
    return Result("agent trust", {"name": name}, text=f"You agreed to {name}. `sandbox agent {name}` starts it.")
