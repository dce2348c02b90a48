"""How a guest leaves the terminal does not decide what is seen of the questions that follow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from git_sandbox.cli import first
from git_sandbox.session import terminal_reset
from support.terminal import Terminal

GUEST = r"""
import os, sys
from git_sandbox import session
with session._terminal_restored():
    os.write(1, b"\x1b[8m\x1b[5;6r\x1b[?1049h\x1b[?25l\x1b]4;3;#000000\x07hostile")
print("asked")
"""


def test_nothing_of_the_guests_outlives_the_session(tmp_path: Path) -> None:
    with Terminal([sys.executable, "-c", GUEST], cwd=tmp_path, env=os.environ) as term:
        term.expect("hostile")
        between = term.expect("asked")
        assert term.wait() == 0
    for sequence in ("\x1b[!p", "\x1b[?1047l", "\x1b[?25h", "\x1b]104\x1b\\", "\x0f"):
        assert sequence in between


@pytest.mark.parametrize(("term", "knows"), [("xterm-256color", True), ("linux", False), ("dumb", False), ("", False)])
def test_only_what_a_terminal_knows_is_said(term: str, knows: bool) -> None:
    said = terminal_reset(term)
    assert (b"\x1b]104" in said) is knows
    assert (said == b"") is (term in ("", "dumb"))


def test_warnings_without_end_are_some_and_a_number() -> None:
    told = first.warnings([f"tag {number} is a file" for number in range(20_000)])
    assert len(told) == first.MAX_WARNINGS + 1
    assert "and 19950 more" in told[-1]
    assert len(first.warnings(["one", "two"])) == 2
