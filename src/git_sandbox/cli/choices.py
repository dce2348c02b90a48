"""Questions with a few answers: a letter is enough, `?` explains them, an empty line takes the default."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping

import click

from git_sandbox.cli import printer
from git_sandbox.text import outgoing

ATTEMPTS = 20  # whatever types something else for ever is no person


def choose(question: str, answers: Mapping[str, str], default: str) -> str:
    """One of `answers` (what each means). Raises click.Abort at the end of input, or after ATTEMPTS that are none."""
    text = f"{question} [{_listed(answers, default)}]"
    for _ in range(ATTEMPTS):
        with shown_again(f"{text}: "):
            given = printer.prompt(text, default).lower()
        answer = next((option for option in answers if given and option.startswith(given)), None)
        if answer is not None:
            return answer
        for word, meaning in answers.items():
            printer.line(f"  {word[0]}  {word}: {meaning}{' (default)' if word == default else ''}")
    raise click.Abort


def _listed(answers: Mapping[str, str], default: str) -> str:
    if set(answers) == {"yes", "no"}:
        return "Y/n" if default == "yes" else "y/N"
    return ", ".join(f"{answer}*" if answer == default else answer for answer in answers)


@contextlib.contextmanager
def shown_again(text: str) -> Iterator[None]:
    """Print the question again after Ctrl-Z and `fg`: the shell has written over it."""
    before = signal.signal(signal.SIGCONT, lambda *_: os.write(2, outgoing(text).encode("utf-8", "replace")))
    try:
        yield
    finally:
        signal.signal(signal.SIGCONT, before)
