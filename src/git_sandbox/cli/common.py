"""What verbs share: options, the repository they stand in, colours, shell completion of sandbox names."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from git_sandbox.git import repo as repos
from git_sandbox.git.repo import Repository


def repository() -> Repository:
    """The repository around the working directory. Raises RepositoryError."""
    return repos.discover(Path.cwd())


def subdirectory(repo: Repository) -> str:
    """Where in the worktree we stand, relative to its top."""
    here = Path.cwd().resolve()
    top = repo.worktree.resolve()
    return os.fspath(here.relative_to(top)) if here != top and here.is_relative_to(top) else ""


def complete_ids(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of the repository's sandboxes, for the shell; nothing at all when something is wrong."""
    from git_sandbox import store

    try:
        return [entry.id for entry in store.entries(repository()) if entry.id.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - completion must never print a traceback into a command line
        return []


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
id_argument = click.argument("name", metavar="ID", shell_complete=complete_ids)


def interactive() -> bool:
    """Whether there is somebody to ask: a terminal on both ends, and nobody said otherwise (CI)."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def age(seconds: float) -> str:
    """How long ago, in one unit, as docker and kubectl say it."""
    passed = max(0, int(time.time() - seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if passed >= size:
            return f"{passed // size}{unit}"
    return f"{passed}s"


def size(count: int) -> str:
    """Bytes in binary units."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":  # noqa: PLR2004 - the step of binary units
            return f"{value:.0f} {unit}" if unit in ("B", "KiB") else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError  # the loop returns at its last unit


def number(count: int, what: str) -> str:
    """`1 machine`, `2 machines`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be, two spaces apart, the last one open."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    lines = ["  ".join(cells).rstrip() for cells in padded]
    return "\n".join([click.style(lines[0], bold=True), *lines[1:]])
