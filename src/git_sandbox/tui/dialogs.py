"""Dialogs over the list: a question, a text field, a page to read."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from git_sandbox.tui.actions import ACTIONS, SCREEN_KEYS
from git_sandbox.tui.content import Page, Tone
from git_sandbox.tui.screen import Lines, safe

_CSS = """
{0} {{ align: center middle; }}
{0} > Vertical {{ width: 90%; max-width: 110; height: auto; max-height: 90%; border: round $primary; padding: 0 1; }}
{0} Static {{ width: 100%; height: auto; }}
"""


class Question(ModalScreen):
    """Yes or no; anything but `y` is no."""

    CSS = _CSS.format("Question")
    BINDINGS: ClassVar[list[Binding]] = [Binding("y", "yes", "yes"), Binding("n,escape,q", "no", "no")]

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        yield Vertical(Static(Content(safe(self.text))), Static(Content("y: yes   n: no")))

    def action_yes(self) -> None:
        self.dismiss(True)

    def action_no(self) -> None:
        self.dismiss(False)


class Words(ModalScreen):
    """One line to type; None where the user thought better of it."""

    CSS = _CSS.format("Words")
    BINDINGS: ClassVar[list[Binding]] = [Binding("escape", "leave", "cancel", priority=True)]

    def __init__(self, text: str, begin: str = "") -> None:
        super().__init__()
        self.text, self.begin = text, begin

    def compose(self) -> ComposeResult:
        field = Input(value=safe(self.begin), id="answer")
        yield Vertical(Static(Content(safe(self.text))), field, Static(Content("Enter: do it   Escape: cancel")))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip())

    def action_leave(self) -> None:
        self.dismiss(None)


class Reading(ModalScreen):
    """A page over everything. With `question`: `y` says yes to it."""

    CSS = """
    Reading { align: center middle; }
    Reading > Vertical { width: 100%; height: 100%; border: round $primary; padding: 0 1; }
    Reading Static { height: auto; }
    """
    BINDINGS: ClassVar[list[Binding]] = [Binding("y", "yes", "yes"), Binding("escape,q,n", "no", "close")]

    def __init__(self, title: str, page: Page, question: str = "") -> None:
        super().__init__()
        self.heading, self.page, self.question = title, page, question

    def compose(self) -> ComposeResult:
        keys = f"{self.question}   y: yes   n: no" if self.question else "Escape: back"
        yield Vertical(Static(Content(safe(self.heading))), Lines(self.page, id="reading"), Static(Content(safe(keys))))

    def on_mount(self) -> None:
        self.query_one(Lines).focus()

    def action_yes(self) -> None:
        self.dismiss(bool(self.question))

    def action_no(self) -> None:
        self.dismiss(False)


def keys() -> Page:
    """All keys."""
    verbs = max(len(action.label) for action in ACTIONS)
    rows = [(action.key, f"{action.label:{verbs}}  {action.help}") for action in ACTIONS]
    width = max(len(key) for key, _ in (*rows, *SCREEN_KEYS))
    lines = [(Tone.PLAIN, f"{key:{width}}  {text}") for key, text in (*rows, *SCREEN_KEYS)]
    mine = ((Tone.HEADING, "For the selected sandbox; each runs the command of that name"), *lines[: len(rows)])
    others = ((Tone.HEADING, "On the screen"), *lines[len(rows) :])
    return Page((*mine, (Tone.PLAIN, ""), *others))
