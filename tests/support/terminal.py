"""A terminal for a program under test: what it shows, what is typed, its size (stdlib pty)."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from support.pace import SLOWNESS


class Terminal:
    """Runs `argv` in a session of its own whose controlling terminal is ours."""

    def __init__(self, argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> None:
        self.ours, self.theirs = pty.openpty()
        self.seen = b""
        self.resize(24, 80)
        self.child = subprocess.Popen(
            ["setsid", "--ctty", *argv], cwd=cwd, env=dict(env) | {"TERM": "xterm-256color"}, stdin=self.theirs,
            stdout=self.theirs, stderr=self.theirs,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.child.poll() is None:
            self.child.terminate()
            self.child.wait(60)
        for each in (self.ours, self.theirs):
            os.close(each)

    def resize(self, rows: int, columns: int) -> None:
        """Like a user who drags the window: the size changes, and the foreground process group hears of it."""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self.theirs)

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def expect(self, wanted: str, seconds: float = 60.0) -> str:
        """Read until `wanted` appears; everything up to its end, which is then used up."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while wanted.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {wanted!r} within {seconds:g} s; the terminal shows:\n{self.shown()}"
            assert self._read(min(left, 1.0)) or self.child.poll() is None, f"ended without {wanted!r}:\n{self.shown()}"
        before, self.seen = self.seen.split(wanted.encode(), 1)
        return before.decode("utf-8", "replace") + wanted

    def _read(self, seconds: float) -> bool:
        if not select.select([self.ours], [], [], seconds)[0]:
            return False
        self.seen += os.read(self.ours, 65536)
        return True

    def shown(self) -> str:
        return self.seen.decode("utf-8", "replace")

    def wait(self, seconds: float = 120.0) -> int:
        """Exit status; goes on reading, because a program blocks on a terminal that nobody reads."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while self.child.poll() is None:
            assert time.monotonic() < deadline, f"still running:\n{self.shown()}"
            self._read(0.1)
        while self._read(0):
            pass
        return self.child.returncode

    def hang_up(self) -> None:
        os.killpg(self.child.pid, signal.SIGHUP)
