"""What a server answers to a request with a real value: no form of it passes that cannot be looked through."""

from __future__ import annotations

import asyncio
import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.egress import gitaccess, inject
from git_sandbox.egress.inject import Parts, Scrub
from git_sandbox.egress.sources import Local
from support.egress import World, one_request, play, status
from support.examples import examples

REAL = "sk-REAL/value+0123456789"
TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40)


async def server(world: World, answer: bytes) -> list[bytes]:
    """One for `/@key`, that says `answer` with the value in the place of KEY; what it gets."""
    seen: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await one_request(reader))
        writer.write(answer.replace(b"KEY", REAL.encode()))
        await writer.drain()

    world.credential("key", hosts=["api.test"], header="x-api-key")
    world.allow("api.test")
    world.route("api.test:443", await world.serve(handler, tls=True))
    await world.start(values={"KEY": REAL})
    return seen


async def ask(world: World, fields: bytes = b"") -> bytes:
    request = b"GET /@key/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields
    return await (await world.client()).ask(request + b"\r\n")


def test_the_phrase_of_an_answer_is_the_standards(world: World) -> None:
    async def work(world: World) -> None:
        await server(world, b"HTTP/1.1 401 bad key KEY\r\nContent-Length: 2\r\n\r\nno")
        answer = await ask(world)
        assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
        assert REAL.encode() not in answer

    play(world, work)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nKEY",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: identity, x-own\r\n\r\nKEY",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nKEY",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\nKEY",
    ],
)
def test_an_answer_that_cannot_be_looked_through_is_refused(world: World, answer: bytes) -> None:
    async def work(world: World) -> None:
        seen = await server(world, answer)
        upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n" if b"101" in answer else b""
        fields = [b"Range: bytes=0-2", b"If-Range: x", b"X-Ms-Range: bytes=0-2", b"Accept-Encoding: gzip"]
        fields += [b"Sec-WebSocket-Extensions: permessage-deflate", b"Accept-Charset: utf-16", b"A-IM: gzip"]
        said = await ask(world, b"\r\n".join([*fields, b"Content-Range: bytes 0-2/3", upgrade or b"X: y\r\n"]))
        assert status(said) == 502
        assert b"the answer of api.test " in said
        assert seen[0].lower().count(b"range: ") == 1, "of the request's own body"
        assert b"Accept-Encoding: identity\r\n" in seen[0]
        assert not any(word in seen[0] for word in (b"gzip", b"deflate", b"utf-16"))

    play(world, work)


def test_an_answer_without_content_may_be_called_encoded(world: World) -> None:
    async def work(world: World) -> None:
        await server(world, b"HTTP/1.1 304 Not Modified\r\nContent-Encoding: gzip\r\n\r\n")
        assert status(await ask(world)) == 304

    play(world, work)


def written(value: str) -> list[str]:
    """As programs write it, by other means than the code's."""
    slashed = json.dumps(value)[1:-1].replace("/", r"\/")
    percent = "".join(each if each.isalnum() else f"%{ord(each):02x}" for each in value)
    return [
        value, slashed, quote(value), quote(value, safe=""), html.escape(value), value.encode().hex(), value.upper(),
        *([percent] if all(each.isalnum() or each not in "-._~!*'()" for each in value) else []),
    ]  # fmt: skip


@settings(max_examples=examples(60))
@given(TOKENS, st.binary(max_size=5), st.binary(max_size=5))
def test_a_value_is_not_read_in_another_spelling(value: str, before: bytes, after: bytes) -> None:
    for each in written(value):
        scrub = Scrub(inject.forms(value, Parts("/", [])))
        assert scrub.change(b" " + each.encode() + b" ") + scrub.change(b"") == b" " + b"*" * len(each) + b" "
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + value.encode() + after)
        scrub = Scrub(inject.forms(value, Parts("/", [])))
        left = scrub.change(text) + scrub.change(b"")
        clear = text.rstrip(b"=")
        known = [at for at in range(len(clear)) if len(before) * 8 <= at * 6 <= (len(before) + len(value)) * 8 - 6]
        assert {left[at : at + 1] for at in known} == {b"*"}


def test_gits_password_is_not_read_in_another_spelling() -> None:
    field = b"Basic " + base64.b64encode(f"me:{REAL}".encode())
    for text in (field[6:], REAL.replace("/", r"\/").encode(), base64.b64encode(b"x" + REAL.encode())):
        scrub = Scrub(gitaccess.forms(field))
        assert b"*" * 20 in scrub.change(text) + scrub.change(b"")


def test_another_credential_of_the_host_is_looked_for_too(world: World) -> None:
    """A server may keep what it got and repeat it to the next request."""

    async def work(world: World) -> None:
        await server(world, b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\nKEY")
        world.credential("second", hosts=["api.test"], bearer=True, env="SECOND")
        assert world.state is not None
        world.state.values.source = Local({"KEY": REAL, "SECOND": "another-value"}).value
        assert (await ask(world)).endswith(b"\r\n\r\n" + b"*" * 24)
        other = await (await world.client()).ask(b"GET /@second/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert other.endswith(b"\r\n\r\n" + b"*" * 24)

    play(world, work)
