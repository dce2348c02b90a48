"""The start of a TLS connection that is passed on unopened: its server name is checked, also after a retry request.

A server may ask for a second ClientHello (HelloRetryRequest), and some go by the name in that one. So nothing of a
client's passes after the first until the server has said which it is.
"""

from __future__ import annotations

from git_sandbox.egress import hello, names
from git_sandbox.egress.flow import Flow
from git_sandbox.egress.hello import NotReadable
from git_sandbox.egress.refusal import Refused

CHANGE_CIPHER_SPEC, APPLICATION_DATA = 20, 23
MOST_BETWEEN = 64  # records between the two: early data


async def first(client: Flow, host: str) -> bool:
    """Whether the client speaks TLS, to that name. Raises Refused where it is to another one."""
    return client.buffer[:1] == bytes([hello.FIRST]) and await _judged(client, host) > 0


async def _judged(client: Flow, host: str) -> int:
    """How many bytes the ClientHello at the beginning has, when its name is right. Raises Refused."""
    try:
        while (content := hello.message(client.buffer)) is None:
            if not await client.more():
                raise ConnectionResetError
        name = hello.server_name(content[0])
    except NotReadable as error:
        raise Refused(403, f"TLS to {host} is refused: {error}") from None
    if name != (host if names.address(host) is None else ""):
        raise Refused(403, f"TLS to {host} has the server name {name or '(none)'}")
    return content[1]


async def second(client: Flow, server: Flow, host: str) -> None:
    """Pass on the first ClientHello, and judge another one if the server wants it. Raises Refused, OSError."""
    await _pass(client, server, await _judged(client, host))
    if not await _retried(server):
        return
    await client.write(bytes(server.buffer))
    server.buffer.clear()
    for _ in range(MOST_BETWEEN):
        size = await _record(client)
        if client.buffer[0] == hello.FIRST:
            await _pass(client, server, await _judged(client, host))
            return
        if client.buffer[0] not in (CHANGE_CIPHER_SPEC, APPLICATION_DATA):
            return  # an alert: that is the end
        await _pass(client, server, size)
    raise Refused(403, f"TLS to {host} has no second ClientHello")


async def _pass(client: Flow, server: Flow, size: int) -> None:
    data = bytes(client.buffer[:size])
    del client.buffer[:size]
    await server.write(data)


async def _record(client: Flow) -> int:
    """Wait for a whole record; its bytes."""
    while len(client.buffer) < 5 or len(client.buffer) < 5 + int.from_bytes(client.buffer[3:5], "big"):  # noqa: PLR2004
        if not await client.more():
            raise ConnectionResetError
    return 5 + int.from_bytes(client.buffer[3:5], "big")


async def _retried(server: Flow) -> bool:
    """Whether the server wants a second ClientHello; what it says stays to be passed on."""
    try:
        while (content := hello.message(server.buffer, hello.SERVER_HELLO)) is None:
            if not await server.more():
                return False
    except NotReadable:  # an alert, or what is no TLS: no handshake goes on
        return False
    return hello.retries(content[0])
