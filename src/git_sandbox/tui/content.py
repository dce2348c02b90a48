"""The contents of the screen, as data: rows of the list, pages about one sandbox, and their source.

Whoever makes a row or a page has made its text safe to print already; the screen does so once more (`tui/screen.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from git_sandbox.later import dataclass

COLUMNS = ("ID", "STATE", "WORK", "AHEAD", "AGE", "NET", "OVERLAP", "CPU", "MEMORY", "DISK", "BASE", "COMMAND")
LOG, DIFF, FILES, NETWORK, OUTPUT = TABS = ("Log", "Diff", "Files", "Network", "Output")
LIVE = (NETWORK, OUTPUT)  # may be another one at every look
ENDS = (OUTPUT,)  # of which the last lines are what matters


class Tone(StrEnum):
    """What a line is, for those who see colours."""

    PLAIN = "plain"
    HEADING = "heading"
    ADDED = "added"
    REMOVED = "removed"
    PLACE = "place"
    NOTE = "note"
    ERROR = "error"


@dataclass(frozen=True)
class Page:
    """`choices`: rules that would allow what the network refused. `fine`: it is what was asked for, and no error.
    `code`: it is a difference.
    """

    lines: tuple[tuple[Tone, str], ...]
    choices: tuple[str, ...] = ()
    fine: bool = True
    code: bool = False


@dataclass(frozen=True)
class Row:
    """One sandbox. `name` tells it from all others on the screen; `id`: its name for verbs that run in `place`.
    `cells`: as `COLUMNS`. `waits`: it waits for somebody, or has failed. `version`: another one where its log and
    its difference may be others.
    """

    name: str
    id: str
    place: Path
    state: str
    activity: str
    cells: tuple[str, ...]
    version: str = ""

    @property
    def waits(self) -> bool:
        return self.activity in ("waiting", "failed") or self.state == "recoverable"


@dataclass(frozen=True)
class Listing:
    """`title`: of which repository or repositories; `total`: the disk of all."""

    title: str
    rows: tuple[Row, ...]
    total: str = ""


@dataclass(frozen=True)
class Scope:
    """What the list has: also the trash, also other repositories."""

    trash: bool = False
    everywhere: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a verb ended, and what it wrote, safe to print."""

    code: int
    text: str


class Source(Protocol):
    """Answers from any thread, from files and refs of this host; asks no guest. Raises SandboxError, OSError."""

    def listing(self, scope: Scope) -> Listing: ...

    def page(self, row: Row, tab: str) -> Page: ...

    def plan(self, row: Row) -> Page:
        """What a merge would bring."""
        ...

    def comparison(self, rows: Sequence[Row]) -> Page:
        """Of all where none is named."""
        ...

    def graph(self, rows: Sequence[Row]) -> Page:
        """Of all where none is named."""
        ...


class Verbs(Protocol):
    """Commands of this program."""

    def run(self, words: Sequence[str], place: Path) -> Outcome:
        """Without a terminal, to its end; from any thread."""
        ...

    def take_terminal(self, words: Sequence[str], place: Path) -> int:
        """With ours, to its end; its exit code."""
        ...
