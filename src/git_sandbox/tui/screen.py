"""What goes onto the screen: the last door before the terminal, and a view of many lines of which only those that are
seen cost anything.
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


@lru_cache(4096)
def safe(text: str) -> str:
    """For one line of the screen."""
    return printable(text).translate({ord("\t"): " ", ord("\n"): " "})


class Door(LineFilter):
    """Every line of the screen passes here, whoever made it."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        del background
        return [
            segment if segment.control or (segment.text.isascii() and segment.text.isprintable())
            else Segment(safe(segment.text), segment.style)
            for segment in segments
        ]  # fmt: skip


class Lines(ScrollView):
    """The lines of a page. `drawn` counts those that were made for the screen."""

    can_focus = True

    DEFAULT_CSS = "Lines { height: 1fr; width: 1fr; }"

    def __init__(self, page: Page | None = None, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: Sequence[tuple[Tone, str]] = ()
        self.drawn = 0
        if page is not None:
            self._set(page)

    def show(self, page: Page, *, top: bool = True, end: bool = False) -> None:
        """`top`: from its beginning, or else where it was; `end`: its last lines, unless the reader went up."""
        follow = end and (top or self.scroll_offset.y >= self.max_scroll_y)
        self._set(page)
        if follow:
            self.scroll_end(animate=False)
        elif top:
            self.scroll_to(0, 0, animate=False)
        self.refresh()

    def _set(self, page: Page) -> None:
        self.lines = tuple((tone, text.expandtabs(TAB)) for tone, text in page.lines)
        self.virtual_size = Size(max((_width(text) for _, text in self.lines), default=0), len(self.lines))

    @property
    def text(self) -> str:
        return "\n".join(text for _, text in self.lines)

    def render_line(self, y: int) -> Strip:
        self.drawn += 1
        left, top = self.scroll_offset
        tone, text = self.lines[top + y] if top + y < len(self.lines) else (Tone.PLAIN, "")
        base = self.rich_style
        strip = Strip([Segment(safe(text), base + STYLES[tone])])
        return strip.crop_extend(left, left + self.size.width, base)


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(safe(text))
