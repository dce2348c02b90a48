"""Progress of long work: a spinner on stderr if that is a terminal; plain lines for a program that asks for them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from git_sandbox import settings
from git_sandbox.text import one_line

MOST_LINE = 500  # characters


@contextlib.contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done now; the empty text takes the display away."""
    if quiet or not sys.stderr.isatty():
        descriptor = settings.progress_descriptor()
        yield _nobody if descriptor is None else _lines(descriptor)
        return
    from rich.console import Console  # takes 50 ms to import
    from rich.text import Text

    console = Console(stderr=True)
    status = console.status("")

    def say(text: str) -> None:
        if text:
            status.update(Text(one_line(text, limit=max(20, console.width - 4))))  # plain: no markup in names
            status.start()
        else:
            status.stop()

    try:
        yield say
    finally:
        status.stop()


def _nobody(_text: str) -> None:
    pass


def _lines(descriptor: int) -> Callable[[str], None]:
    """For a program that shows it: a line for each word, and nothing that waits for a reader who has gone."""

    def say(text: str) -> None:
        if text:
            with contextlib.suppress(OSError):
                os.write(descriptor, f"{one_line(text, limit=MOST_LINE)}\n".encode())

    return say
