"""JSON with comments and trailing commas, as in devcontainer.json, from an untrusted author.

What JSON has not is blanked out, line by line, and the standard library parses the rest: where the text has no comment
and no trailing comma, the value is exactly `json`'s. Linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NoReturn

from git_sandbox import files

MAX_DEPTH = 32  # of lists and objects within each other
MAX_NUMBER = 1 << 53  # beyond it JSON's readers do not agree
# A string or comment without an end goes on to the end of the text: no character is looked at twice.
_TOKEN = re.compile(
    r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|//[^\r\n]*|/\*.*?(?:\*/|\Z)|[ \t\r\n]+|[^"/ \t\r\n,{}\[\]]+|.', re.DOTALL
)
_NO_VALUE_BEFORE = ("", ",", "[", "{", ":")


def decode(data: bytes) -> object:
    """Raises ValueError, with line and column where the parser knows them, for what is no JSON or too much of it."""
    if len(data) > files.WRITTEN:
        raise ValueError(f"it has more than {files.WRITTEN >> 10} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from error
    document: object = json.loads(
        "".join(_plain(text)), object_pairs_hook=_once, parse_constant=_refused, parse_int=_number
    )
    for string in _strings(document):
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in string):
            raise ValueError("a string in it has a NUL character or an unpaired surrogate")
    return document


def _plain(text: str) -> Iterator[str]:
    """The pieces of `text`, blank where they are a comment or a trailing comma. Raises ValueError."""
    comma, spaces, before, depth = "", "", "", 0
    for piece in (match[0] for match in _TOKEN.finditer(text)):
        if piece.isspace() or piece.startswith(("//", "/*")):
            if piece.startswith("/*") and not (piece.endswith("*/") and len(piece) >= len("/**/")):
                raise ValueError("unterminated comment")
            spaces += re.sub(r"[^\r\n]", " ", piece)
            continue
        depth += (piece in "[{") - (piece in "]}")
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if comma:
            yield " " if piece in "]}" and before not in _NO_VALUE_BEFORE else comma
        yield spaces
        before, comma, spaces = (before, piece, "") if piece == "," and not comma else (piece, "", "")
        yield "" if comma else piece
    yield comma + spaces


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of a name that is there twice every reader takes another value."""
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return table


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _number(digits: str) -> int:
    number = int(digits) if len(digits) < 20 else MAX_NUMBER + 1  # noqa: PLR2004 - int() refuses thousands of digits
    if abs(number) > MAX_NUMBER:
        raise ValueError("a number in it is too large")
    return number


def _strings(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str):
            yield item
