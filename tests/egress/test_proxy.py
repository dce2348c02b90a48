"""The proxy over real sockets: what passes, and what a hostile guest tries."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.egress import hello, socks
from git_sandbox.egress.flow import Times
from git_sandbox.egress.refusal import Refused
from git_sandbox.egress.request_log import UNREADABLE
from git_sandbox.egress.rules import Limits
from git_sandbox.egress.service import Upstream
from support.egress import Client, World, client_hello, one_request, play, status, until
from support.examples import examples

GET = b"GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n"


def test_requests_to_an_allowed_name_pass_one_after_the_other(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.web()
        world.allow("a.test")
        world.route("a.test:80", server)
        await world.start()
        client = await world.client()
        for number in range(2):
            body = b"x" * number * 100_000
            length = b"Content-Length: %d\r\n" % len(body) if body else b""
            fields = b"X-N: %d\r\nConnection: x-n, keep-alive\r\n" % number + length
            await client.say(GET[:-2] + fields + b"\r\n" + body)
            code, seen = await client.answer()
            assert code == 200
            assert seen.startswith(b"GET /x?y HTTP/1.1\r\nHost: a.test\r\n")
            assert b"x-n" not in seen
            assert seen.endswith(b"\r\n\r\n" + body)
        assert world.state is not None
        row = world.state.requests.rows["a.test", 80]
        assert (row.allowed, row.refused) == (2, 0)
        assert row.sent > 100_000 < row.received

    play(world, work)


def test_a_refusal_names_the_rule_and_nothing_goes_out(world: World) -> None:
    async def work(world: World) -> None:
        world.allow("a.test")
        await world.start()
        answer = await (await world.client()).ask(GET.replace(b"a.test", b"b.test"))
        assert status(answer) == 403
        assert b"b.test:80 is not allowed\non the host: sandbox net vm-1 --allow b.test\n" in answer
        assert await (await world.client()).tunnel("b.test:443") == 403
        assert world.found == []
        assert world.state is not None
        rows = world.state.requests.rows
        assert rows["b.test", 443].hint == "sandbox net vm-1 --allow b.test"
        assert rows["b.test", 80].refused == rows["b.test", 443].refused == 1

    play(world, work)


BODY = b"POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"
HOSTILE = {
    "two hosts": GET[:-2] + b"Host: b.test\r\n\r\n",
    "another host": GET.replace(b"Host: a.test", b"Host: b.test"),
    "another port": GET.replace(b"Host: a.test", b"Host: a.test:81"),
    "no host": GET.replace(b"Host: a.test\r\n", b""),
    "userinfo": GET.replace(b"//a.test/", b"//a.test@b.test/"),
    "userinfo allowed": GET.replace(b"//a.test/", b"//b.test@a.test/"),
    "backslash": GET.replace(b"//a.test/", b"//a.test\\@b.test/"),
    "fragment": GET.replace(b"//a.test/", b"//b.test#a.test/"),
    "https": GET.replace(b"http:", b"https:"),
    "file": GET.replace(b"http://a.test/", b"file:///etc/"),
    "decimal address": GET.replace(b"a.test", b"2130706433"),
    "octal address": GET.replace(b"a.test", b"0177.0.0.1"),
    "mapped address": GET.replace(b"a.test", b"[::ffff:127.0.0.1]"),
    "unspecified": GET.replace(b"a.test", b"0.0.0.0"),
    "address": GET.replace(b"a.test", b"10.0.0.1"),
    "this proxy": GET.replace(b"a.test", b"127.0.0.1:3128"),
    "this proxy's host": GET.replace(b"a.test", b"localhost:3128"),
    "loopback of IPv6": GET.replace(b"a.test", b"[::1]"),
    "mapped in hexadecimal": GET.replace(b"a.test", b"[::ffff:7f00:1]"),
    "compatible address": GET.replace(b"a.test", b"[::127.0.0.1]"),
    "translated address": GET.replace(b"a.test", b"[64:ff9b::7f00:1]"),
    "tunnelled address": GET.replace(b"a.test", b"[2002:7f00:1::1]"),
    "zone": GET.replace(b"a.test", b"[fe80::1%25lo]"),
    "brackets around a name": GET.replace(b"a.test", b"[a.test]"),
    "open bracket": GET.replace(b"a.test", b"[::1"),
    "port of another host": GET.replace(b"//a.test/", b"//a.test:80@b.test/"),
    "two ports": GET.replace(b"//a.test/", b"//a.test:80:81/"),
    "port with zeros": GET.replace(b"//a.test/", b"//a.test:00080/"),
    "port that wraps": GET.replace(b"//a.test/", b"//a.test:65616/"),
    "no port after the colon": GET.replace(b"//a.test/", b"//a.test:/"),
    "three slashes": GET.replace(b"//a.test/", b"///a.test/"),
    "without a scheme": GET.replace(b"http://a.test/", b"//a.test/"),
    "user for a path": GET.replace(b"http://a.test/", b"@b.test/"),
    "no name": GET.replace(b"//a.test/", b"//.a.test/"),
    "two dots at the end": GET.replace(b"//a.test/", b"//a.test../"),
    "base URL of nobody": GET.replace(b"http://a.test/", b"/@none@b.test/"),
    "list of hosts": GET.replace(b"Host: a.test", b"Host: a.test, b.test"),
    "two hosts in one": GET.replace(b"Host: a.test", b"Host: a.test b.test"),
    "host with a user": GET.replace(b"Host: a.test", b"Host: b.test@a.test"),
    "host with a path": GET.replace(b"Host: a.test", b"Host: a.test/b.test"),
    "empty host": GET.replace(b"Host: a.test", b"Host:"),
    "host in a second line": GET.replace(b"Host: a.test", b"Host:\r\n a.test"),
    "percent": GET.replace(b"//a.test/", b"//a%2etest/"),
    "both lengths": BODY + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": BODY + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "list of lengths": BODY + b"Content-Length: 4, 4\r\n\r\nabcd",
    "signed length": BODY + b"Content-Length: +4\r\n\r\nabcd",
    "other coding": BODY + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": BODY + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding twice": BODY + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "coding in a list of itself": BODY + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "empty coding": BODY + b"Transfer-Encoding:\r\nContent-Length: 4\r\n\r\nabcd",
    "length in hexadecimal": BODY + b"Content-Length: 0x4\r\n\r\nabcd",
    "length in other digits": BODY + "Content-Length: ٤\r\n\r\nabcd".encode(),
    "length without end": BODY + b"Content-Length: 99999999999999999999\r\n\r\nabcd",
    "zero in a name": BODY + b"Content-Length\0: 4\r\n\r\nabcd",
    "no name of a field": BODY + b": 4\r\n\r\nabcd",
    "vertical tab": BODY + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": BODY + b"Content-Length : 4\r\n\r\nabcd",
    "folded": BODY + b"X: a\r\n Content-Length: 4\r\n\r\nabcd",
    "bare line feed": GET.replace(b"\r\n", b"\n"),
    "one bare line feed": GET[:-2] + b"X: a\nHost: b.test\r\n\r\n",
    "bare carriage return": GET[:-2] + b"X: a\rHost: b.test\r\n\r\n",
    "zero byte": GET[:-2] + b"X: a\0b\r\n\r\n",
    "coding in 1.0": BODY.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "version 2": GET.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET http://a.test/\r\n\r\n",
    "lower case": GET.replace(b"GET", b"get"),
    "blank first": b"\r\n" + GET,
    "tabs": GET.replace(b" ", b"\t"),
    "page": b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "many fields": GET[:-2] + b"X: y\r\n" * 200 + b"\r\n",
    "long field": GET[:-2] + b"X: " + b"y" * (70 << 10) + b"\r\n\r\n",
    "endless": b"G" * (70 << 10),
    "tunnel without a port": b"CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "tunnel with another host": b"CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n",
    "tunnel with a body": b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 4\r\n\r\nabcd",
    "tunnel to userinfo": b"CONNECT x@a.test:443 HTTP/1.1\r\n\r\n",
    "tunnel to a path": b"CONNECT a.test:443/x HTTP/1.1\r\n\r\n",
    "binary": bytes(range(256)),
}


def test_what_two_programs_could_read_differently_is_refused(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.web()
        world.allow("a.test")
        world.route("a.test:80", server)
        await world.start()
        for name, request in HOSTILE.items():
            answer = await (await world.client()).ask(request)
            assert status(answer) in (400, 403, 431), (name, answer)
            assert server.seen == [], name
            assert server.connections == 0
        assert status(await (await world.client()).ask(GET[:-2] + b"Connection: close\r\n\r\n")) == 200

    play(world, work)


@pytest.mark.parametrize(
    "body",
    [
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"-1\r\n\r\n",
        b"0x5\r\nhello\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"\r\n",
        b"fffffffffff\r\n",
        b"5\nhello\n0\n\n",
        b"5;x\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5;" + b"x" * 2000 + b"\r\nhello\r\n0\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 200 + b"\r\n",
    ],
)
def test_pieces_of_a_body_are_written_anew_or_refused(world: World, body: bytes) -> None:
    async def work(world: World) -> None:
        server = await world.web()
        world.allow("a.test")
        world.route("a.test:80", server)
        await world.start()
        client = await world.client()
        answer = await client.ask(BODY + b"Transfer-Encoding: chunked\r\n\r\n" + body + GET)
        assert status(answer) in (400, 431)
        assert server.seen == []

    play(world, work)


def test_a_second_request_in_a_body_stays_a_body(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.web(b"ok")
        world.allow("a.test")
        world.route("a.test:80", server)
        await world.start()
        client = await world.client()
        inner = b"GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n"
        pieces = b"%x;a=b\r\n%s\r\n0\r\nX: y\r\n\r\n" % (len(inner), inner)
        await client.say(BODY + b"Transfer-Encoding: chunked\r\n\r\n" + pieces)
        assert await client.answer() == (200, b"ok")
        assert await client.ask(inner) != b""
        assert len(server.seen) == 1
        assert server.seen[0].endswith(inner)
        assert b"\nX: y" not in server.seen[0]

    play(world, work)


def test_tls_goes_to_the_name_that_was_asked_for(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.web(b"hello", tls=True)
        world.allow("a.test")
        world.route("a.test:443", server)
        await world.start()
        client = await world.client()
        assert await client.tunnel("a.test:443") == 200
        secured = await client.tls("a.test", str(world.certificate))
        await secured.say(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert await secured.answer() == (200, b"hello")
        for name in ("b.test", "127.0.0.1"):
            client = await world.client()
            assert await client.tunnel("a.test:443") == 200
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await client.tls(name, verify=False)
        client = await world.client()
        assert await client.tunnel("a.test:443") == 200
        assert await client.ask(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n") == b""
        assert world.state is not None
        row = world.state.requests.rows["a.test", 443]
        assert (row.allowed, row.refused, row.message) == (4, 3, "the data for a.test:443 is not TLS")
        assert len(server.seen) == 1

    play(world, work)


def test_a_second_hello_is_held_to_the_name_too(world: World) -> None:
    """A server that wants another ClientHello (HelloRetryRequest) may go by the name in that one."""

    async def work(world: World) -> None:
        seen: list[bytes] = []
        retry = b"\x02\x00\x00\x26\x03\x03" + hello.RETRY + b"\x00\x13\x01\x00"
        record = b"\x16\x03\x03" + len(retry).to_bytes(2, "big") + retry

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await reader.read(65536))
            writer.write(record)
            seen.append(await reader.read(65536))
            writer.write(b"done")

        world.allow("a.test")
        world.route("a.test:443", await world.serve(handler))
        await world.start()
        early = b"\x17\x03\x03\x00\x02xx" + b"\x14\x03\x03\x00\x01\x01"
        for name, passes in (("a.test", True), ("b.test", False)):
            seen.clear()
            client = await world.client()
            assert await client.tunnel("a.test:443") == 200
            first, again = client_hello("a.test"), client_hello(name)
            await client.say(first + early + again)  # at once, before the server has asked
            answer = await client.all()
            assert answer.startswith(record)
            assert answer.endswith(b"done") == passes
            assert (b"".join(seen) == first + early + again) == passes
            assert b"b.test" not in b"".join(seen)

    play(world, work)


def test_a_named_port_passes_ssh_and_holds_tls_and_http_to_the_name(world: World) -> None:
    async def work(world: World) -> None:
        async def ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-server\r\n")
            writer.write(await reader.readline())

        async def ssh_waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-server\r\n" + await reader.readline())

        first, later, web = await world.serve(ssh), await world.serve(ssh_waits), await world.web(b"ok")
        world.allow("a.test:22", "a.test:2222", "a.test:8080")
        for port, server in ((22, first), (2222, later), (8080, web)):
            world.route(f"a.test:{port}", server)
        await world.start()
        for port in (22, 2222):
            client = await world.client()
            assert await client.tunnel(f"a.test:{port}") == 200
            if port == 22:
                assert await client.reader.readline() == b"SSH-2.0-server\r\n"
            assert (await client.ask(b"SSH-2.0-client\r\n")).endswith(b"SSH-2.0-client\r\n")
        client = await world.client()
        assert await client.tunnel("a.test:8080") == 200
        await client.say(b"GET / HTTP/1.1\r\nHost: a.test:8080\r\n\r\n")
        assert await client.answer() == (200, b"ok")
        assert status(await client.ask(b"GET / HTTP/1.1\r\nHost: b.test:8080\r\n\r\n")) == 403
        for blank in (b"\r\n", b" "):
            client = await world.client()
            await client.tunnel("a.test:8080")
            assert status(await client.ask(blank + b"GET / HTTP/1.1\r\nHost: b.test:8080\r\n\r\n")) == 400
        client = await world.client()
        await client.tunnel("a.test:8080")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await client.tls("b.test", verify=False)
        assert await (await world.client()).tunnel("a.test:23") == 403
        assert await (await world.client()).tunnel("b.test:22") == 403
        assert len(web.seen) == 1

    play(world, work)


def test_a_tunnel_to_port_80_is_held_to_its_name(world: World) -> None:
    async def work(world: World) -> None:
        web = await world.web(b"ok")
        world.allow("a.test", "b.test")
        world.route("a.test:80", web)
        await world.start()
        for line, host, code in (("/", "a.test", 200), ("/", "b.test", 403), ("http://b.test/", "b.test", 403)):
            client = await world.client()
            assert await client.tunnel("a.test:80") == 200
            await client.say(f"GET {line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            assert status(await client.all()) == code
        client = await world.client()
        await client.tunnel("a.test:80")
        assert status(await client.ask(b"CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n")) == 400
        assert len(web.seen) == 1

    play(world, work)


async def over_socks(world: World, host: bytes, port: int, command: int = 1) -> tuple[Client, bytes]:
    client = await world.client()
    await client.say(b"\x05\x01\x00")
    assert await client.reader.readexactly(2) == b"\x05\x00"
    await client.say(bytes([5, command, 0]) + host + port.to_bytes(2, "big"))
    return client, await client.reader.read(10)


def test_socks_is_the_same_fence(world: World) -> None:
    def name(text: bytes) -> bytes:
        return bytes([3, len(text)]) + text

    async def work(world: World) -> None:
        web = await world.web(b"ok")
        world.allow("a.test", f"127.0.0.1:{web.port}")
        world.route("a.test:80", web)
        await world.start()
        client, answer = await over_socks(world, name(b"a.test"), 80)
        assert answer[:2] == b"\x05\x00"
        await client.say(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert await client.answer() == (200, b"ok")
        mapped = bytes([4]) + bytes(10) + b"\xff\xff" + bytes([127, 0, 0, 1])
        client, answer = await over_socks(world, mapped, web.port)
        assert answer[:2] == b"\x05\x00"
        refused = [
            (name(b"b.test"), 80, 1), (name(b"a.test"), 22, 1), (bytes([1, 10, 0, 0, 1]), 80, 1), (mapped, 80, 1),
            (name(b"a.test\0.b"), 80, 1), (name(b"127.1"), web.port, 1), (name(b"a.test"), 0, 1),
        ]  # fmt: skip
        for host, port, command in refused:
            assert (await over_socks(world, host, port, command))[1][1] == socks.NOT_ALLOWED, (host, port)
        for command in (2, 3):
            assert (await over_socks(world, name(b"a.test"), 80, command))[1][1] == socks.NO_COMMAND
        client = await world.client()
        assert await client.ask(b"\x05\x01\x02") == b"\x05\xff"

    play(world, work)


def test_a_name_is_resolved_once_and_may_not_lead_inside(world: World) -> None:
    async def work(world: World) -> None:
        web = await world.web(b"ok")
        world.allow(f"a.test:{web.port}", f"b.test:{web.port}", f"127.0.0.1:{web.port}")
        await world.start()
        request = f"GET http://NAME:{web.port}/ HTTP/1.1\r\nHost: NAME:{web.port}\r\nConnection: close\r\n\r\n"
        ask = request.replace("NAME", "a.test").encode()
        assert status(await (await world.client()).ask(ask)) == 200
        assert world.found == ["a.test"]
        for inside in (["10.0.0.1"], ["::1"], ["169.254.169.254"], ["::ffff:10.0.0.1"], ["0.1.2.3"], ["fe80::1"]):
            world.hosts["b.test"] = inside
            answer = await (await world.client()).ask(request.replace("NAME", "b.test").encode())
            assert status(answer) == 403
            assert b"b.test:%d leads to" % web.port in answer
            assert await (await world.client()).tunnel(f"b.test:{web.port}") == 403
        world.hosts["b.test"] = ["10.0.0.1", "127.0.0.1"]  # the one that is allowed is taken
        assert status(await (await world.client()).ask(request.replace("NAME", "b.test").encode())) == 200
        world.allow(f"a.test:{web.port}")
        assert status(await (await world.client()).ask(ask)) == 403
        world.hosts["a.test"] = []
        assert status(await (await world.client()).ask(ask)) == 502

    play(world, work)


def test_limits_of_number_size_and_time(world: World) -> None:
    async def work(world: World) -> None:
        web = await world.web(b"ok")
        world.allow("a.test", limits=Limits(connections=3, sent=400))
        world.route("a.test:80", web)
        made = await world.start()
        slow = [await world.client() for _ in range(3)]
        await until(lambda: len(made.tasks) == 3)
        assert status(await (await world.client()).ask(GET)) in (0, 429)
        assert world.state is not None
        assert world.state.requests.rows[UNREADABLE, 0].message == "the limit is 3 connections at a time"
        for client in slow:
            client.writer.close()
        await until(lambda: not made.tasks)
        assert status(await (await world.client()).ask(GET[:-2] + b"Connection: close\r\n\r\n")) == 200
        answer = await (await world.client()).ask(BODY + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000)
        assert status(answer) == 403
        assert b"may send at most 400 bytes" in answer
        assert len(web.seen) == 1
        await world.start(times=Times(head=0.05, idle=0.05))
        assert status(await (await world.client()).ask(b"GET http://a.t")) == 408, "a head that does not end"
        assert await (await world.client()).all() == b"", "nothing at all"

    play(world, work)


def test_very_many_connections_are_refused_and_the_next_one_is_served(world: World) -> None:
    async def work(world: World) -> None:
        web = await world.web(b"ok")
        world.allow("a.test", limits=Limits(connections=20, rate=10_000))
        world.route("a.test:80", web)
        made = await world.start()
        clients = [await world.client() for _ in range(300)]
        answers = [status(await client.all()) for client in clients[20:]]
        assert {*answers} <= {0, 429}
        assert len(made.tasks) == 20
        assert world.state is not None
        assert {key: row.refused for key, row in world.state.requests.rows.items()} == {(UNREADABLE, 0): 280}
        for client in clients:
            client.writer.close()
        await until(lambda: not made.tasks)
        assert status(await (await world.client()).ask(GET[:-2] + b"Connection: close\r\n\r\n")) == 200

    play(world, work)


BEGUN = {
    "half a ClientHello": b"CONNECT a.test:443 HTTP/1.1\r\n\r\n".replace(b"1.1", b"1.0") + client_hello("a.test")[:99],
    "a record of no length that is there": b"CONNECT a.test:443 HTTP/1.0\r\n\r\n\x16\x03\x01\x40\x00\x01",
    "half a line": b"CONNECT a.test:8080 HTTP/1.0\r\n\r\nGET / HT",
    "half a request in a tunnel": b"CONNECT a.test:80 HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost: a",
    "half of SOCKS": b"\x05\x02\x00",
    "half a name of SOCKS": b"\x05\x01\x00\x05\x01\x00\x03\xffa.test",
    "half a chunk": BODY + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
    "half a size": BODY + b"Transfer-Encoding: chunked\r\n\r\n5",
    "half a body": BODY + b"Content-Length: 4\r\n\r\nab",
}


def test_what_begins_and_does_not_go_on_ends(world: World) -> None:
    async def work(world: World) -> None:
        web, silent = await world.web(b"ok"), await world.serve(echo)
        world.allow("a.test", "a.test:8080")
        for port, server in ((80, web), (443, silent), (8080, silent)):
            world.route(f"a.test:{port}", server)
        made = await world.start(times=Times(head=0.05, body=0.05))
        for text in BEGUN.values():
            client = await world.client()
            await client.say(text)
            await client.all()  # which comes to its end
            await until(lambda: not made.tasks)
        assert web.seen == []

    play(world, work)


def test_the_end_ends_every_connection(world: World) -> None:
    async def work(world: World) -> None:
        world.allow("a.test:7")

        async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        world.route("a.test:7", await world.serve(silent))
        made = await world.start()
        idle, tunnel = await world.client(), await world.client()
        assert await tunnel.tunnel("a.test:7") == 200
        await until(lambda: len(made.tasks) == 2)
        await made.end()
        assert [await idle.all(), await tunnel.all(), made.tasks] == [b"", b"", set()]

    play(world, work)


SAID = st.sampled_from([
    GET, BODY, b"CONNECT a.test:443 HTTP/1.1\r\n\r\n", b"\x05\x01\x00", b"\x05\x01\x00\x03\x06a.test", b"\x01\xbb",
    b"\x16\x03\x01\x00\x05", b"\r\n", b"0\r\n\r\n", b"Content-Length: 3\r\n\r\n", b"\0", b"x" * 70_000,
])  # fmt: skip


@settings(max_examples=examples(25))
@given(st.lists(SAID, max_size=6))
def test_whatever_is_said_the_connection_ends_and_nothing_fails(pem: Path, pieces: list[bytes]) -> None:
    async def work(world: World) -> None:
        world.allow("a.test")
        await world.start()
        client = await world.client()
        with contextlib.suppress(ConnectionError):
            await client.say(b"".join(pieces))
            client.writer.write_eof()
        await client.all()

    with tempfile.TemporaryDirectory() as directory:
        world = World(pem, Path(directory), hosts={"a.test": []})
        play(world, work)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)


async def echoed(world: World, place: str) -> Client:
    """A tunnel to an `echo` that has answered once."""
    client = await world.client()
    assert await client.tunnel(place) == 200
    await client.say(b"\0hello")
    assert await client.reader.readexactly(6) == b"\0hello"
    return client


async def goes_on(client: Client) -> None:
    await client.say(b"!")
    assert await client.reader.readexactly(1) == b"!"


def test_a_policy_that_changes_ends_what_it_no_longer_allows(world: World) -> None:
    async def work(world: World) -> None:
        server = await world.serve(echo)
        world.route("a.test:7", server)
        await world.start()
        assert await (await world.client()).tunnel("a.test:7") == 403
        world.allow("a.test:7")
        client = await echoed(world, "a.test:7")
        assert world.state is not None
        world.state.recheck()
        await goes_on(client)
        world.allow("a.test:7", "deny:a.test")
        world.state.recheck()
        assert await client.all() == b""

    play(world, work)


@pytest.mark.parametrize("denied", ["deny:127.0.0.1", "deny:127.0.0.0/8"])
def test_an_address_that_is_denied_later_ends_what_goes_there(world: World, denied: str) -> None:
    async def work(world: World) -> None:
        server = await world.serve(echo)
        before = (f"a.test:{server.port}", f"127.0.0.1:{server.port}")
        world.allow(*before)
        await world.start()
        assert world.state is not None
        client = await echoed(world, f"a.test:{server.port}")
        world.allow(*before, "deny:10.0.0.1")
        world.state.recheck()
        await goes_on(client)
        world.allow(*before, denied)
        world.state.recheck()
        assert await client.all() == b""

    play(world, work)


def test_a_kept_connection_is_not_used_under_other_rules(world: World) -> None:
    async def work(world: World) -> None:
        web = await world.web(b"ok")
        before = (f"a.test:{web.port}", f"127.0.0.1:{web.port}")
        world.allow(*before)
        await world.start()
        client = await world.client()
        request = f"GET http://a.test:{web.port}/ HTTP/1.1\r\nHost: a.test:{web.port}\r\n\r\n".encode()
        for _ in range(2):
            await client.say(request)
            assert await client.answer() == (200, b"ok")
        assert web.connections == 1
        assert world.state is not None
        assert {str(each.peer) for each in world.state.live.values()} == {"127.0.0.1"}
        world.allow(*before, "deny:10.0.0.1")
        await client.say(request)
        assert await client.answer() == (200, b"ok")
        assert web.connections == 2
        world.allow(*before, "deny:127.0.0.1")
        assert status(await client.ask(request)) == 403
        assert len(web.seen) == 3

    play(world, work)


@pytest.mark.parametrize("size", [2, 100_000])
def test_a_connection_on_which_more_came_than_was_announced_is_not_used_again(world: World, size: int) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await one_request(reader):
            body = b"x" * size + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (size, body))
            await writer.drain()

    async def work(world: World) -> None:
        server = await world.serve(handler)
        world.allow("a.test")
        world.route("a.test:80", server)
        await world.start()
        client = await world.client()
        for _ in range(3):
            await client.say(GET)
            assert await client.answer() == (200, b"x" * size)

    play(world, work)


def test_a_policy_that_changes_while_a_connection_begins_counts(world: World) -> None:
    async def work(world: World) -> None:
        web = await world.web(b"ok")
        before = (f"a.test:{web.port}", f"127.0.0.1:{web.port}")
        world.allow(*before)
        await world.start()
        assert world.state is not None
        first = world.state.dialer._first

        async def slow(*words: Any) -> Any:
            flow = await first(*words)
            world.allow(*before, "deny:127.0.0.1")
            assert world.state is not None
            world.state.recheck()
            return flow

        world.state.dialer.__dict__["_first"] = slow
        assert await (await world.client()).tunnel(f"a.test:{web.port}") == 403

    play(world, work)


def test_behind_the_hosts_own_proxy_a_denied_address_needs_names_that_are_known_here(world: World) -> None:
    async def work(world: World) -> None:
        web = await world.web(b"ok")
        await world.start(upstream=Upstream(f"http://127.0.0.1:{web.port}"))
        world.hosts["a.test"] = []
        for rule, code in (
            ("deny:10.0.0.0/8", 403), ("deny:10.0.0.1:80", 403), ("deny:10.0.0.1:22", 200), ("deny:b.test", 200),
        ):  # fmt: skip
            world.allow("a.test", rule)
            answer = await (await world.client()).ask(GET[:-2] + b"Connection: close\r\n\r\n")
            assert status(answer) == code, rule
            assert (b"a.test cannot be resolved here" in answer) == (code == 403)
        assert len(web.seen) == 2
        world.allow("a.test", "deny:1.1.1.1")
        for known in (["8.8.8.8", "1.1.1.1"], ["8.8.8.8", "10.0.0.1"]):  # the proxy may take either
            world.hosts["a.test"] = known
            assert await (await world.client()).tunnel("a.test:80") == 200
            answer = await (await world.client()).ask(GET[:-2] + b"Connection: close\r\n\r\n")
            assert status(answer) == 403
            assert f"a.test:80 leads to {known[1]}".encode() in answer

    play(world, work)


def test_the_hosts_own_proxy_is_the_way_out(world: World) -> None:
    async def work(world: World) -> None:
        seen: list[bytes] = []

        async def own(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await one_request(reader)
            seen.append(request)
            if request.startswith(b"CONNECT bad"):
                writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            elif request.startswith(b"CONNECT"):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-behind\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
            await reader.read()

        server, direct = await world.serve(own), await world.web(b"direct")
        url = f"http://us%40er:s3cret@127.0.0.1:{server.port}"
        upstream = Upstream(url, url, ("b.test",))
        world.allow("a.test", "a.test:22", "bad.test:22", "b.test")
        world.hosts |= {"a.test": [], "bad.test": [], "b.test": []}  # this host need not know the name
        world.route("b.test:80", direct)
        await world.start(upstream=upstream)
        client = await world.client()
        await client.say(GET)
        assert await client.answer() == (200, b"ok")
        client = await world.client()
        assert await client.tunnel("a.test:22") == 200
        assert await client.reader.readline() == b"SSH-2.0-behind\r\n"
        client = await world.client()
        await client.say(GET.replace(b"a.test", b"b.test"))
        assert await client.answer() == (200, b"direct")
        answer = await (await world.client()).ask(b"CONNECT bad.test:22 HTTP/1.1\r\n\r\n".replace(b"1.1", b"1.0"))
        assert status(answer) == 502
        assert b"s3cret" not in answer
        password = b"Proxy-Authorization: Basic dXNAZXI6czNjcmV0\r\n"
        assert seen[0].startswith(b"GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n")
        assert seen[1].startswith(b"CONNECT a.test:22 HTTP/1.1\r\nHost: a.test:22\r\n")
        assert all(password in each for each in seen)
        assert direct.seen
        assert password not in direct.seen[0]
        other = replace(world.state.dialer, upstream=Upstream("socks5://x:1", "p.test:1")) if world.state else None
        assert other is not None
        assert other.proxy_for("a.test", secure=True) == urlsplit("http://p.test:1")
        with pytest.raises(Refused, match="socks5"):
            await other.open(world.egress, "a.test", 80, plain=True)
        with pytest.raises(Refused, match="not set as a URL"):
            await replace(other, upstream=Upstream("http://[::1", "")).open(world.egress, "a.test", 80, plain=True)
        world.hosts["a.test"] = ["10.0.0.1"]
        assert await (await world.client()).tunnel("a.test:22") == 403, "where it is known, it may not lead inside"

    play(world, work)


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"HTTP/1.1 999 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        b"HTTP/1.1 102 Wait\r\n\r\n" * 20,
    ],
)  # fmt: skip
def test_a_hostile_server_ends_its_own_exchange_only(world: World, answer: bytes) -> None:
    async def work(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await one_request(reader)
            writer.write(answer)
            await writer.drain()

        world.allow("a.test")
        world.route("a.test:80", await world.serve(handler))
        await world.start()
        assert status(await (await world.client()).ask(GET)) == 502
        assert world.state is not None
        assert world.state.requests.rows["a.test", 80].refused == 0

    play(world, work)


def test_answers_of_every_length_and_a_connection_that_was_closed(world: World) -> None:
    answers = {
        b"HTTP/1.1 200 OK\r\n\r\nuntil the end": (200, b"until the end"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nT: u\r\n\r\n": (200, b"abc"),
        b"HTTP/1.1 204 No Content\r\n\r\n": (204, b""),
        b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n": (304, b""),
    }

    async def work(world: World) -> None:
        waiting = list(answers)

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await one_request(reader)
            writer.write(waiting.pop(0))

        world.allow("a.test")
        server = await world.serve(handler)
        world.route("a.test:80", server)
        await world.start()
        client = await world.client()
        for expected in answers.values():
            await client.say(GET)
            assert await client.answer() == expected
        assert server.connections == len(answers)

    play(world, work)


def test_a_client_that_waits_for_100_continue(world: World) -> None:
    async def work(world: World) -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            assert await reader.readexactly(4) == b"body"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        world.allow("a.test")
        world.route("a.test:80", await world.serve(handler))
        await world.start()
        client = await world.client()
        await client.say(BODY + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.say(b"body")
        assert await client.answer() == (200, b"")

    play(world, work)


def test_no_more_connections_begin_in_a_second_than_the_rate_says(world: World) -> None:
    async def work(world: World) -> None:
        world.allow("a.test", limits=Limits(rate=50))
        made = await world.start()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        await asyncio.gather(*(made._wait(50) for _ in range(60)))
        assert loop.time() - begin >= (60 - 50) / 50 - 0.05

    play(world, work)
