"""A diff as rows: one column, or both sides next to each other, with syntax colours.

No parser of a language reads a guest's text: a few kinds of tokens, each found in one pass over a part of a line that
is on the screen, are as much as a look at a change needs.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from enum import StrEnum

from git_sandbox.later import dataclass
from git_sandbox.tui.content import Tone


class Token(StrEnum):
    TEXT = "text"
    KEYWORD = "keyword"
    STRING = "string"
    NUMBER = "number"
    COMMENT = "comment"


@dataclass(frozen=True)
class Half:
    """`comment`: what begins a comment in the file that it is of; empty for what is no code."""

    tone: Tone
    text: str
    comment: str = ""


Line = tuple[Half, ...]
_EMPTY = Half(Tone.PLAIN, "")
_MOST_CODE = 1000  # characters of a line; a guest writes lines on which any search for tokens takes its time
_CODE = (Tone.PLAIN, Tone.ADDED, Tone.REMOVED)
_SLASHES = re.compile(r"\.(?:c|cc|cpp|h|hpp|cs|go|java|js|jsx|kt|m|mjs|php|rs|scala|swift|ts|tsx|zig)$")
_HASHES = re.compile(
    r"\.(?:bash|cfg|conf|ini|jl|mk|nix|pl|ps1|py|pyi|r|rb|sh|tf|toml|yaml|yml|zsh)$|/(?:Makefile|Dockerfile)$"
)
_KEYWORDS = frozenset((
    "and", "as", "assert", "async", "await", "bool", "break", "case", "catch", "char", "class", "const",
    "continue", "def", "default", "defer", "do", "done", "double", "elif", "else", "end", "enum", "except",
    "export", "extends", "false", "False", "fi", "final", "finally", "float", "fn", "for", "from", "func",
    "function", "go", "if", "impl", "import", "in", "int", "interface", "is", "lambda", "let", "long", "loop",
    "match", "mod", "module", "mut", "new", "nil", "None", "nonlocal", "not", "null", "or", "package", "pass",
    "private", "protected", "pub", "public", "raise", "return", "select", "self", "Self", "static", "string",
    "struct", "super", "switch", "then", "this", "throw", "trait", "true", "True", "try", "type", "typedef",
    "undefined", "union", "unsafe", "use", "using", "var", "void", "where", "while", "with", "yield",
))  # fmt: skip
_TOKENS = re.compile(
    r"""(?P<string>"[^"\\]*(?:\\.[^"\\]*)*"|'[^'\\]*(?:\\.[^'\\]*)*')|(?P<word>[^\W\d]\w*)|(?P<number>\d[\w.]*)"""
)


def unified(lines: Sequence[tuple[Tone, str]]) -> list[Line]:
    """As git prints it."""
    return [(half,) for half in _halves(lines)]


def beside(lines: Sequence[tuple[Tone, str]]) -> list[Line]:
    """Before and after: what is in both twice, what was removed beside what was added; headings stay one."""
    return [row for block in _blocks(_halves(lines)) for row in _rows(block)]


def _halves(lines: Sequence[tuple[Tone, str]]) -> Iterator[Half]:
    comment = ""
    for tone, text in lines:
        if tone is Tone.HEADING and text.startswith(("+++ ", "--- ")) and not text.endswith("/dev/null"):
            comment = "//" if _SLASHES.search(text) else "#" if _HASHES.search(text) else ""
        yield Half(tone, text, comment if tone in _CODE else "")


def _blocks(halves: Iterator[Half]) -> Iterator[list[Half]]:
    """Lines that were removed with those added after them; every other line alone."""
    block: list[Half] = []
    for half in halves:
        changed = half.tone in (Tone.REMOVED, Tone.ADDED)
        if block and not (changed and not (half.tone is Tone.REMOVED and block[-1].tone is Tone.ADDED)):
            yield block
            block = []
        if changed:
            block.append(half)
        else:
            yield [half]
    if block:
        yield block


def _rows(block: list[Half]) -> Iterator[Line]:
    removed = [half for half in block if half.tone is Tone.REMOVED]
    added = [half for half in block if half.tone is Tone.ADDED]
    if removed or added:
        yield from itertools.zip_longest(removed, added, fillvalue=_EMPTY)
    elif block[0].tone is Tone.PLAIN and block[0].text.startswith(" "):
        yield (block[0], block[0])
    else:
        yield (block[0],)


def tokens(text: str, comment: str) -> list[tuple[Token, str]]:
    """Parts of one line of code, which together are that line; of a long one only the first are told apart."""
    if not comment:
        return [(Token.TEXT, text)]
    parts: list[tuple[Token, str]] = []
    code, rest = text[:_MOST_CODE], text[_MOST_CODE:]
    at, end = 0, _code_ends(code, comment)
    for match in _TOKENS.finditer(code, 0, end):
        parts += [(Token.TEXT, code[at : match.start()]), (_kind(match), match[0])]
        at = match.end()
    parts += [(Token.TEXT, code[at:end]), (Token.COMMENT, code[end:]), (Token.TEXT, rest)]
    return [part for part in parts if part[1]]


def _code_ends(text: str, comment: str) -> int:
    """Where a comment begins: at a mark that is in no string, at the beginning or after a space."""
    position = 0
    for start, end in [*(match.span() for match in _TOKENS.finditer(text)), (len(text), len(text))]:
        while (mark := text.find(comment, position, start)) != -1:
            if mark <= 1 or text[mark - 1].isspace():
                return mark
            position = mark + len(comment)
        position = end
    return len(text)


def _kind(match: re.Match[str]) -> Token:
    if match["word"]:
        return Token.KEYWORD if match["word"] in _KEYWORDS else Token.TEXT
    return Token.STRING if match["string"] else Token.NUMBER
