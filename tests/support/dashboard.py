"""The screen of `sandbox top` for tests: a source and verbs that only note what they are asked, and what is shown."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from git_sandbox.tui.app import Top
from git_sandbox.tui.content import COLUMNS, Listing, Outcome, Page, Row, Scope, Tone
from support.pace import SLOWNESS

PLACE = Path("/repository")


def row(name: str, state: str = "stopped", activity: str = "", **cells: str) -> Row:
    shown = dict.fromkeys(COLUMNS, "-") | {"ID": name, "STATE": f"{state}, {activity}" if activity else state}
    return Row(name, name, PLACE, state, activity, tuple((shown | cells).values()))


ROWS = (
    row("vm-1", "running", "working", WORK="-", AHEAD="2", AGE="5m", NET="12, 3 refused", OVERLAP="fix (1)", CPU="98%",
        MEMORY="612.0 MiB", DISK="1.2 GiB", BASE="main@0123abcd", COMMAND="claude: reads the tests"),
    row("fix", "running", "waiting", WORK="uncommitted", AHEAD="1", AGE="2h", OVERLAP="vm-1 (1)", CPU="0%",
        MEMORY="498.0 MiB", DISK="310.5 MiB", BASE="main@0123abcd+", COMMAND="codex: which of the two?"),
    row("vm-3", "stopped", WORK="merged", AHEAD="4", AGE="3d", DISK="2.0 MiB", BASE="main@0123abcd",
        COMMAND="make test"),
    row("vm-4", "recoverable", AGE="1d", DISK="88.0 MiB", BASE="side@456789ab", COMMAND="(shell)"),
)  # fmt: skip


@dataclass
class Source:
    """Pages say what they are of. `gate`: pages wait for it, as for a slow repository."""

    rows: tuple[Row, ...] = ROWS
    pages: dict[tuple[str, str], Page] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    looks: list[Scope] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    def listing(self, scope: Scope) -> Listing:
        self.looks.append(scope)
        if self.error:
            raise self.error
        return Listing("app", self.rows, "1.6 GiB on disk")

    def page(self, row: Row, tab: str) -> Page:
        self.asked.append((row.name, tab))
        self.gate.wait(60)
        default = Page(((Tone.HEADING, f"{tab} of {row.name}"), *((Tone.PLAIN, f"line {n}") for n in range(100))))
        return self.pages.get((row.name, tab), default)

    def plan(self, row: Row) -> Page:
        return Page(((Tone.PLAIN, f"{row.name} brings a.py | 2 +-"),))

    def comparison(self, rows: Sequence[Row]) -> Page:
        return Page(((Tone.PLAIN, f"compared {[row.name for row in rows]}"),))

    def graph(self, rows: Sequence[Row]) -> Page:
        return Page(((Tone.PLAIN, f"drawn {[row.name for row in rows]}"),))


@dataclass
class Verbs:
    beside: list[list[str]] = field(default_factory=list)
    terminal: list[list[str]] = field(default_factory=list)
    outcome: Outcome = field(default_factory=lambda: Outcome(0, "it is done"))
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def run(self, words: Sequence[str], place: Path) -> Outcome:
        assert place == PLACE
        self.gate.wait(60)
        self.beside.append(list(words))
        return self.outcome

    def take_terminal(self, words: Sequence[str], place: Path) -> int:
        assert place == PLACE
        self.terminal.append(list(words))
        return 0


def text(app: Top) -> str:
    """What the terminal shows, without colours: the oracle of all snapshots."""
    strips = app.screen._compositor.render_strips(app.size)
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips).rstrip() + "\n"


async def until(pilot: Any, condition: Callable[[], object]) -> None:
    """Threads answer when they do."""
    deadline = time.monotonic() + 60 * SLOWNESS
    while not condition():
        assert time.monotonic() < deadline, f"the screen shows:\n{text(pilot.app)}"
        await pilot.pause()
        await asyncio.sleep(0.005)
    await pilot.pause()


def play(
    app: Top, script: Callable[[Any], Awaitable[None]], size: tuple[int, int] = (80, 24), *, ready: str = "of vm-1"
) -> None:
    """Run a script of key presses once the first page is there."""

    async def played() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            if ready:
                await until(pilot, lambda: ready in app.lines.text and "…" not in app.lines.text)
            await script(pilot)

    asyncio.run(played())
