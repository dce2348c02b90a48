"""SVG that every viewer shows and a screen reader reads: a title, a description, text as text, no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from git_sandbox.text import one_line, printable

_STYLE = """
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, monospace; fill: #1f2328; }
.strong { font-weight: bold; } .soft { fill: #57606a; } .bad { fill: #a40e26; } .paper { fill: #ffffff; }
.line { stroke: #57606a; stroke-width: 2; fill: none; } .lead { stroke: #afb8c1; stroke-width: 1; fill: none; }
.branch { stroke: #0550ae; stroke-width: 4; } .dot { fill: #0550ae; } .end { fill: #a40e26; }
.clash { stroke: #a40e26; stroke-width: 2; stroke-dasharray: 5 4; fill: none; }
.cell { fill: #eaeef2; } .shared { fill: #b6d4fb; } .conflict { fill: #ffc1ba; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .soft { fill: #9198a1; } .bad { fill: #ff8182; } .paper { fill: #0d1117; }
  .line { stroke: #9198a1; } .lead { stroke: #3d444d; } .branch { stroke: #58a6ff; } .dot { fill: #58a6ff; }
  .end { fill: #ff8182; } .clash { stroke: #ff8182; }
  .cell { fill: #21262d; } .shared { fill: #1f4a82; } .conflict { fill: #8b2c2c; }
}
""".strip()
MOST_TEXT = 200  # characters of one text


class Picture:
    """Elements in the order in which they are drawn. Lengths are pixels."""

    def __init__(self) -> None:
        self._elements: list[str] = []
        self._width = self._height = 0.0

    def _reach(self, x: float, y: float) -> None:
        self._width, self._height = max(self._width, x), max(self._height, y)

    def text(self, x: float, y: float, content: str, *, kind: str = "", anchor: str = "start") -> None:
        """`y`: of the base line. Any text is one line of text here, and never an element."""
        shown = one_line(content, limit=MOST_TEXT)
        self._elements.append(
            f'<text x="{x:g}" y="{y:g}" class={quoteattr(kind)} text-anchor={quoteattr(anchor)}>{escape(shown)}</text>'
        )
        self._reach(x + (len(shown) * 8.2 if anchor == "start" else 0), y + 8)

    def path(self, words: str, kind: str) -> None:
        self._elements.append(f"<path d={quoteattr(words)} class={quoteattr(kind)}/>")

    def circle(self, x: float, y: float, radius: float, kind: str) -> None:
        self._elements.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" class={quoteattr(kind)}/>')
        self._reach(x + radius, y + radius)

    def box(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self._elements.append(f"<rect {place} class={quoteattr(kind)}/>")
        self._reach(x + width, y + height)

    def document(self, title: str, description: Sequence[str], margin: float = 16) -> str:
        """The whole file. `description`: what the picture shows, as lines of text."""
        width, height = self._width + margin, self._height + margin
        words = "\n".join(printable(line) for line in description)
        size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
        return "\n".join((
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title description">',
            f'<title id="title">{escape(one_line(title, limit=MOST_TEXT))}</title>',
            f'<desc id="description">{escape(words)}</desc>',
            f"<style>{escape(_STYLE)}</style>",
            '<rect width="100%" height="100%" class="paper"/>',
            *self._elements,
            "</svg>\n",
        ))  # fmt: skip
