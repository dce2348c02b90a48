"""Tables, ages and sizes for people. Imports next to nothing, because quick verbs wait for it."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence

_SPECIAL = frozenset('"$`\\!')  # what a shell looks for between double quotes
BOLD, PLAIN = "\033[1m", "\033[0m"


def plain() -> bool:
    """Whether nobody wants colours, wherever they go: `NO_COLOR` (no-color.org), a terminal without."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def age(seconds: float) -> str:
    """How long ago, in one unit, as docker and kubectl say it."""
    passed = max(0, int(time.time() - seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if passed >= size:
            return f"{passed // size}{unit}"
    return f"{passed}s"


FLEETING = "It is deleted now, as the settings `trash` and `trash-size` say."


def until(seconds: float | None) -> str:
    """When something expires, as the end of a sentence: ` until …`, or nothing where it does not."""
    if seconds is None:
        return ""
    return f" until {time.strftime('%Y-%m-%d %H:%M', time.localtime(seconds))}"


def left(seconds: float | None) -> str:
    """How long something stays, in one unit; `-` where it does not expire."""
    if seconds is None:
        return "-"
    remaining = max(0, int(seconds - time.time()))
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if remaining >= unit:
            return f"{remaining // unit}{name}"
    return f"{remaining}s"


def size(count: int) -> str:
    """Bytes in binary units."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":  # noqa: PLR2004 - the step of binary units
            return f"{value:.0f} {unit}" if unit in ("B", "KiB") else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError  # the loop returns at its last unit


def number(count: int, what: str, many: str = "") -> str:
    """`1 machine`, `2 machines`."""
    return f"{count} {what}" if count == 1 else f"{count} {many or f'{what}s'}"


def command_line(words: Sequence[str]) -> str:
    """As somebody would type it: a word with an apostrophe is in double quotes where these change nothing of it."""
    return " ".join(
        f'"{word}"' if "'" in word and not _SPECIAL.intersection(word) else shlex.quote(word) for word in words
    )


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be, two spaces apart, the last one open."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (head, *rows)]
    lines = ["  ".join(cells).rstrip() for cells in padded]
    return "\n".join([f"{BOLD}{lines[0]}{PLAIN}", *lines[1:]])
