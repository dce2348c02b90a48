"""Makes text of a guest, a repository or a file name safe to show on a terminal.

Judged by Unicode's properties, not by a list: what a terminal may obey (controls), what changes the order in which
text is read (bidirectional format characters), what nobody sees but programs read (default-ignorable), and what has no
meaning that is known here (unassigned, private use) is replaced. Joiners and variation selectors stay where they shape
letters or emoji.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

SHOWN = 5  # names a message has before it says how many more there are
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
# Controls, format characters, surrogates, private use, unassigned; line and paragraph separators.
_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Format characters that are seen: Arabic, Syriac and Kaithi signs around numbers.
_SEEN = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
_JOINERS, _SELECTORS = "\u200c\u200d", "\ufe0e\ufe0f"
# Default-ignorable (DerivedCoreProperties.txt) without being format characters: fillers, joiners, selectors. Compiled
# when a text needs it, as the other two below: that takes longer than everything else here.
_IGNORABLE = (
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u3164\ufe00-\ufe0d\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_ASCII = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_VISIBLE = f"[^\x00-\x7f\\s{_JOINERS}{_SELECTORS}{REPLACEMENT}]"
_LOOSE_SELECTOR = f"(?s:(?<!{_VISIBLE})(?<![#*0-9](?=.\u20e3))[{_SELECTORS}])"
_LOOSE_JOINER = f"(?<!{_VISIBLE})(?<![{_SELECTORS}])[{_JOINERS}]|[{_JOINERS}](?!{_VISIBLE})"
_MOST_MARKS = 8  # combining characters on one letter; more climb over other lines
# Colours and weights that this program writes itself: none hides text.
_OURS = re.compile("(\x1b\\[(?:0|1|3[1-7]|9[0-7])m)")


def printable(text: str | bytes, *, limit: int = 0) -> str:
    """`text` with everything a terminal could obey, or a reader not see, replaced; tabs and newlines stay.

    `limit` (characters, 0: none) cuts long text and marks the cut with an ellipsis.
    """
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    clean = _ASCII.sub(REPLACEMENT, decoded)
    if not clean.isascii():
        clean = _shown(clean)
    return clean[: limit - 1] + "…" if 0 < limit < len(clean) else clean


def _shown(text: str) -> str:
    there = set(text)
    clean = text.translate({ord(character): REPLACEMENT for character in there if _unsafe(character)})
    if there & set(_SELECTORS):
        clean = re.sub(_LOOSE_SELECTOR, REPLACEMENT, clean)
    if there & set(_JOINERS):
        clean = re.sub(_LOOSE_JOINER, REPLACEMENT, clean)
    marks = "".join(character for character in there if unicodedata.category(character) in ("Mn", "Me"))
    if marks:
        clean = re.sub(f"([{marks}]{{{_MOST_MARKS}}})[{marks}]+", rf"\1{REPLACEMENT}", clean)
    return clean


def _unsafe(character: str) -> bool:
    if character in "\t\n" or character in _JOINERS or character in _SEEN:
        return False
    return unicodedata.category(character) in _CATEGORIES or re.match(_IGNORABLE, character) is not None


def outgoing(text: str) -> str:
    """The last step before a terminal: text that was made here, its colours kept; what slipped into it is replaced."""
    return "".join(part if number % 2 else printable(part) for number, part in enumerate(_OURS.split(text)))


def one_line(text: str | bytes, *, limit: int = 200) -> str:
    """Like `printable`, on one line: newlines and tabs become spaces. A cut is marked with an ellipsis."""
    clean = whole(text)
    return clean if len(clean) <= limit else clean[: max(0, limit - 1)] + "…"[:limit]


def whole(text: str | bytes) -> str:
    """Like `one_line`, however long it is: for what somebody agrees to."""
    return re.sub(r"\s+", " ", printable(text)).strip()


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are, in one line that is safe to show."""
    shown = ", ".join(one_line(name) for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
