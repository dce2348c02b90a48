"""Names that somebody chose to command a terminal, to hide, or to look like a line of ours; and what of them arrives.

Standard library only: `scripts/attack` plays them against an installed copy.
"""

from __future__ import annotations

import re
import unicodedata

FORGED = "FORGED"
# No control character below space, which git has in no ref and no configuration key: C1, bidirectional, ignorable.
QUIET = "n\x9b2J\u202e\u2066\u200b\u3164\u00ad\U000e0041\u034fame"
# All of them, a colour that we never use, and a line of its own.
NASTY = f"{QUIET}\x1b[91m\x1b]0;owned\x07\x1b[8m\x08\r\n{FORGED}\t\x7fend"
DIRECTORY = NASTY.replace("\r\n", "")  # one with a line break is refused
# What a terminal gets from us: colours, rich's spinner and how it is taken away, the new screen of `ls --watch`.
_OURS = re.compile(
    r"\x1b\[(?:0|1|3[1-7]|9[2-7])?m|\x1b\[\?25[lh]|\x1b\[2K|\x1b\[1A|\x1b\[2J|\x1b\[1;1H|\x1b\[1;3[1-7]m"
)
_INVISIBLE = set("\u034f\u115f\u1160\u3164\uffa0\u2065")


def leaks(shown: bytes, *, terminal: bool) -> list[str]:
    """Where in `shown` is what a terminal obeys, nobody sees, or pretends to be a line of ours."""
    text = shown.decode("utf-8", "surrogateescape")
    if terminal:
        text = _OURS.sub("", text.replace("\r", ""))
    found = [ascii(text[max(0, place - 60) : place + 20]) for place, each in enumerate(text) if _bad(each)]
    return found + [line for line in text.split("\n") if line.startswith(FORGED)]


def _bad(character: str) -> bool:
    if character in "\t\n":
        return False
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp") or character in _INVISIBLE
