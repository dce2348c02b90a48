"""A process that ends a group of others when we are killed: SIGKILL lets nobody clean up after himself."""

from __future__ import annotations

import contextlib
import os
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

from git_sandbox.process.starting import start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# It reads the number of a process group, and ends it when its input ends, which is when we do. A line more, and it is
# to end nobody.
SCRIPT = 'read -r group && [ "$group" ] && { read -r over || kill -s KILL -- "-$group"; }'


@contextlib.contextmanager
def watching() -> Iterator[Callable[[int], None]]:
    """Yields what takes the process group that has to end when we are killed while the block lasts.

    A group's number is nobody else's as long as one of its processes is there, or has not been waited for.
    """
    watch = start(
        ["/bin/sh", "-c", SCRIPT], stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, cwd="/", env={}, start_new_session=True
    )
    assert watch.stdin is not None  # noqa: S101 - started with stdin=PIPE
    lines = watch.stdin.fileno()

    def say(line: str) -> None:
        with contextlib.suppress(OSError):  # it was ended
            os.write(lines, line.encode())

    try:
        yield lambda group: say(f"{group}\n")
    finally:
        say("\n")
        watch.stdin.close()
        watch.wait()
