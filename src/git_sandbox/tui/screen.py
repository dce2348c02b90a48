"""Output to the screen: the last filter before the terminal, and a view of many lines in which only visible lines cost
anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from git_sandbox.text import printable
from git_sandbox.tui.content import Page, Tone
from git_sandbox.tui.difference import Line, Token, beside, tokens, unified

TAB = 8
STYLES = {
    Tone.PLAIN: Style(),
    Tone.HEADING: Style(bold=True),
    Tone.ADDED: Style(color="green"),
    Tone.REMOVED: Style(color="red"),
    Tone.PLACE: Style(color="cyan"),
    Tone.NOTE: Style(color="yellow"),
    Tone.ERROR: Style(color="red", bold=True),
}
BACKGROUNDS = {Tone.ADDED: Style(bgcolor="#12351f"), Tone.REMOVED: Style(bgcolor="#45191c")}
TOKENS = {
    Token.TEXT: Style(),
    Token.KEYWORD: Style(color="#c792ea"),
    Token.STRING: Style(color="#c3e88d"),
    Token.NUMBER: Style(color="#f78c6c"),
    Token.COMMENT: Style(color="#8a919e", italic=True),
}
ROOM = 120  # cells from which a difference has two sides by itself
_BETWEEN = " \N{BOX DRAWINGS LIGHT VERTICAL} "
_MARKS = 9  # characters that share one cell at most (`text.printable`)


@lru_cache(4096)
def safe(text: str) -> str:
    """For one line of the screen."""
    return printable(text).translate({ord("\t"): " ", ord("\n"): " "})


class PrintableFilter(LineFilter):
    """Every line of the screen passes here, whoever made it."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        del background
        return [
            segment if segment.control or (segment.text.isascii() and segment.text.isprintable())
            else Segment(safe(segment.text), segment.style)
            for segment in segments
        ]  # fmt: skip


class Lines(ScrollView):
    """The lines of a page. `drawn` counts those that were made for the screen. `sides`: a difference has both sides
    beside each other; None: where there is room for it.
    """

    can_focus = True

    DEFAULT_CSS = "Lines { height: 1fr; width: 1fr; }"

    def __init__(self, page: Page | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.page = page or Page(())
        self.rows: Sequence[Line] = ()
        self.sides: bool | None = None
        self.drawn = 0
        self._lay_out()

    @property
    def two_sided(self) -> bool:
        return self.page.code and (self.size.width >= ROOM if self.sides is None else self.sides)

    def show(self, page: Page, *, top: bool = True, end: bool = False) -> None:
        """`top`: from its beginning, or else where it was; `end`: its last lines, unless the reader went up."""
        follow = end and (top or self.scroll_offset.y >= self.max_scroll_y)
        self.page = page
        self._lay_out()
        if follow:
            self.scroll_end(animate=False)
        elif top:
            self.scroll_to(0, 0, animate=False)
        self.refresh()

    def switch(self) -> None:
        """Between one column and two."""
        self.sides = not self.two_sided
        self._lay_out()
        self.refresh()

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        lines = [(tone, text.expandtabs(TAB)) for tone, text in self.page.lines]
        self.rows = beside(lines) if self.two_sided else unified(lines)
        longest = max((_width(half.text) for row in self.rows for half in row), default=0)
        hidden = max(0, longest - self._column()) if self.two_sided else 0
        self.virtual_size = Size(self.size.width + hidden if self.two_sided else longest, len(self.rows))

    def _column(self) -> int:
        """Cells that each side has."""
        width: int = self.size.width
        return max(1, (width - len(_BETWEEN)) // 2)

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.page.lines)

    def render_line(self, y: int) -> Strip:
        self.drawn += 1
        left, top = self.scroll_offset
        base, width = self.rich_style, self.size.width
        row = self.rows[top + y] if top + y < len(self.rows) else ()
        if len(row) < 2:  # noqa: PLR2004 - one side
            return Strip(_segments(row, left + width, base)).crop_extend(left, left + width, base)
        column = self._column()
        one, other = (
            Strip(_segments((half,), left + column, base)).crop_extend(left, left + column, base) for half in row
        )
        return Strip([*one, Segment(_BETWEEN, base), *other]).crop_extend(0, width, base)


def _segments(row: Line, most: int, base: Style) -> list[Segment]:
    """Of a line only what can be seen: a cell holds at most one character that takes room, and few that do not."""
    segments: list[Segment] = []
    for half in row:
        style = base + (BACKGROUNDS.get(half.tone, Style()) if half.comment else STYLES[half.tone])
        shown = half.text[: most * _MARKS]
        parts = [(Token.TEXT, shown[:1]), *tokens(shown[1:], half.comment)] if half.comment else [(Token.TEXT, shown)]
        segments += [Segment(safe(text), style + TOKENS[token]) for token, text in parts]
    return segments


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(safe(text))
