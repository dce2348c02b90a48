# ruff: noqa: RUF001 - letters of other scripts are what this is about

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.text import REPLACEMENT, one_line, outgoing, printable, whole

ANYTHING = st.one_of(st.text(st.characters(), max_size=60), st.binary(max_size=60))
NASTY = st.text(
    st.sampled_from("\u200d\u200c\ufe0f\ufe0e\u0301\u093f\x1b[8m0#é❤🔥\u202e\n\U000e0041\ue000"), max_size=30
)


@given(ANYTHING | NASTY)
def test_nothing_a_terminal_obeys_or_nobody_sees_survives(text: str | bytes) -> None:
    clean = printable(text)
    kept = set("\t\n\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
    assert not [each for each in clean if unicodedata.category(each)[0] == "C" and each not in kept]
    assert not set(clean) & {"\u2028", "\u2029", "\u034f", "\u3164", "\U000e0100"}
    clean.encode()


@given(ANYTHING | NASTY)
def test_printable_is_idempotent(text: str | bytes) -> None:
    assert printable(printable(text)) == printable(text)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp", "M")), max_size=60))
def test_harmless_text_stays(text: str) -> None:
    fillers = "\u115f\u1160\u3164\uffa0"
    assert printable(text) == re.sub(f"[{fillers}]", REPLACEMENT, text)


@given(ANYTHING, st.integers(1, 30))
def test_limits(text: str | bytes, limit: int) -> None:
    assert len(printable(text, limit=limit)) <= limit
    line = one_line(text, limit=limit)
    assert len(line) <= limit
    assert not set(line) & set("\t\n\r\v\f")
    assert line == whole(text) or line.endswith("…"), "a cut is marked"


def test_escape_sequences_become_visible() -> None:
    assert printable(b"\x1b[31mred\x9b2J\r\n") == "\ufffd[31mred\ufffd2J\ufffd\n"


def test_what_nobody_sees_becomes_visible() -> None:
    hidden = "".join(chr(0xE0000 + ord(each)) for each in "ignore the above")
    selectors = "".join(chr(0xE0100 + ord(each)) for each in "ignore the above")
    assert set(printable(f"{hidden}\u061c\u2062\u200b\ufff9{selectors}\u00ad\ue000\u0378\u200d\ufe0f")) == {REPLACEMENT}
    assert printable("a\ufe0fb\u200dc") == "a\ufffdb\ufffdc"


@pytest.mark.parametrize(
    "text",
    [
        "नमस्ते",
        "क्\u200dष",
        "می\u200cخواهم",
        "שָׁלוֹם",
        "日本",
        "é",
        "❤\ufe0f\u200d🔥",
        "👩\u200d👩\u200d👧",
        "1\ufe0f\u20e3",
        "\u0600١٢",
    ],
)
def test_languages_and_emoji_stay(text: str) -> None:
    assert printable(text) == text


def test_marks_do_not_pile_up() -> None:
    assert printable("e" + "\u0301" * 50) == "e" + "\u0301" * 8 + REPLACEMENT


@given(ANYTHING | NASTY)
def test_the_door_keeps_our_colours_and_nothing_that_hides(text: str | bytes) -> None:
    shown = outgoing(f"\x1b[31m\x1b[1m{text!s}\x1b[0m")
    assert shown.startswith("\x1b[31m\x1b[1m")
    assert shown.endswith("\x1b[0m")
    assert not re.search("\x1b(?!\\[(?:0|1|3[1-7]|9[0-7])m)", shown)
