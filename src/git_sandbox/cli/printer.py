"""The only output of the command line: everything printed, asked or shown as progress passes `text.outgoing` here.

A test walks the code: no other module calls click's or Python's ways to print. (`tables`, which cannot wait for click,
passes `outgoing` by itself; what a guest's own program says goes past all of this.)
"""

from __future__ import annotations

import codecs
import sys
from types import TracebackType

import click

from git_sandbox import signals
from git_sandbox.cli import columns
from git_sandbox.text import one_line, outgoing, printable

MOST_NOTE = 200  # characters


def colours() -> bool | None:
    """False where nobody wants any. None: click looks where it goes."""
    return False if columns.plain() else None


def line(text: str = "", *, err: bool = True, color: bool | None = None) -> None:
    """A line, or several. `color` True: colours even where it is no terminal."""
    click.echo(outgoing(text), err=err, color=colours() if color is None else color)


def _typed(space: str) -> str:
    """Python's `input`, which alone loses a Ctrl-C that comes between the question and its read(2)."""
    if sys.stdin.isatty():
        sys.stderr.write(space)
        sys.stderr.flush()
        signals.wait_readable(sys.stdin.fileno())
        space = ""
    return input(space)


click.termui.visible_prompt_func = _typed


def prompt(question: str, default: str) -> str:
    """What somebody types after the question, on standard error. Raises click.Abort at the end of input."""
    answer = click.prompt(outgoing(question), default=default, show_default=False, err=True)
    return str(answer).strip()


def confirm(question: str) -> None:
    """Raises click.Abort unless the answer is yes."""
    click.confirm(outgoing(question), abort=True, err=True)


def unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook`: a fault of ours says where it is, and the names in its message are still somebody else's."""
    import traceback

    click.echo(printable("".join(traceback.format_exception(kind, error, trace))).rstrip(), err=True)


def bell(text: str) -> None:
    """Ring the terminal, if standard error is one, and have it show a note (OSC 9) where it knows how."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\x1b]9;{one_line(text, limit=MOST_NOTE)}\x07\x07")
        sys.stderr.flush()


def raw(chunk: bytes, *, err: bool = False) -> None:
    """Bytes of a guest's program on standard output, which is no terminal; `err`: on standard error."""
    to = sys.stderr if err else sys.stdout
    to.buffer.write(chunk)
    to.buffer.flush()


class Foreign:
    """What a command on another machine prints, as it comes in pieces: byte for byte, and on a terminal nothing in it
    is obeyed.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(2)]

    def __call__(self, channel: int, data: bytes) -> None:
        """`channel`: 1 for output, 2 for error output. With `as_json` the first is for one object only."""
        err = channel != 1 or self._as_json
        if (sys.stderr if err else sys.stdout).isatty():
            data = printable(self._decoders[err].decode(data)).encode()
        raw(data, err=err)


def clear() -> None:
    """An empty screen, where standard output is one."""
    click.clear()


def machine(text: str) -> None:
    """A line of JSON on standard output, which is escaped already: colours and joiners are data there."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
