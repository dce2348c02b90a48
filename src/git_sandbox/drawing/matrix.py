"""Which sandboxes changed the same files and which conflict: a table as a picture, and an order to merge them in."""

from __future__ import annotations

from collections.abc import Sequence

from git_sandbox.drawing.svg import Picture
from git_sandbox.integrate.siblings import Comparison, Pair

_CELL, _TOP = 34, 28  # pixels
_LETTER = 8.2


def picture(comparison: Comparison, description: Sequence[str], remarks: Sequence[str]) -> str:
    """An SVG. `description`: the same in words; `remarks`: the order, written below."""
    names = list(dict.fromkeys(name for pair in comparison.pairs for name in (pair.one, pair.other)))
    pairs = {frozenset((pair.one, pair.other)): pair for pair in comparison.pairs}
    drawn = Picture()
    left = 24 + _LETTER * max(map(len, names), default=0)
    for row, name in enumerate(names):
        y = _TOP + row * _CELL
        drawn.text(left - 8, y + 22, name, kind="strong", anchor="end")
        for column, other in enumerate(names[:row]):
            _draw(drawn, left + column * _CELL, y, pairs[frozenset((name, other))])
        drawn.text(left + row * _CELL + 4, y + 22, name, kind="soft")
    bottom = _TOP + len(names) * _CELL + 28
    legend = "number: files that both changed · ✕ number: files in conflict · - nothing in common"
    for number, line in enumerate([legend, "", *remarks]):
        drawn.text(16, bottom + number * 20, line, kind="bad" if "(conflict in" in line else "soft")
    return drawn.document(f"Overlap of {len(names)} sandboxes", [*description, *remarks])


def _draw(drawn: Picture, x: float, y: float, pair: Pair) -> None:
    kind = "cell" if pair.clean and not pair.both else "shared" if pair.clean else "conflict"
    drawn.box(x, y, _CELL - 3, _CELL - 3, kind)
    drawn.text(x + (_CELL - 3) / 2, y + 21, symbol(pair), anchor="middle")


def symbol(pair: Pair) -> str:
    """What is in the cell: nothing is said by a colour alone."""
    if pair.unrelated or pair.too_large:
        return "?"
    if pair.conflicts:
        return f"✕{len(pair.conflicts)}"
    return str(len(pair.both)) if pair.both else "-"
