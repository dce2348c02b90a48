"""The dashboard. Slow queries run in threads (`tui/lanes.py`); the screen shows what is known."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Footer, Input, Static, Tab, Tabs

from git_sandbox.tui.content import ENDS, LIVE, TABS, Listing, Page, Row, Scope, Source, Tone
from git_sandbox.tui.lanes import Answer, Lane
from git_sandbox.tui.sandboxes import Sandboxes
from git_sandbox.tui.screen import Lines, PrintableFilter, safe

EVERY = 2.0  # seconds between two looks
_NOTHING = Page(((Tone.NOTE, "No sandbox is selected. `sandbox` starts one."),))


class Arrived(Message):
    """An answer of a thread."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Dashboard(App):
    """`every`: seconds between two looks; None: only when asked. `ended`: the signal that ended it, or 0."""

    TITLE = "sandbox top"
    ENABLE_COMMAND_PALETTE = False
    VERTICAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-short"), (20, "-tall")]
    CSS = """
    #summary { height: 1; background: $panel; }
    #list { height: 2fr; }
    #detail { height: 3fr; }
    #search { display: none; height: 1; border: none; }
    Screen.-searching #search { display: block; }
    Screen.-short #detail, Screen.-zoomed #list { display: none; }
    Screen.-zoomed #detail { display: block; height: 1fr; }
    """
    BINDINGS: ClassVar[list[Binding]] = [
        Binding("space", "mark", "mark", show=False),
        Binding("w", "next", "waiting"),
        Binding("slash", "search", "search"),
        *(Binding(str(number), f"tab('{name}')", name, show=False) for number, name in enumerate(TABS, 1)),
        Binding("b", "sides", "side by side", show=False),
        Binding("t", "trash", "trash", show=False),
        Binding("e", "everywhere", "all repositories", show=False),
        Binding("f5", "refresh", "look again", show=False),
        Binding("escape", "back", "back", show=False),
    ]

    def __init__(self, source: Source, *, scope: Scope | None = None, every: float | None = EVERY) -> None:
        super().__init__()
        self.animation_level = "none"  # what moves by itself costs work, and readers of screens their place
        self.source, self.every = source, every
        self.ended = 0
        self.listing = Listing("", ())
        self.scope = scope or Scope()
        self.filter = ""
        self.marks: frozenset[str] = frozenset()
        self.jobs: list[str] = []
        self.tab = TABS[0]
        self.page = _NOTHING
        self.page_of: tuple[str, str, str] | None = None  # name, tab and version of what the page shows
        self._list, self._pages, self.questions = (Lane(self.deliver) for _ in range(3))

    # What is on the screen.

    def compose(self) -> ComposeResult:
        yield Static(Content("Looking for sandboxes"), id="summary")
        yield Sandboxes()
        yield Vertical(Tabs(*(Tab(Content(name), id=name) for name in TABS)), Lines(id="page"), id="detail")
        yield Input(placeholder="search", id="search")
        yield Footer()

    def on_mount(self) -> None:
        self._filters.append(PrintableFilter())
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            with contextlib.suppress(ValueError, RuntimeError):  # where it runs in no main thread: tests
                asyncio.get_running_loop().add_signal_handler(number, self._end, number)
        self.query_one(Tabs).can_focus = False
        self.table.focus()
        self.action_refresh()
        if self.every is not None:
            self.set_interval(self.every, self._look)

    @property
    def table(self) -> Sandboxes:
        table: Sandboxes = self.screen_stack[0].query_one(Sandboxes)
        return table

    @property
    def lines(self) -> Lines:
        lines: Lines = self.screen_stack[0].query_one("#page", Lines)
        return lines

    def _end(self, number: int) -> None:
        self.ended = number
        self.exit()

    # Questions, and what is done with the answers.

    def deliver(self, answer: Answer) -> None:
        with contextlib.suppress(RuntimeError):  # the screen is gone
            self.post_message(Arrived(answer))

    def _look(self) -> None:
        """At every tick; a look that takes longer than that is waited for."""
        if not self._list.busy:
            self.action_refresh()

    def action_refresh(self) -> None:
        scope = self.scope
        self._list.ask(scope, lambda: self.source.listing(scope))

    def on_arrived(self, event: Arrived) -> None:
        answer = event.answer
        if isinstance(answer.asked, Scope):
            self._listed(answer)
        elif isinstance(answer.asked, tuple):
            self._paged(answer)
        elif callable(answer.asked):
            answer.asked(answer)

    def _listed(self, answer: Answer) -> None:
        if isinstance(answer.value, Listing) and answer.asked == self.scope:
            self.listing = answer.value
            self.marks &= {row.name for row in self.listing.rows}
            self._show_list()
        elif answer.error:
            self._summary(f"cannot list the sandboxes: {answer.error[0]}")

    def _show_list(self) -> None:
        self.table.show(self._matching(), self.marks)
        self.summarize()
        self._show_page()

    def _matching(self) -> Sequence[Row]:
        words = self.filter.lower().split()
        return [row for row in self.listing.rows if all(word in " ".join(row.cells).lower() for word in words)]

    def summarize(self) -> None:
        self._summary(_summary(self.listing, self.filter))

    def _summary(self, text: str) -> None:
        jobs = f"[{', '.join(self.jobs)} …]  " if self.jobs else ""
        self.screen_stack[0].query_one("#summary", Static).update(Content(safe(jobs + text)))

    def _show_page(self, *, again: bool = False) -> None:
        """Ask for the page of the selected sandbox, unless it is there. Another one's is taken away at once."""
        row = self.table.selected
        if row is None:
            self.page_of = None
            self.lines.show(_NOTHING)
            return
        asked = (row.name, self.tab, row.version)
        if asked == self.page_of and self.tab not in LIVE and not again:
            return
        if self.page_of is None or asked[:2] != self.page_of[:2]:
            self.page_of = None
            self.lines.show(Page(((Tone.NOTE, f"{self.tab} of {row.name} …"),)))
        self._pages.ask(asked, lambda: self.source.page(row, asked[1]))

    def _paged(self, answer: Answer) -> None:
        row, asked = self.table.selected, answer.asked
        if row is None or not isinstance(asked, tuple) or asked[:2] != (row.name, self.tab):
            return
        page = paged(answer)
        same = self.page_of is not None and self.page_of[:2] == asked[:2]
        if not same or page != self.page:
            self.lines.show(page, top=not same, end=self.tab in ENDS)
        self.page, self.page_of = page, asked

    # The list.

    def on_data_table_row_highlighted(self, event: Message) -> None:
        event.stop()
        self._show_page()

    def on_data_table_row_selected(self, event: Message) -> None:
        event.stop()
        self.screen.toggle_class("-zoomed")
        self.lines.focus()

    def on_tabs_tab_activated(self, event: Tabs.TabActivated) -> None:
        self.tab = str(event.tab.id)
        self._show_page()

    def action_tab(self, name: str) -> None:
        self.query_one(Tabs).active = name

    def action_sides(self) -> None:
        self.lines.switch()

    def action_mark(self) -> None:
        if row := self.table.selected:
            self.marks ^= {row.name}
            self._show_list()
            self.table.action_cursor_down()

    def action_next(self) -> None:
        rows, selected = self._matching(), self.table.selected
        at = next((number for number, row in enumerate(rows) if selected and row.name == selected.name), -1)
        waiting = [row for row in (*rows[at + 1 :], *rows[: at + 1]) if row.waits]
        if waiting:
            self.table.select(waiting[0].name)
        else:
            self.note("None waits for you.")

    def action_trash(self) -> None:
        self._look_at(Scope(not self.scope.trash, self.scope.everywhere))

    def action_everywhere(self) -> None:
        self._look_at(Scope(self.scope.trash, not self.scope.everywhere))

    def _look_at(self, scope: Scope) -> None:
        self.scope = scope
        self.action_refresh()

    def action_search(self) -> None:
        self.screen.add_class("-searching")
        self.query_one("#search", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.input.id == "search":
            self.filter = event.value
            self._show_list()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if event.input.id == "search":
            self.table.focus()

    def action_back(self) -> None:
        self.screen.remove_class("-zoomed", "-searching")
        self.query_one("#search", Input).value = ""
        self.table.focus()

    def note(self, text: str, *, error: bool = False) -> None:
        severity = "error" if error else "information"
        self.notify(text, severity=severity, markup=False, timeout=12 if error else 6)


def _summary(listing: Listing, searched: str) -> str:
    rows = listing.rows
    counts: dict[str, int] = {}
    for row in rows:
        word = row.activity or row.state
        counts[word] = counts.get(word, 0) + 1
    states = ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
    count = f"{len(rows)} {'sandbox' if len(rows) == 1 else 'sandboxes'}"
    parts = [listing.title, f"{count}: {states}" if states else count, listing.total]
    return "  ".join(filter(None, (*parts, f"search: {searched}" if searched else "")))


def paged(answer: Answer) -> Page:
    if isinstance(answer.value, Page):
        return answer.value
    lines = [(Tone.ERROR if number == 0 else Tone.NOTE, text) for number, text in enumerate(answer.error)]
    return Page(tuple(lines) or ((Tone.ERROR, "no answer"),), fine=False)
