"""What was requested, allowed and refused, by name and port: a bounded JSON file in the sandbox's directory.

Everything in it is chosen by a guest, so it is limited where it is counted: names are spelled as `names.host` does, the
number of rows has a bound, and what comes after that is counted together.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from git_sandbox import files
from git_sandbox.later import asdict, dataclass, field
from git_sandbox.text import one_line

SCHEMA = 1
MOST_ROWS = 1000
MOST = 4 << 20  # bytes of the file
OTHERS = "(others)"  # no name of a host: it cannot be asked for
UNREADABLE = "(not readable)"


@dataclass
class Row:
    """`sent` and `received`: bytes, from the guest's view. `last`: seconds since the epoch."""

    host: str
    port: int
    allowed: int = 0
    refused: int = 0
    sent: int = 0
    received: int = 0
    last: float = 0.0
    last_refused: float = 0.0
    last_push: float = 0.0  # of git over HTTP that could be read on the way
    message: str = ""
    hint: str = ""


@dataclass
class RequestLog:
    """`path` None: nothing is written. `now`: the clock, for tests. `sent`: bytes that left altogether."""

    path: Path | None = None
    now: Callable[[], float] = time.time
    rows: dict[tuple[str, int], Row] = field(default_factory=dict)
    sent: int = 0
    dirty: bool = False

    def row(self, host: str, port: int) -> Row:
        key = (host, port)
        if key not in self.rows and len(self.rows) >= MOST_ROWS:
            key = (OTHERS, 0)
        return self.rows.setdefault(key, Row(*key))

    def allow(self, host: str, port: int) -> Row:
        row = self.row(host, port)
        row.allowed += 1
        row.last = self.now()
        self.dirty = True
        return row

    def push(self, row: Row) -> None:
        row.last_push = self.now()
        self.dirty = True

    def refuse(self, host: str, port: int, message: str, hint: str = "") -> None:
        row = self.row(host, port)
        row.refused += 1
        row.last = row.last_refused = self.now()
        self._say(row, message, hint)

    def note(self, host: str, port: int, message: str) -> None:
        """Something to know of that place, where nothing was refused; a rule that can be added stays."""
        row = self.row(host, port)
        if not row.hint:
            self._say(row, message, "")

    def _say(self, row: Row, message: str, hint: str) -> None:
        if row.host != OTHERS:
            row.message, row.hint = one_line(message, limit=400), one_line(hint, limit=400)
        self.dirty = True

    def count(self, row: Row, *, sent: int = 0, received: int = 0) -> None:
        row.sent += sent
        self.sent += sent
        row.received += received
        row.last = self.now()
        self.dirty = True

    def save(self) -> None:
        """Put the file in the old one's place, whole or not at all; what cannot be written is tried again later."""
        if self.path is None or not self.dirty:
            return
        content = {"schema": SCHEMA, "rows": [asdict(row) for row in self.rows.values()]}
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            files.write(beside, json.dumps(content, separators=(",", ":")).encode("ascii"))
            beside.replace(self.path)
            self.dirty = False


def load(path: Path) -> list[Row]:
    """Rows of a log, those asked for last first; none where there is no file. Raises OSError or ValueError."""
    try:
        content = json.loads(files.read(path, MOST))
        rows = [Row(**row) for row in content["rows"]]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("it is not a network log") from error
    return sorted(rows, key=lambda row: -row.last)


def resumed(path: Path) -> RequestLog:
    """A log that goes on with what the file holds: a proxy that was started again forgets nothing."""
    log = RequestLog(path)
    with contextlib.suppress(OSError, ValueError):
        log.rows = {(row.host, row.port): row for row in load(path)[: MOST_ROWS + 1]}
    log.sent = sum(row.sent for row in log.rows.values())
    return log
