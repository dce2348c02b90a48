"""Parses the text of settings: numbers, sizes, times, lists, command lines."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from git_sandbox import network, transports
from git_sandbox.errors import UsageError

AUTO = "auto"
LEAST_SIZE = 128  # MiB; no guest boots with less
_DIGITS = 9  # of a number; int() refuses one of thousands
_SIZE = re.compile(r"(\d{1,6})\s*(?:([MG])i?B?)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def read(kind: str, text: str, *, choices: tuple[str, ...], least: int, most: int) -> object:
    """The value. Raises ValueError with a hint for the user; UsageError for a command line."""
    text = text.strip()
    if choices and text not in choices:
        raise ValueError(f"use one of {', '.join(choices)}")
    match kind:
        case "network":
            return network.BY_NAME[text]
        case "mebibytes":
            return mebibytes(text)
        case "room":
            return 0 if text == "no" else mebibytes(text, least)
        case "duration":
            return _duration(text)
        case "count" | "seconds":
            return _count(kind, text, most)
        case _:
            return _words(kind, text)


def _count(kind: str, text: str, most: int) -> int:
    if kind == "count" and text == AUTO:
        return min(len(os.sched_getaffinity(0)), 4)
    if not text.isdecimal() or len(text) > _DIGITS or not 0 < int(text) <= most:
        raise ValueError(f"use a whole number from 1 to {most}")
    return int(text)


def _words(kind: str, text: str) -> str | tuple[str, ...]:
    match kind:
        case "list" | "rules":
            return tuple(text.replace(",", " ").split())
        case "lines":
            return tuple(filter(None, text.split("\n")))
        case "command":
            return text if command_words(text) else AUTO
        case "image" if transports.named(text):
            return transports.absolute(text, Path.cwd())
        case "path" | "image" if text:
            return _path(text)
        case _:
            return text


def command_words(text: str) -> tuple[str, ...]:
    """Of a command line: nothing of it is a shell's. Raises UsageError."""
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"`{one_word(text)}` is not a command line", cause=str(error)) from error
    if words and "/" in words[0] and not words[0].startswith("/"):
        raise UsageError(f"`{one_word(words[0])}` is not a command", hint="use its name, or its whole path")
    return words


def _path(text: str) -> str:
    try:
        return str(Path(text).expanduser())
    except (RuntimeError, ValueError):  # `~name` of nobody, or with a zero byte in it
        raise ValueError("use the path of a file") from None


def _duration(text: str) -> int | None:
    """Seconds; None for `never`."""
    if text in ("never", "0"):
        return None if text == "never" else 0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("use a time such as 30m, 12h, 7d or 4w, or `never`, or 0")
    return int(match[1]) * _SECONDS[match[2].lower()]


def mebibytes(text: str, least: int = LEAST_SIZE) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * (1024 if (match[2] or "M").upper() == "G" else 1) if match else 0
    if not match or size < least:
        raise ValueError(f"use a size such as 512M or 4G, at least {least}M")
    return size


def one_word(text: str) -> str:
    """What a user wrote into a file, for a message: nothing a terminal obeys, and short."""
    return "".join(character if character.isprintable() else "?" for character in text[:60])
