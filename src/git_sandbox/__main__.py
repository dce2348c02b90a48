"""Entry point of `sandbox` and of `python -m git_sandbox`."""

from __future__ import annotations

import gc
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

# Until `main` listens to signals, Ctrl-C ends the process as it ends any other program: the default handler would print
# where in somebody's imports we were. Who runs us with SIGINT ignored has a reason.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Imports make many objects and no garbage: looking for some every 700 objects took a fifth of the time of `sandbox ls`.
gc.set_threshold(50_000)


def main() -> int:
    """Entry point of `sandbox` and `git-sandbox`."""
    try:
        return _command()
    finally:
        for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
            _drop_unwritable(descriptor, stream)


def _command() -> int:
    if sys.argv[1:] in (["--version"], ["-V"]):
        from git_sandbox.cli import version

        code = version.show()
        if code is not None:
            sys.exit(code)
    if sys.argv[1:] == ["ls"]:
        from git_sandbox.cli import tables

        code = tables.quick()
        if code is not None:
            sys.exit(code)
    from git_sandbox.cli.main import main as command_line

    return command_line()


def _drop_unwritable(descriptor: int, stream: TextIO | None) -> None:
    """Python writes at its end what is left; where that fails its exit code is 120 and not ours (3.11.2)."""
    if stream is None or stream.closed:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), descriptor)


if __name__ == "__main__":
    main()
