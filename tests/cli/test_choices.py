"""Questions at the end, on a real terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from support.terminal import Terminal

ASK = """
from git_sandbox.cli.choices import choose
print("chosen:", choose("What?", {"keep": "nothing happens", "commit": "one more", "stash": "aside"}, "keep"))
"""
CONFIRM = """
from git_sandbox.cli.choices import choose
print("chosen:", choose("Merge?", {"yes": "do it", "no": "leave it"}, "no"))
"""


def asked(script: str, tmp_path: Path) -> Terminal:
    return Terminal([sys.executable, "-c", script], cwd=tmp_path, env=os.environ)


@pytest.mark.parametrize(
    ("typed", "chosen"), [("", "keep"), ("k", "keep"), ("C", "commit"), (" st ", "stash"), ("stash", "stash")]
)
def test_a_letter_is_enough_and_nothing_is_the_default(tmp_path: Path, typed: str, chosen: str) -> None:
    with asked(ASK, tmp_path) as term:
        term.expect("What? [keep*, commit, stash]: ")
        term.type(f"{typed}\n")
        term.expect(f"chosen: {chosen}")


@pytest.mark.parametrize("typed", ["?", "x", "stashed"])
def test_what_is_no_answer_explains_them_and_asks_again(tmp_path: Path, typed: str) -> None:
    with asked(ASK, tmp_path) as term:
        term.expect("]: ")
        term.type(f"{typed}\n")
        assert "k  keep: nothing happens (default)" in term.expect("s  stash: aside")
        term.expect("What?")
        term.type("s\n")
        term.expect("chosen: stash")


def test_yes_and_no(tmp_path: Path) -> None:
    with asked(CONFIRM, tmp_path) as term:
        term.expect("Merge? [y/N]: ")
        term.type("?\n")
        term.expect("leave it (default)")
        term.expect("[y/N]: ")
        term.type("y\n")
        term.expect("chosen: yes")


def test_the_question_is_shown_again_after_a_stop(tmp_path: Path) -> None:
    with asked(CONFIRM, tmp_path) as term:
        term.expect("Merge? [y/N]: ")
        for _ in range(60):  # a signal between prompt and read is noticed after the answer only
            os.kill(term.child.pid, signal.SIGSTOP)
            os.kill(term.child.pid, signal.SIGCONT)
            with contextlib.suppress(AssertionError):
                term.expect("Merge? [y/N]: ", 1)
                break
        else:
            pytest.fail(term.shown())
        term.type("n\n")
        term.expect("chosen: no")
