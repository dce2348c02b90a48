"""What `configtext` writes, git reads back as exactly the same pairs."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from git_sandbox.git import configtext
from git_sandbox.git.configtext import Pair
from support.examples import examples

# Anything a file can hold: odd Unicode, controls, and bytes that are no UTF-8 (as surrogate escapes).
_CHARACTERS = st.one_of(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    st.sampled_from("\n\r\t\b\"\\;#[]=!~ '\v\f\x1b\x7f\ufeff"),
    st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF, categories=["Cs"]),
)
_VALUES = st.none() | st.text(_CHARACTERS, max_size=20)
_SUBSECTIONS = st.text(_CHARACTERS.filter(lambda each: each != "\n"), max_size=10)
_SECTIONS = st.from_regex(r"[a-z0-9-]{1,6}", fullmatch=True)
_NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,6}", fullmatch=True)
_KEYS = st.builds(lambda section, sub, name: f"{section}.{sub}.{name}", _SECTIONS, _SUBSECTIONS, _NAMES) | st.builds(
    lambda section, name: f"{section}.{name}", _SECTIONS, _NAMES
)


def valid_utf8_escapes(text: str) -> bool:
    """Adjacent escapes that together are UTF-8 would come back as the character: the same bytes, another string."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == text


def read_back(text: str) -> list[Pair]:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "config"
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        listed = subprocess.run(
            ["git", "config", "--file", file, "--no-includes", "--list", "-z"], capture_output=True, check=True
        )
    return configtext.parse(listed.stdout)


@settings(max_examples=examples(120), deadline=None)
@given(st.lists(st.tuples(_KEYS, _VALUES), max_size=8))
@example([("a.b", "x\r\n"), ("a.b", "\r"), ("a..b", ""), ('a.B\\".b', None), ("a.b", " x "), ("a.b", "x ; y # z")])
@example([("alias.x", 'f() { echo "a\\n"; }; f'), ("a.b.c.d", "line\nline\n"), ("core.bare", None)])
def test_git_reads_back_exactly_what_was_written(pairs: list[Pair]) -> None:
    pairs = [(key, value) for key, value in pairs if valid_utf8_escapes(key) and valid_utf8_escapes(value or "")]
    assert read_back(configtext.render(pairs)) == pairs


@pytest.mark.parametrize("key", ["nosection", "a.", ".b", "a.b_c", "a.1b", "a.x\ny.b", "a_b.c", "a.x\0.b", "a.b\n"])
def test_impossible_keys_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="configuration key"):
        configtext.render([(key, "x")])


def test_impossible_values_are_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        configtext.render([("a.b", "x\0y")])
