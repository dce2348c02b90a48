"""Long text on a terminal: through the user's pager, chosen as git chooses it, and in our colours."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from git_sandbox import process
from git_sandbox.cli import printer
from git_sandbox.git import command
from git_sandbox.settings import environment
from git_sandbox.text import outgoing

WHEN = ("auto", "always", "never")
_CHOOSING = ("GIT_PAGER", "PAGER")


def coloured(when: str) -> bool:
    """Whether to colour what goes to standard output. `NO_COLOR` and a dumb terminal count for `auto`."""
    if when != "auto":
        return when == "always"
    return sys.stdout.isatty() and printer.colours() is None


def chosen() -> str:
    """The shell command git would pipe its output into: GIT_PAGER, core.pager, PAGER, or what git was built with."""
    variables = {name: environment()[name] for name in _CHOOSING if name in environment()}
    done = command.discover(Path.cwd(), "var", "GIT_PAGER", env=variables)
    return done.text.strip() if done.returncode == 0 else "cat"


def show(text: str) -> None:
    """Page `text` when standard output is a terminal, else just print it. It must be safe to show already."""
    text = outgoing(text)
    program = chosen() if sys.stdout.isatty() else "cat"
    if program in ("", "cat"):
        printer.line(text, err=False, color=True)
        return
    sys.stdout.flush()
    process.page(program, f"{text}\n".encode())


def diff_colours(text: str) -> str:
    return "\n".join(_line(line) for line in text.split("\n"))


def _line(line: str) -> str:
    if line.startswith(("+++", "---", "diff ", "index ")):
        return click.style(line, bold=True)
    colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return click.style(line, fg=colour) if colour else line
