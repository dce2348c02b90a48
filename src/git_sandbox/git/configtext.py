"""git's configuration syntax: parses `git config --list -z`, and writes text that git reads back unchanged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Pair = tuple[str, str | None]  # key with its section in git's spelling; no value at all (`[core] bare`) is None

_KEY = re.compile(r"(?P<section>[A-Za-z0-9-]+)\.(?:(?P<sub>[^\n\0]*)\.)?(?P<name>[A-Za-z][A-Za-z0-9-]*)", re.DOTALL)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\t": r"\t", "\b": r"\b"})


def parse(output: bytes) -> list[Pair]:
    """The pairs in the output of `git config --list -z`."""
    return [pair(record) for record in output.split(b"\0") if record]


def pair(record: bytes) -> Pair:
    key, separator, value = record.decode("utf-8", "surrogateescape").partition("\n")
    return key, value if separator else None


def split_key(key: str) -> tuple[str, str | None, str]:
    """Section, subsection and variable of a key; ValueError when git could not read it back."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise ValueError(f"not a configuration key: {key[:80]!r}")
    return match["section"], match["sub"], match["name"]


def render(pairs: Iterable[Pair]) -> str:
    """Text of a configuration file with exactly these pairs, in this order. ValueError for what git cannot hold."""
    return "".join(_lines(pairs))


def _lines(pairs: Iterable[Pair]) -> Iterator[str]:
    open_section: tuple[str, str | None] | None = None
    for key, value in pairs:
        section, sub, name = split_key(key)
        if (section, sub) != open_section:
            open_section = (section, sub)
            yield _header(section, sub)
        if value is None:
            yield f"\t{name}\n"
        else:
            yield f'\t{name} = "{_quoted(value)}"\n'


def _header(section: str, sub: str | None) -> str:
    if sub is None:
        return f"[{section}]\n"
    escaped = sub.replace("\\", "\\\\").replace('"', '\\"')
    return f'[{section} "{escaped}"]\n'


def _quoted(value: str) -> str:
    if "\0" in value:
        raise ValueError("a configuration value cannot hold a NUL")
    return value.translate(_ESCAPES)
