"""Guest text is data: these functions make it safe to show on a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

# C0 except tab and newline, DEL, C1, bidirectional controls and isolates, line/paragraph separators, BOM:
# everything a terminal may act on instead of showing (facts measured for git: raw ESC passes through `git log`).
# And what nobody sees but programs read: tag characters (whole sentences can hide in them), invisible operators.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
SHOWN = 5  # names a message has before it says how many more there are
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def printable(text: str | bytes, *, limit: int = 0) -> str:
    """`text` with everything a terminal could obey replaced; tabs and newlines stay.

    `limit` (characters, 0: none) cuts long text and marks the cut with an ellipsis.
    """
    decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    clean = _UNSAFE.sub(REPLACEMENT, decoded)
    return clean[: limit - 1] + "…" if 0 < limit < len(clean) else clean


def one_line(text: str | bytes, *, limit: int = 200) -> str:
    """Like `printable`, on one line: newlines and tabs become spaces."""
    return re.sub(r"\s+", " ", printable(text)).strip()[:limit]


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are, in one line that is safe to show."""
    shown = ", ".join(one_line(name) for name in names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
