"""A connection to a name and port (CONNECT, SOCKS 5): its first bytes show the protocol, which must fit the request.

Port 80 is HTTP, whose Host fields are held to the name. Port 443 is TLS, whose server name has to be the name; it is
opened only where a rule or a credential needs that. Another port was named by a rule: TLS and HTTP there are held to
the name, too, and everything else (ssh, where the server speaks first) passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re

from git_sandbox.egress import handshake, names
from git_sandbox.egress.exchange import Exchange, Fixed
from git_sandbox.egress.flow import Flow, relay
from git_sandbox.egress.refusal import Refused
from git_sandbox.egress.state import State

HTTP, HTTPS = 80, 443
ALERT = b"\x15\x03\x03\x00\x02\x02\x31"  # TLS: fatal, access_denied
MOST_LINE = 8192  # bytes of a first line
_HTTP = re.compile(rb"HTTP/", re.IGNORECASE)
_WORDS = re.compile(rb"\s*[A-Za-z]")


async def tunnel(state: State, client: Flow, host: str, port: int, opened: bytes) -> None:
    """`opened`: what tells the client that it may go on. Raises Refused before that, and what a connection can."""
    state.decide(host, port)
    state.register(host, port)
    if port != HTTP and state.egress().inspects(host, port):
        await _inspected(state, client, Fixed(host, port, secure=True), opened)
    elif port == HTTP:
        await client.write(opened)
        await Exchange(state, client, Fixed(host, port, secure=False)).run()
    else:
        await _passed(state, client, host, port, opened)


async def _inspected(state: State, client: Flow, fixed: Fixed, opened: bytes) -> None:
    context = state.authority(names.joined(fixed.host, fixed.port)).context(fixed.host)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]  # what comes next is TLS
    if client.buffer:
        raise Refused(400, "the client sends data before the response to CONNECT")
    client.writer.write(opened)
    secured = await client.secure(context, None, state.times.head, server=True)
    try:
        await Exchange(state, secured, fixed).run()
    finally:
        await secured.close()


async def _passed(state: State, client: Flow, host: str, port: int, opened: bytes) -> None:
    """Connected before the client hears of it: then the reason why not can be said."""
    server = await state.open(host, port)
    state.requests.allow(host, port)
    try:
        await client.write(opened)
        if not await _judge(state, client, server, host, port):
            await relay(client, server, state.times.quiet)
            return
        await server.close()
        await Exchange(state, client, Fixed(host, port, secure=False)).run()
    except Refused as refused:  # the client has heard that it is open
        state.refused((host, port), refused)
        with contextlib.suppress(OSError):
            await client.write(ALERT if client.buffer[:1] == b"\x16" else b"")
    finally:
        await server.close()


async def _judge(state: State, client: Flow, server: Flow, host: str, port: int) -> bool:
    """Look at what the client says first, or let the server begin; whether it is plain HTTP. Raises Refused."""
    if port != HTTPS and not client.buffer and await _server_begins(client, server, state.times.quiet):
        return False
    try:
        async with asyncio.timeout(state.times.head):
            if not client.buffer and not await client.more():
                raise ConnectionResetError
            if await handshake.first(client, host):
                await handshake.second(client, server, host)
                return False
            if port == HTTPS:
                raise Refused(403, f"the data for {names.joined(host, port)} is not TLS")
            return await _http(client, host, port)
    except TimeoutError:
        raise Refused(408, f"no data for {names.joined(host, port)} arrived") from None


async def _server_begins(client: Flow, server: Flow, quiet: float) -> bool:
    """Wait until either side says something; whether it is the server, alone."""
    if server.buffer:
        return True
    sides = [asyncio.ensure_future(flow.more()) for flow in (client, server)]
    try:
        await asyncio.wait(sides, timeout=quiet, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for side in sides:
            side.cancel()
        await asyncio.gather(*sides, return_exceptions=True)
    return not client.buffer and bool(server.buffer)


async def _http(client: Flow, host: str, port: int) -> bool:
    """Whether it is HTTP: words, with `HTTP/` in the first line. A first line that does not end is refused."""
    if not client.buffer or not _WORDS.match(client.buffer):
        return False
    while b"\n" not in client.buffer.lstrip()[:MOST_LINE]:
        if len(client.buffer) > MOST_LINE or not await client.more():
            raise Refused(403, f"the data for {names.joined(host, port)} starts with an incomplete line")
    return _HTTP.search(client.buffer.lstrip().split(b"\n")[0]) is not None
