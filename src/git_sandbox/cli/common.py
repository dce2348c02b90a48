"""Shared by the verbs: options, the current repository, shell completion of sandbox names."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from git_sandbox.errors import RepositoryError, UsageError
from git_sandbox.git import repo as repos
from git_sandbox.git.repo import Repository
from git_sandbox.text import one_line


def repository() -> Repository:
    """The repository around the working directory. Raises RepositoryError."""
    return repos.discover(Path.cwd())


def sandbox(name: str) -> tuple[Repository, str]:
    """The repository of the sandbox that is meant, and its ID there.

    `name` is an ID in the repository around the working directory, or KEY/ID as `ls --everywhere` has it, wherever we
    stand. Raises RepositoryError; StateError where there is no such sandbox or its repository is gone.
    """
    if "/" not in name:
        return repository(), name
    from git_sandbox.sandbox import everywhere

    return everywhere.addressed(name, _around())


def sandbox_here(name: str) -> tuple[Repository, str]:
    """The same for what is about the checkout around the working directory: a sandbox of another one is refused."""
    if "/" not in name:
        return repository(), name
    from git_sandbox.sandbox import everywhere

    repo, ident = everywhere.addressed(name, around := _around())
    if around is None or around.common_dir != repo.common_dir:
        place = one_line(str(repo.worktree), limit=300)
        raise UsageError(
            f"`{name}` belongs to another repository, and this command works on the checkout you are in",
            hint=f"run it in {place}",
        )
    return around, ident


def _around() -> Repository | None:
    with contextlib.suppress(RepositoryError):
        return repository()
    return None


def subdirectory(repo: Repository) -> str:
    """Where in the worktree we stand, relative to its top."""
    here = Path.cwd().resolve()
    top = repo.worktree.resolve()
    return os.fspath(here.relative_to(top)) if here != top and here.is_relative_to(top) else ""


def complete_ids(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the repository's sandboxes, for the shell; nothing at all when something is wrong."""
    from git_sandbox import store

    try:
        if "/" in incomplete:
            from git_sandbox.sandbox import everywhere

            return [sandbox.name for sandbox in everywhere.look().sandboxes if sandbox.name.startswith(incomplete)]
        return [entry.id for entry in store.entries(repository()) if entry.id.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - completion must never print a traceback into a command line
        return []


def complete_sandbox_path(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """`ID:` for sandboxes, and files of this host."""
    sandboxes = [CompletionItem(f"{name}:") for name in complete_ids(context, parameter, incomplete)]
    return [*sandboxes, CompletionItem(incomplete, type="file")]


def complete_trashed(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """The same for what is in the trash."""
    from git_sandbox import store
    from git_sandbox.trash import note

    try:
        root = store.state_directory(repository())
        return [trashed.id for trashed in note.listed(root) if trashed.id.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - completion must never print a traceback into a command line
        return []


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
id_argument = click.argument("name", metavar="ID", shell_complete=complete_ids)


tty_option = click.option(
    "--tty/--no-tty",
    "-t/-T",
    "tty",
    default=None,
    help="Give the command a terminal, or none. [default: when standard input and output are one]",
)


def terminal(tty: bool | None, *, as_json: bool) -> bool:
    """Whether a command gets a terminal: as asked, else when ours would be its own."""
    return (sys.stdin.isatty() and sys.stdout.isatty() and not as_json) if tty is None else tty


def interactive() -> bool:
    """Whether there is somebody to ask: a terminal on both ends, and nobody said otherwise (CI)."""
    return sys.stdin.isatty() and sys.stderr.isatty()
