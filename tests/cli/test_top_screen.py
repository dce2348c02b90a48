"""The screen of `sandbox top`: each key, small and large terminals, what it costs, and guests that write at it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color

from git_sandbox.errors import StateError
from git_sandbox.text import printable
from git_sandbox.tui import actions, difference
from git_sandbox.tui.actions import ACTIONS, Way
from git_sandbox.tui.app import Top
from git_sandbox.tui.content import COLUMNS, DIFF, NETWORK, TABS, Outcome, Page, Scope, Tone
from git_sandbox.tui.dialogs import Question, Reading, Words
from git_sandbox.tui.screen import Lines, PrintableFilter, safe
from support.dashboard import ROWS, Source, Verbs, play, row, text, until
from support.nasty import NASTY

SCREENS = Path(__file__).with_name("screens")


class Played(Top):
    """Without a terminal there is none to give away."""

    def suspend(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def app(source: Source | None = None, verbs: Verbs | None = None, **options: Any) -> Top:
    return Played(source or Source(), verbs or Verbs(), every=None, **options)


def _more(count: Callable[[], int], before: int) -> bool:
    return count() > before


def _begins(made: Top, beginning: str) -> bool:
    return made.lines.text.startswith(beginning)


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (160, 50)])
def test_the_screen(columns: int, lines: int) -> None:
    made = app()

    async def shows(pilot: Any, name: str) -> None:
        place = SCREENS / f"{name}-{columns}x{lines}.txt"
        await until(pilot, lambda: text(made) == place.read_text("utf-8"))

    async def script(pilot: Any) -> None:
        await shows(pilot, "list")
        await pilot.press("question_mark")
        await shows(pilot, "keys")

    play(made, script, (columns, lines))


def test_every_key_runs_the_verb_that_it_names() -> None:
    verbs = Verbs()
    made = app(verbs=verbs)

    def done() -> int:
        return len(verbs.beside) + len(verbs.terminal)

    async def script(pilot: Any) -> None:
        for action in ACTIONS:
            before = done()
            await pilot.press(action.key)
            if action.way is Way.CONFIRMED:
                assert isinstance(made.screen, Question)
                assert made.screen.text == f"{action.question} vm-1?"
                await pilot.press("n")
                await pilot.press(action.key, "y")
            elif action.way is Way.ANSWERED:
                assert isinstance(made.screen, Words)
                await pilot.press("escape")
                await pilot.press(action.key, *"a.b", "enter")
            elif action.verb == "merge":
                await until(pilot, lambda: isinstance(made.screen, Reading))
                assert "vm-1 brings a.py" in text(made)
                await pilot.press("y")
            await until(pilot, partial(_more, done, before))
            await until(pilot, lambda: not made.jobs and len(made.screen_stack) == 1)

    play(made, script)
    assert verbs.terminal == [["attach", "vm-1"], ["shell", "vm-1"], ["merge", "vm-1"], ["recover", "vm-1"]]
    assert verbs.beside == [
        ["sync", "vm-1"], ["fork", "--name=a.b", "vm-1"], ["net", "--allow=a.b", "vm-1"], ["stop", "vm-1"],
        ["drop", "vm-1"], ["drop", "--force", "vm-1"], ["restore", "vm-1"],
    ]  # fmt: skip


def test_no_key_means_two_things() -> None:
    keys = [action.key for action in ACTIONS]
    assert len(keys) == len({*keys, *"ctwe/?q"} - set("ctwe/?q"))


def test_marked_ones_are_stopped_together_and_compared() -> None:
    verbs = Verbs()
    made = app(verbs=verbs)

    async def script(pilot: Any) -> None:
        await pilot.press("space", "space")
        await until(pilot, lambda: "* vm-1" in text(made))
        await pilot.press("x", "y")
        await until(pilot, lambda: verbs.beside)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(made.screen, Reading))
        assert "compared ['vm-1', 'fix']" in text(made)
        await pilot.press("escape", "up", "space", "up", "up", "space")
        await until(pilot, lambda: not made.marks)
        await pilot.press("c")
        await until(pilot, lambda: isinstance(made.screen, Reading))
        assert "compared []" in text(made)
        await pilot.press("escape", "g")
        await until(pilot, lambda: "drawn []" in text(made))

    play(made, script)
    assert verbs.beside == [["stop", "vm-1", "fix"]]


def test_what_a_verb_said_is_shown_and_the_list_is_looked_at_again() -> None:
    source, verbs = Source(), Verbs(outcome=Outcome(5, "error: [bold]no[/bold]"))
    made = app(source, verbs)

    async def script(pilot: Any) -> None:
        looks = len(source.looks)
        await pilot.press("d", "y")
        await until(pilot, lambda: len(source.looks) > looks and len(made._notifications) > 0)
        await until(pilot, lambda: "error: [bold]no[/bold]" in text(made))

    play(made, script)


def test_pages_search_and_the_next_that_waits() -> None:
    source = Source()
    made = app(source)

    async def script(pilot: Any) -> None:
        for number, name in enumerate(TABS, 1):
            await pilot.press(str(number))
            await until(pilot, partial(_begins, made, f"{name} of vm-1\n"))
        assert made.lines.scroll_offset.y == made.lines.max_scroll_y > 0, "of the output the end is shown"
        await pilot.press("w")
        await until(pilot, lambda: made.lines.text.startswith("Output of fix\n"))
        await pilot.press("w")
        await until(pilot, lambda: made.lines.text.startswith("Output of vm-4\n"))
        await pilot.press("slash", *"make test", "enter")
        await until(pilot, lambda: made.lines.text.startswith("Output of vm-3\n"))
        assert list(made.table.shown) == ["vm-3"]
        await pilot.press("escape")
        await until(pilot, lambda: len(made.table.shown) == len(ROWS))
        assert made.table.selected == ROWS[2]
        await pilot.press("enter")
        await until(pilot, lambda: made.table.region.height == 0)
        await pilot.press("escape", "t", "e")
        await until(pilot, lambda: source.looks[-1] == Scope(trash=True, everywhere=True))

    play(made, script)


def test_a_refused_name_is_offered() -> None:
    verbs = Verbs()
    refused = Page(((Tone.PLAIN, "refused pypi.org"),), choices=("pypi.org", "b.example"))
    made = app(Source(pages={("vm-1", NETWORK): refused}), verbs)

    async def script(pilot: Any) -> None:
        await pilot.press(str(TABS.index(NETWORK) + 1))
        await until(pilot, lambda: made.page == refused)
        await pilot.press("n", "enter")
        await until(pilot, lambda: verbs.beside)

    play(made, script)
    assert verbs.beside == [["net", "--allow=pypi.org", "vm-1"]]


@pytest.mark.long("two hundred rows are drawn")
def test_two_hundred_cost_what_changed_and_no_more() -> None:
    many = tuple(row(f"vm-{number}", "running", "working", AHEAD="1") for number in range(1, 201))
    source = Source(many)
    made = app(source)

    async def script(pilot: Any) -> None:
        table, pages = made.table, made._pages
        assert table.work == 200
        await pilot.press("f5")
        await until(pilot, lambda: len(source.looks) == 2 and not made._list.busy)
        assert table.work == 200, "nothing changed"
        source.rows = (*many[:7], replace(many[7], cells=(*many[7].cells[:3], "2", *many[7].cells[4:])), *many[8:])
        await pilot.press("f5")
        await until(pilot, lambda: table.shown["vm-8"].cells[3] == "2")
        assert table.work == 201, "one cell"
        source.rows = source.rows[:100] + source.rows[101:]
        await pilot.press("f5")
        await until(pilot, lambda: len(table.shown) == 199)
        assert table.work == 202, "one row"
        source.gate.clear()  # pages come slowly now
        asked, drawn = pages.asked, made.lines.drawn
        await pilot.press(*["down"] * 60)
        assert table.cursor_row == 60
        source.gate.set()
        await until(pilot, lambda: made.lines.text.startswith("Log of vm-61\n"))
        assert table.work == 202, "moving changes no cell"
        assert pages.asked - asked <= 3, "of all that were passed only the first and the last are asked for"
        assert (made.lines.drawn - drawn) / 60 <= made.size.height, "of a page what is seen is drawn"
        await pilot.press("end")
        await until(pilot, lambda: table.selected == many[-1] and "vm-200" in text(made))
        await pilot.press(*["right"] * 40)
        await until(pilot, lambda: "COMMAND" in text(made))
        assert "vm-200" in text(made), "whose row it is stays in sight"
        await pilot.press("home")
        await until(pilot, lambda: table.selected == many[0])
        assert table.work == 202

    play(made, script)


def test_nothing_waits_for_a_slow_answer() -> None:
    source, verbs = Source(), Verbs()
    made = app(source, verbs)

    async def script(pilot: Any) -> None:
        source.gate.clear()
        verbs.gate.clear()
        await pilot.press("down")
        await until(pilot, lambda: "Log of fix …" in text(made))  # and not the page of another one
        await pilot.press("x", "y", "down", "slash", *"make")
        await until(pilot, lambda: list(made.table.shown) == ["vm-3"] and "stop fix …" in text(made))
        await pilot.press("escape", "q")
        assert made.return_code is None, "the first time it says what is still at work"
        await pilot.press("q")
        await until(pilot, lambda: made.return_code == 0)
        source.gate.set()
        verbs.gate.set()

    play(made, script)


def test_an_error_is_a_page_and_a_line() -> None:
    class Broken(Source):
        def plan(self, _row: object) -> Page:
            raise StateError("no commits are here", hint="`sandbox sync vm-1`")

    source = Broken()
    made = app(source)

    async def script(pilot: Any) -> None:
        await pilot.press("m")
        await until(pilot, lambda: isinstance(made.screen, Reading))
        assert "no commits are here" in text(made)
        assert "sandbox sync vm-1" in text(made)
        await pilot.press("escape")
        source.error = OSError("disk on fire")
        await pilot.press("f5")
        await until(pilot, lambda: "disk on fire" in text(made))
        assert "vm-1" in text(made), "what was known stays"

    play(made, script)


def test_names_and_pages_of_a_guest_are_no_markup_and_command_nothing() -> None:
    hostile = "[red]x[/red] [@click=app.leave]y[/] \x1b[2J\x1b]0;t\x07 \u202eevil"
    cells = dict.fromkeys(COLUMNS[2:], hostile)
    pages = {("vm-1", tab): Page(((Tone.PLAIN, f"of vm-1 {hostile}{NASTY}"),), choices=(hostile,)) for tab in TABS}
    made = app(Source((row("vm-1", "running", **cells),), pages), Verbs(outcome=Outcome(1, hostile)))

    async def script(pilot: Any) -> None:
        await pilot.press("4", "n")
        seen = text(made)
        await pilot.press("escape", "d", "y")
        await until(pilot, lambda: not made.jobs)
        seen += text(made)
        assert "[red]x[/red] [@click=app.leave]y[/]" in seen
        assert [line for line in seen.splitlines() if printable(line) != line] == []

    play(made, script)


@given(st.lists(st.text(max_size=30), max_size=5))
def test_whatever_is_drawn_passes_the_door(texts: list[str]) -> None:
    drawn = PrintableFilter().apply([Segment(each) for each in texts], Color(0, 0, 0))
    assert [each.text for each in drawn] == [re.sub(r"[\t\n]", " ", printable(each)) for each in texts]


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=40), max_size=8))
def test_lines_of_any_text_are_as_wide_as_the_view(texts: list[str]) -> None:
    view = Lines(Page(tuple((Tone.PLAIN, each) for each in texts)))
    assert view.virtual_size.height == len(texts)
    shown = [half.text for row in view.rows for half in row]
    assert all("\t" not in line for line in shown)
    assert view.virtual_size.width == max((cell_len(safe(line)) for line in shown), default=0)


LINES = st.lists(
    st.tuples(st.sampled_from([Tone.PLAIN, Tone.ADDED, Tone.REMOVED, Tone.PLACE]), st.text(max_size=8)), max_size=20
)


@given(LINES)
def test_side_by_side_loses_and_reorders_nothing(lines: list[tuple[Tone, str]]) -> None:
    """Oracle: the lines of a side, filtered."""
    signs = {Tone.PLAIN: " ", Tone.ADDED: "+", Tone.REMOVED: "-", Tone.PLACE: "@"}
    lines = [(tone, signs[tone] + text) for tone, text in lines]
    rows = difference.beside(lines)
    for side, gone in ((0, Tone.ADDED), (1, Tone.REMOVED)):
        halves = [row[min(side, len(row) - 1)] for row in rows]
        shown = [(half.tone, half.text) for half in halves if half.text]
        assert shown == [line for line in lines if line[0] is not gone]
    assert [half for (half,) in difference.unified(lines)] == [difference.Half(*line) for line in lines]


@given(st.text(st.sampled_from("ab1 \"'\\#/=") | st.characters(), max_size=40), st.sampled_from(["", "#", "//"]))
def test_words_of_code_are_the_line(line: str, comment: str) -> None:
    assert "".join(part for _, part in difference.tokens(line, comment)) == line


def test_words_of_code() -> None:
    token = difference.Token
    assert difference.tokens('if x == "a # b": # why', "#") == [
        (token.KEYWORD, "if"), (token.TEXT, " "), (token.TEXT, "x"), (token.TEXT, " == "), (token.STRING, '"a # b"'),
        (token.TEXT, ": "), (token.COMMENT, "# why"),
    ]  # fmt: skip


class Searched:
    """The search for tokens: the longest text it was given, and how many tokens it gave back."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern, self.longest, self.count = pattern, 0, 0

    def finditer(self, text: str, *bounds: int) -> Iterator[re.Match[str]]:
        self.longest = max(self.longest, len(text))
        for match in self.pattern.finditer(text, *bounds):
            self.count += 1
            yield match


