"""How a guest leaves the terminal does not decide what is seen of what follows: in real terminals."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import run

import pytest

from git_sandbox import terminal
from git_sandbox.cli import first
from support.terminal import Terminal

GUEST = r"""
import os, sys, time
from git_sandbox import terminal
with terminal.restored(1, raw=True):
    os.write(1, eval(sys.argv[1]))
print("\nasked", flush=True)
time.sleep(float(sys.argv[2]))
"""
ENDINGS = {
    "nothing": b"",
    "half a CSI": b"\x1b[38;5",
    "half a DCS": b"\x1bPq#0;2;0",
    "half a DCS with an escape": b"\x1bP1$t\x1b",
    "half an OSC": b"\x1b]0;title",
    "half an APC": b"\x1b_Gf=24;AAAA",
    "half a PM": b"\x1b^private",
    "half a character": b"\xf0\x9f",
    "hidden": b"\x1b[8m",
    "another screen": b"\x1b[?1049h\x1b[H",
    "a scroll region": b"\x1b[5;6r\x1b[6;1H",
    "line graphics": b"\x1b(0\x1b)0\x0e",
    "no wrapping, inserting": b"\x1b[?7l\x1b[4h\x1b[70G",
    "printing": b"\x1b[5i",
    "nothing drawn": b"\x1b[?2026h",
    "all at once": b"\x1b[?1049h\x1b[5;6r\x1b[8m\x1b(0\x1bPq#0",
    "through to the one around": b"\x1bP\x1b]0;x\x1b\\\x1bPtmux;\x1b\x1bPq#0\x1b\\",
}


def test_nothing_of_the_guests_outlives_the_session(tmp_path: Path) -> None:
    hostile = repr(b"\x1b[8m\x1b[5;6r\x1b[?1049h\x1b[?25l\x1b]4;3;#000000\x07hostile")
    environment = {**os.environ, "TERM": "xterm-256color"}
    with Terminal([sys.executable, "-c", GUEST, hostile, "0"], cwd=tmp_path, env=environment) as term:
        term.expect("hostile")
        between = term.expect("asked")
        assert term.wait() == 0
    for sequence in ("\x18\x1b\\", "\x1b[!p", "\x1b[?1047l", "\x1b[?25h", "\x1b]104\x1b\\", "\x0f", "\x1b[<64u"):
        assert sequence in between


@pytest.mark.parametrize(("term", "knows"), [("xterm-256color", True), ("linux", False), ("dumb", False), ("", False)])
def test_only_what_a_terminal_knows_is_said(term: str, *, knows: bool) -> None:
    said = terminal.reset({"TERM": term})
    assert (b"\x1b]104" in said) is knows
    assert (said == b"") is (term in ("", "dumb"))


def test_warnings_without_end_are_some_and_a_number() -> None:
    told = first.warnings([f"tag {number} is a file" for number in range(20_000)])
    assert len(told) == first.MAX_WARNINGS + 1
    assert "and 19950 more" in told[-1]
    assert len(first.warnings(["one", "two"])) == 2


@pytest.mark.parametrize("term", ["xterm", "screen", "tmux-256color", "linux", "xterm-kitty"])
def test_the_reset_begins_with_what_nothing_swallows(term: str) -> None:
    assert terminal.reset({"TERM": term}).startswith(b"\x18\x18\x1b\\")


# --- in real ones -----------------------------------------------------------------------------------------------------

Show = Callable[[list[str]], str]


def _tmux(where: str, *words: str) -> str:
    done = run(["tmux", "-S", f"{where}/tmux", "-f", "/dev/null", *words], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


def _until_asked(where: str) -> str:
    deadline, seen = time.monotonic() + 20, ""
    while time.monotonic() < deadline:
        seen = _tmux(where, "capture-pane", "-p")
        if "asked" in seen:
            break
        time.sleep(0.2)
    return seen


@pytest.fixture(params=["tmux", "screen"])
def show(request: pytest.FixtureRequest) -> Iterator[Show]:
    """What is to be seen at the end, in tmux, or in a screen in tmux."""
    if shutil.which("tmux") is None or shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed, and what it shows is the claim")
    with tempfile.TemporaryDirectory() as where:

        def shown(argv: list[str]) -> str:
            inside = ["screen", "-c", "/dev/null", "-q"] if request.param == "screen" else []
            _tmux(
                where,
                "new-session",
                "-d",
                "-x",
                "80",
                "-y",
                "24",
                "env",
                "-u",
                "TMUX",
                f"SCREENDIR={where}",
                *inside,
                *argv,
            )
            return _until_asked(where)

        try:
            yield shown
        finally:
            run(["tmux", "-S", f"{where}/tmux", "kill-server"], capture_output=True, check=False)


@pytest.mark.parametrize("name", ENDINGS)
def test_what_follows_is_seen(show: Show, name: str) -> None:
    assert "asked" in show([sys.executable, "-c", GUEST, repr(ENDINGS[name]), "60"]).split()
