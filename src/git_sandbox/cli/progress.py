"""Progress of long work: a spinner on stderr, only when that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from git_sandbox.text import one_line


@contextlib.contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that shows what is being done now; the empty text takes the display away."""
    if quiet or not sys.stderr.isatty():
        yield lambda _text: None
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
