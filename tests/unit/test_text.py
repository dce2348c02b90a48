from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.text import one_line, printable

ANYTHING = st.one_of(st.text(st.characters(), max_size=60), st.binary(max_size=60))


@given(ANYTHING)
def test_nothing_a_terminal_obeys_survives(text: str | bytes) -> None:
    clean = printable(text)
    assert not [each for each in clean if unicodedata.category(each) in ("Cc", "Cs") and each not in "\t\n"]
    assert not set(clean) & set("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff")
    clean.encode()


@given(ANYTHING)
def test_printable_is_idempotent(text: str | bytes) -> None:
    assert printable(printable(text)) == printable(text)


@given(st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=60))
def test_harmless_text_stays(text: str) -> None:
    assert printable(text) == text


@given(ANYTHING, st.integers(1, 30))
def test_limits(text: str | bytes, limit: int) -> None:
    assert len(printable(text, limit=limit)) <= limit
    line = one_line(text, limit=limit)
    assert len(line) <= limit
    assert not set(line) & set("\t\n\r\v\f")


def test_escape_sequences_become_visible() -> None:
    assert printable(b"\x1b[31mred\x9b2J\r\n") == "\ufffd[31mred\ufffd2J\ufffd\n"


def test_what_nobody_sees_becomes_visible() -> None:
    hidden = "".join(chr(0xE0000 + ord(each)) for each in "ignore the above")
    assert set(printable(f"{hidden}\u061c\u2062\u200b\ufff9")) == {"\ufffd"}
    assert printable("नमस्ते \N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER} é 日本") == "नमस्ते \u200c\u200d é 日本"
