"""SOCKS 5 (RFC 1928), as far as a proxy for TCP needs it: no authentication, one command."""

from __future__ import annotations

import ipaddress

from git_sandbox.egress import names
from git_sandbox.egress.flow import Flow
from git_sandbox.egress.refusal import Refused

VERSION = 5
CONNECT = 1
V4, NAME, V6 = 1, 3, 4
DONE, NOT_ALLOWED, UNREACHABLE, NO_COMMAND = 0, 2, 4, 7
_SIZES = {V4: 4, V6: 16}


async def _take(flow: Flow, count: int) -> bytes:
    while len(flow.buffer) < count:
        if not await flow.more():
            raise Refused(400, "the request is truncated")
    data = bytes(flow.buffer[:count])
    del flow.buffer[:count]
    return data


async def request(flow: Flow) -> tuple[str, int]:
    """Where a client wants to go. Raises Refused."""
    _, count = await _take(flow, 2)
    if 0 not in await _take(flow, count):
        await flow.write(bytes([VERSION, 255]))
        raise Refused(400, "the SOCKS client requires authentication")
    await flow.write(bytes([VERSION, 0]))
    version, command, zero, kind = await _take(flow, 4)
    if version != VERSION or command != CONNECT or zero != 0:
        await flow.write(answer(NO_COMMAND))
        raise Refused(400, "the SOCKS request is not CONNECT")
    text = await _host(flow, kind)
    port = int.from_bytes(await _take(flow, 2), "big")
    try:
        return names.host(text), names.port(str(port))
    except ValueError as error:
        await flow.write(answer(NOT_ALLOWED))
        raise Refused(400, f"the SOCKS request names no host: {error}") from None


async def _host(flow: Flow, kind: int) -> str:
    if kind in _SIZES:
        return str(ipaddress.ip_address(await _take(flow, _SIZES[kind])))
    if kind != NAME:
        raise Refused(400, "the SOCKS request has an address of an unknown type")
    return (await _take(flow, (await _take(flow, 1))[0])).decode("latin-1")


def answer(code: int) -> bytes:
    return bytes([VERSION, code, 0, V4]) + bytes(6)


def code(refused: Refused) -> int:
    return NOT_ALLOWED if refused.status in (400, 403, 429) else UNREACHABLE