@pytest.mark.parametrize("text", ["xx" + "#y" * 5000, "xx" + "//y" * 5000, '"\\' * 5000, "x#'" * 5000])
@pytest.mark.parametrize("comment", ["#", "//"])
def test_of_a_long_line_the_beginning_is_searched_and_twice_at_most(
    text: str, comment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest writes lines on which a search takes its square, and the screen draws some fifty lines at once."""
    search = Searched(difference._TOKENS)
    monkeypatch.setattr(difference, "_TOKENS", search)
    assert "".join(part for _, part in difference.tokens(text, comment)) == text
    assert search.longest <= difference._MOST_CODE
    assert search.count <= 2 * difference._MOST_CODE


def test_a_wide_terminal_shows_before_and_after() -> None:
    lines = (
        (Tone.HEADING, "diff --git a/x.py b/x.py"), (Tone.HEADING, "+++ b/x.py"), (Tone.PLACE, "@@ -1 +1 @@"),
        (Tone.PLAIN, " same"), (Tone.REMOVED, "-old = 1"), (Tone.ADDED, "+new = 2"), (Tone.ADDED, "+more"),
    )  # fmt: skip
    made = app(Source(pages={("vm-1", DIFF): Page(lines, code=True)}))

    async def script(pilot: Any) -> None:
        await pilot.press("2")
        await until(pilot, lambda: "+new = 2" in text(made))
        seen = [line.split() for line in text(made).splitlines()]
        assert [words for words in seen if {"same", "+new", "+more"} & {*words}] == [
            ["same", "│", "same"], ["-old", "=", "1", "│", "+new", "=", "2"], ["│", "+more"],
        ]  # fmt: skip
        await pilot.press("b")
        await until(pilot, lambda: "│" not in text(made))
        assert "-old = 1\n+new = 2\n+more\n" in text(made)

    play(made, script, (160, 50))


def test_in_a_small_terminal_enter_shows_the_page() -> None:
    made = app()

    async def script(pilot: Any) -> None:
        await until(pilot, lambda: made.lines.region.height == 0)
        await pilot.press("enter")
        await until(pilot, lambda: made.lines.region.height > 3)
        await pilot.press("escape")
        await until(pilot, lambda: made.table.region.height > 3)

    play(made, script, (40, 10))


def test_the_mouse_selects() -> None:
    made = app()

    async def script(pilot: Any) -> None:
        await pilot.click(made.table, offset=(2, 2))
        await until(pilot, lambda: made.lines.text.startswith("Log of fix\n"))
        await pilot.click(f"#{TABS[1]}")
        await until(pilot, lambda: made.lines.text.startswith(f"{TABS[1]} of fix\n"))

    play(made, script)


def test_without_colours_everything_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    made = app()

    async def script(pilot: Any) -> None:
        await pilot.pause()
        colours = {
            segment.style.color.name
            for strip in made.screen._compositor.render_strips(made.size)
            for segment in made_filtered(made, list(strip))
            if segment.style and segment.style.color and segment.style.color.triplet
            and len(set(segment.style.color.triplet)) > 1
        }  # fmt: skip
        assert colours == set()

    play(made, script)


def made_filtered(made: Top, segments: list[Segment]) -> list[Segment]:
    for each in made.get_line_filters():
        segments = each.apply(segments, Color(0, 0, 0))
    return segments


def test_the_table_of_actions_is_about_verbs_that_exist() -> None:
    from git_sandbox.cli.main import VERBS

    assert {action.verb for action in actions.ACTIONS} <= VERBS.keys()
