from __future__ import annotations

import subprocess
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.errors import UsageError
from git_sandbox.git.names import MAX_REF_COMPONENT, SandboxRefs, encode_ref_path, oid, sandbox_id
from git_sandbox.text import printable
from support.examples import examples

COMPONENT = st.one_of(
    st.binary(min_size=0, max_size=20),
    st.text(st.characters(codec="utf-8"), max_size=9).map(str.encode),
    st.text(st.sampled_from("数é\u0301अ\u093fא3٣\u3164\u200d\ufe0f\u202e.-%~ "), max_size=9).map(str.encode),
    st.sampled_from((b"a", b"A", b".", b"..", b"a..b", b"a.lock", b".a", b"a.", b"@", b"@{", b"-x", b"~", b"%")),
)
NAMES = st.lists(COMPONENT, min_size=1, max_size=4).map(b"/".join)


def decoded(encoded: str) -> bytes:
    """What `encode_ref_path` must be inverted by; an empty component is the one escape that is not hexadecimal."""
    return b"/".join(b"" if part == "%" else unquote_to_bytes(part) for part in encoded.split("/"))


@given(NAMES)
def test_encoding_is_injective(name: bytes) -> None:
    assert decoded(encode_ref_path(name)) == name


@settings(deadline=None, max_examples=examples(20))
@given(st.lists(NAMES, min_size=1, max_size=40))
def test_git_accepts_every_encoded_name(names: list[bytes]) -> None:
    refs = [f"refs/sandbox-heads/vm-1/{encode_ref_path(name)}" for name in names]
    script = 'for each; do git check-ref-format "$each" || { echo "$each"; exit 1; }; done'
    done = subprocess.run(["sh", "-c", script, "sh", *refs], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert all(each.isprintable() and printable(each) == each for each in refs)


# 16 characters of at most 4 bytes, 3 characters each when encoded: below MAX_REF_COMPONENT.
@given(st.text(st.characters(codec="utf-8"), max_size=16))
def test_text_and_bytes_give_the_same(name: str) -> None:
    assert encode_ref_path(name) == encode_ref_path(name.encode())


def test_letters_of_every_script_stay_readable() -> None:
    for name in ("функция/вход", "ログイン画面の修正" * 7, "función", "שלום", "हिन्दी", "٣"):
        assert encode_ref_path(name) == name
    assert encode_ref_path("ログ 2.0") == "ログ%202%2E0"
    assert encode_ref_path("e\u0301") == "e%CC%81"
    for hidden in "\u3164\u200d\ufe0f\u202e\u200b\u00ad\U000e0041\u034f":
        assert encode_ref_path(f"main{hidden}").isascii()


def test_plain_names_stay_readable_and_long_ones_are_refused() -> None:
    assert encode_ref_path("feature/login-2.0_x") == "feature/login-2.0_x"
    with pytest.raises(ValueError, match="too long"):
        encode_ref_path("a" * (MAX_REF_COMPONENT + 1))


@given(st.text(max_size=50))
def test_sandbox_id_is_checked(text: str) -> None:
    try:
        found = sandbox_id(text)
    except UsageError:
        assert not text.isalpha() or not text.islower() or len(text) > 40 or not text.isascii()
        return
    assert 1 <= len(found) <= 40
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not found.startswith("-")
    assert all(pattern.endswith(f"/{found}") for pattern in SandboxRefs(found).patterns)


@pytest.mark.parametrize("text", ["", "a" * 39, "a" * 41, "G" * 40, "0" * 40 + "\n", "a" * 63])
def test_object_names_are_checked(text: str) -> None:
    with pytest.raises(ValueError, match="not an object name"):
        oid(text)
