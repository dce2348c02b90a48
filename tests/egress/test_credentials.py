"""What is declared of a credential, its placeholder, and where each of them may be."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.egress import credentials, inject, values
from git_sandbox.egress.credentials import Credential, declared
from git_sandbox.egress.inject import Parts, Scan, Scrub
from git_sandbox.egress.refusal import Refused
from git_sandbox.egress.sources import Local
from git_sandbox.errors import SandboxError, UsageError
from support.examples import examples

TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60)
REAL = "sk-ant-api03-REALrealREAL"


@pytest.mark.parametrize(
    "table",
    [
        {}, {"hosts": ["a.test"]}, {"hosts": [], "bearer": True, "env": "K"},
        {"hosts": "a.test", "bearer": True, "env": "K"},
        {"hosts": ["a b"], "bearer": True, "env": "K"}, {"hosts": ["a.test"], "bearer": True, "query": "k", "env": "K"},
        {"hosts": ["a.test"], "bearer": True, "env": "K", "file": "/x"},
        {"hosts": ["a.test"], "header": "Host", "env": "K"},
        {"hosts": ["a.test"], "header": "a b", "env": "K"}, {"hosts": ["a.test"], "bearer": True, "env": "A=B"},
        {"hosts": ["a.test"], "bearer": True, "keyring": ["x"]},
        {"hosts": ["a.test"], "bearer": True, "env": "K", "x": 1},
        {"hosts": ["a.test"], "bearer": True, "env": "K", "expiry": -1},
        {"hosts": ["a.test"], "basic": "a:b", "env": "K"},
        {"hosts": ["a.test"], "bearer": True, "value": "secret"},
        {"hosts": ["a.test"], "bearer": True, "file": "key"}, {"hosts": ["a.test"], "bearer": True, "file": "../key"},
        {"hosts": ["a.test"], "bearer": True, "file": "~nobody-of-this-name/key"},
    ],
)  # fmt: skip
def test_a_declaration_is_whole_or_an_error(table: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="`key`"):
        declared("key", table)


def test_hosts_of_a_credential() -> None:
    found = declared("key", {"hosts": ["Api.test", "*.b.test:8443"], "header": "X-Key", "env": "K"})
    assert found.field == "x-key"
    assert found.upstream == ("api.test", 443)
    places = [
        ("api.test", 443),
        ("api.test", 80),
        ("b.test", 8443),
        ("x.b.test", 8443),
        ("xb.test", 8443),
        ("x.b.test", 443),
    ]
    assert [found.is_for(*each) for each in places] == [True, False, False, True, False, False]
    with pytest.raises(UsageError):
        replace(found, hosts=("*.b.test",)).upstream  # noqa: B018 - a property


@settings(max_examples=examples(100))
@given(st.one_of(TOKENS, TOKENS.map("ghp_{}".format), st.text("0123456789abcdef", min_size=8, max_size=64)))
def test_a_placeholder_has_the_look_and_tells_nothing(value: str) -> None:
    made = credentials.placeholder(value)
    assert len(made) == len(value)
    assert made != value
    mark = "ghp_" if value.startswith("ghp_") else ""
    assert made.startswith(mark)
    rest = made.removeprefix(mark)
    assert rest.isalnum() or any(value.startswith(each) for each in credentials.MARKS)
    assert credentials.sound("key", made) == made


def test_a_placeholder_of_a_jwt_can_be_looked_into() -> None:
    made = credentials.placeholder("eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZUBleGFtcGxlLm9yZyJ9.c2ln")
    claims = made.split(".")[1]
    assert b"exp" in base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))
    assert b"example" not in base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4))


def made(place: str, field: str = "") -> Credential:
    table = {place: field or True, "hosts": ["api.test"], "env": "K"}
    return replace(declared(place, table), placeholder=f"sk-ant-api03-placeholder-{place}")


HEADER, BEARER, BASIC, QUERY = made("header", "x-api-key"), made("bearer"), made("basic", "user"), made("query", "key")
ALL = (HEADER, BEARER, BASIC, QUERY)


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


@pytest.mark.parametrize(
    ("credential", "before", "after"),
    [
        (HEADER, Parts("/", [(b"x-api-key", HEADER.placeholder.encode())]),
         Parts("/", [(b"x-api-key", REAL.encode())])),
        (BEARER, Parts("/", [(b"authorization", b"bearer " + BEARER.placeholder.encode())]),
         Parts("/", [(b"authorization", b"bearer " + REAL.encode())])),
        (BASIC, Parts("/", [(b"authorization", basic("user", BASIC.placeholder))]),
         Parts("/", [(b"authorization", basic("user", REAL))])),
        (QUERY, Parts(f"/x?a=b&key={QUERY.placeholder}&c", []), Parts(f"/x?a=b&key={REAL}&c", [])),
    ],
)  # fmt: skip
def test_a_placeholder_in_its_place_gives_way_to_the_value(credential: Credential, before: Parts, after: Parts) -> None:
    assert inject.replaced(before, {credential: REAL}, ALL) == after
    with pytest.raises(Refused, match="is in the wrong place"):
        inject.replaced(before, {}, ALL)  # of another host


def other_forms(mark: str) -> list[str]:
    """As a program writes it that does not want it to be seen, in whatever text."""
    texts = [f"{'x' * before}{mark}-more".encode() for before in range(4)]
    base64s = [coded(text).decode() for text in texts for coded in (base64.b64encode, base64.urlsafe_b64encode)]
    return [*base64s, mark.encode().hex(), mark.encode().hex().upper(), mark.upper()]


@pytest.mark.parametrize("credential", ALL, ids=lambda each: each.place)
def test_a_placeholder_anywhere_else_is_refused(credential: Credential) -> None:
    mark = credential.placeholder
    other = "bearer" if credential is not BEARER else "token"
    places = [
        Parts(f"/{mark}", []),
        Parts(f"/?other={mark}", []),
        Parts(f"/?{mark}=x", []),
        Parts("/" + "".join(f"%{ord(each):02x}" for each in mark), []),
        Parts("/" + "".join(f"%25{ord(each):02x}" for each in mark), []),
        Parts("/", [(b"x-other", mark.encode())]),
        Parts("/", [(b"cookie", b"a=" + mark.encode())]),
        Parts("/", [(mark.lower().encode(), b"x")]),
        Parts(
            "/",
            [(b"authorization", f"{other} {mark}".encode())] if credential is not BEARER else [(b"a", mark.encode())],
        ),
        Parts("/", [(b"authorization", basic(mark, "x"))]),
        Parts("/", [(b"authorization", basic("other", mark))]),
        Parts("/", [(b"proxy-authorization", basic("user", mark))]),
        *(Parts(f"/{text}", []) for text in other_forms(mark)),
        *(Parts(f"/?other={text}&x=y", []) for text in other_forms(mark)),
        *(Parts("/", [(b"x-other", b"a " + text.encode())]) for text in other_forms(mark)),
    ]
    for parts in places:
        with pytest.raises(Refused) as caught:
            inject.replaced(parts, {credential: REAL}, ALL)
        assert credential.name in caught.value.message
        assert REAL not in caught.value.message


FORMS = st.sampled_from([HEADER.placeholder, *other_forms(HEADER.placeholder)]).map(str.encode)


def pieces(body: bytes, cuts: list[int]) -> list[bytes]:
    parts = []
    for size in [*cuts, len(body)]:
        parts += [body[:size]] if body[:size] else []
        body = body[size:]
    return [*parts, b""]


@settings(max_examples=examples(60))
@given(st.binary(max_size=80), st.binary(max_size=80), st.lists(st.integers(1, 40), max_size=20), FORMS)
def test_a_placeholder_in_a_body_is_found_however_it_is_cut(
    before: bytes, after: bytes, cuts: list[int], mark: bytes
) -> None:
    def look(body: bytes) -> bytes:
        scan = Scan(ALL)
        return b"".join(scan.look(piece) for piece in pieces(body, cuts))

    assert look(before + after) == before + after
    with pytest.raises(Refused):
        look(before + mark + after)


@settings(max_examples=examples(60))
@given(st.binary(max_size=80), st.binary(max_size=80), st.lists(st.integers(1, 40), max_size=20), FORMS)
def test_to_the_host_of_a_key_stars_go_in_a_placeholders_place(
    before: bytes, after: bytes, cuts: list[int], mark: bytes
) -> None:
    for body, hidden in ((before + after, False), (before + mark + after, True)):
        scan = Scan(ALL, hides=True)
        passed = b"".join(scan.look(piece) for piece in pieces(body, cuts))
        assert len(passed) == len(body)
        assert scan.hidden is hidden
        assert not any(mark in passed for credential in ALL for mark in inject.marks(credential))
        assert passed.startswith(before)
        assert passed.endswith(after)


@pytest.mark.parametrize("name", ["{}.a.test", "x-{}.a.test", "{}.b-{}.a.test"])
def test_a_placeholder_in_the_name_of_a_host_is_found(name: str) -> None:
    mark = HEADER.placeholder
    for text in (mark, f"{mark[:9]}.{mark[9:]}"):
        assert inject.in_name(name.format(text, text).lower(), ALL) is HEADER
    assert inject.in_name(name.format("x", "y"), ALL) is None


@settings(max_examples=examples(100))
@given(
    st.lists(st.one_of(st.just(b"secret-1"), st.just(b"other-secret"), st.binary(max_size=12))),
    st.lists(st.integers(1, 9)),
)
def test_no_value_comes_back_however_it_is_cut(pieces: list[bytes], cuts: list[int]) -> None:
    body = b"".join(pieces)
    scrub, rest, found = Scrub(["secret-1", "other-secret"]), body, b""
    for size in cuts:
        piece, rest = rest[:size], rest[size:]
        if piece:
            found += scrub.change(piece)
    found += (scrub.change(rest) if rest else b"") + scrub.change(b"")
    assert len(found) == len(body)
    assert b"secret-1" not in found
    assert b"other-secret" not in found
    assert all(one in (two, b"*"[0]) for one, two in zip(found, body, strict=True))


def test_nothing_waits_that_cannot_be_a_value() -> None:
    scrub = Scrub(["secret"])
    assert scrub.change(b"data: {}\n\n") == b"data: {}\n\n"
    assert scrub.change(b"a sec") == b"a "
    assert scrub.change(b"ond") == b"second"


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "key"
    place.write_text("from-the-file\n")
    place.chmod(0o600)

    def get(**source: object) -> str:
        return values.fetch(
            declared("key", {"hosts": ["a.test"], "bearer": True, **source}), {"K": "from-the-variable"}
        )

    assert get(env="K") == "from-the-variable"
    assert get(file=str(place)) == "from-the-file"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    assert get(file="~/key") == "from-the-file"
    assert get(command=["sh", "-c", "echo from-the-command"]) == "from-the-command"
    assert get(command=["sh", "-c", "echo in:$(pwd):and-nowhere-else"]) == "in:/:and-nowhere-else"
    key = declared("key", {"hosts": ["a.test"], "bearer": True, "env": "K"})
    mark = values.check(key, {"K": "ghp_the-real-value"})
    assert mark.startswith("ghp_")
    assert mark != "ghp_the-real-value"
    place.write_bytes("s3cret-ü-value".encode())
    with pytest.raises(SandboxError) as foreign:
        get(file=str(place))
    assert (foreign.value.cause, foreign.value.hint) == ("it is not ASCII", "")
    bad: list[dict[str, object]] = [
        {"env": "NONE"}, {"file": str(tmp_path)}, {"file": "/nowhere"},
        {"command": ["sh", "-c", "echo s3cret-x; exit 3"]},
        {"command": ["sh", "-c", "echo two words"]}, {"command": ["sh", "-c", "yes"]}, {"keyring": ["no-such", "user"]},
    ]  # fmt: skip
    for source in bad:
        with pytest.raises(SandboxError) as caught:
            get(**source)
        assert "s3cret" not in f"{caught.value} {caught.value.cause} {caught.value.hint}"


def test_a_command_is_asked_again_when_its_value_has_expired(tmp_path: Path) -> None:
    import asyncio

    count = tmp_path / "count"
    words = ["sh", "-c", f"echo x >> {count}; echo value-$(wc -l < {count})-of-it"]
    once = declared("once", {"hosts": ["a.test"], "bearer": True, "command": words})
    again = replace(once, name="again", source=replace(once.source, expiry=1))

    async def work() -> None:
        found = values.Values(Local({}).value)
        assert [await found.get(once), await found.get(once)] == ["value-1-of-it"] * 2
        assert await found.get(again) == "value-2-of-it"
        found.known["again"] = (found.known["again"][0] - 1, "value-2-of-it")
        assert await found.get(again) == "value-3-of-it"

    asyncio.run(work())
    assert os.path.exists(count)  # noqa: PTH110


def test_a_source_that_gives_nothing_is_not_asked_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    asked = tmp_path / "asked"
    key = declared("key", {"hosts": ["a.test"], "bearer": True, "command": ["sh", "-c", f"echo x >> {asked}; exit 1"]})

    async def work() -> None:
        found = values.Values(Local({}).value)
        for _ in range(5):
            with pytest.raises(SandboxError, match="cannot get the credential `key`"):
                await found.get(key)
        assert asked.read_text() == "x\n"
        found.failed["key"] = (found.failed["key"][0] - values.AGAIN, found.failed["key"][1])
        with pytest.raises(SandboxError):
            await found.get(key)
        assert asked.read_text() == "x\nx\n"
        found.failed.clear()
        monkeypatch.setattr(values, "fetch", lambda *_: "a-value-now")
        assert await found.get(key) == "a-value-now"
        assert found.failed == {}

    asyncio.run(work())
