"""The list of sandboxes: only cells that changed are redrawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding
from textual.widgets import DataTable

from git_sandbox.tui.content import COLUMNS, Row
from git_sandbox.tui.screen import safe

_ACTIVITIES = {"waiting": "bold yellow", "failed": "bold red", "working": "green", "done": "cyan"}
_STATES = {"recoverable": "bold red", "broken": "bold red", "running": "green", "trash": "dim"}


class Sandboxes(DataTable):
    """`work` counts the changes that were made to the table: rows added or removed, cells set."""

    BINDINGS: ClassVar[list[Binding]] = [
        Binding("home", "scroll_top", show=False),
        Binding("end", "scroll_bottom", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="list", cursor_type="row", zebra_stripes=False, cell_padding=1, fixed_columns=1)
        self.shown: dict[str, Row] = {}
        self.work = 0
        self._marks: frozenset[str] = frozenset()

    def on_mount(self) -> None:
        for name in COLUMNS:
            self.add_column(Text(name), key=name)

    @property
    def selected(self) -> Row | None:
        names = list(self.shown)
        return self.shown[names[self.cursor_row]] if 0 <= self.cursor_row < len(names) else None

    def show(self, rows: Sequence[Row], marks: frozenset[str]) -> None:
        """In this order; the cursor stays with its sandbox."""
        before, at = self.selected, self.cursor_row
        self._remove({row.name for row in rows})
        if list(self.shown) != [row.name for row in rows[: len(self.shown)]]:
            self._remove(set())
        for row in rows:
            self._set(row, marks)
        self._marks = marks
        names = [row.name for row in rows]
        if names:
            self.select(before.name if before and before.name in names else names[min(max(at, 0), len(names) - 1)])

    def _remove(self, kept: set[str]) -> None:
        for name in [name for name in self.shown if name not in kept]:
            self.remove_row(name)
            del self.shown[name]
            self.work += 1

    def _set(self, row: Row, marks: frozenset[str]) -> None:
        before = self.shown.get(row.name)
        self.shown[row.name] = row
        if before is None:
            self.add_row(*(_cell(row, column, marks) for column in range(len(COLUMNS))), key=row.name)
            self.work += 1
            return
        marked = (row.name in marks) != (row.name in self._marks)
        for column, name in enumerate(COLUMNS):
            if before.cells[column] != row.cells[column] or (column == 0 and marked):
                self.update_cell(row.name, name, _cell(row, column, marks), update_width=True)
                self.work += 1

    def select(self, name: str) -> None:
        number = list(self.shown).index(name)
        if number != self.cursor_row:
            self.move_cursor(row=number, animate=False)


def _cell(row: Row, column: int, marks: frozenset[str]) -> Text:
    """Never a plain string: that would be read as markup."""
    text = safe(row.cells[column])
    if COLUMNS[column] == "ID":
        return Text(f"* {text}" if row.name in marks else text, style="bold" if row.name in marks else "", no_wrap=True)
    style = _ACTIVITIES.get(row.activity) or _STATES.get(row.state, "") if COLUMNS[column] == "STATE" else ""
    return Text(text, style=style, no_wrap=True)
