"""The proxy: a Unix socket on the host that a guest's connections come out of, HTTP or SOCKS 5.

Everything that arrives is a hostile guest's. It is limited in number, rate, size and time; what it asks for is judged
in `state` and `tunnel`; what is answered and counted is in the log of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from git_sandbox.egress import socks
from git_sandbox.egress.dial import Dialer, Resolver, resolve
from git_sandbox.egress.exchange import Exchange
from git_sandbox.egress.flow import Flow, Times
from git_sandbox.egress.gitaccess import GitCredentials
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.refusal import Refused, response
from git_sandbox.egress.request_log import RequestLog
from git_sandbox.egress.service import Upstream
from git_sandbox.egress.sources import Local, Source
from git_sandbox.egress.state import PolicyFile, State
from git_sandbox.egress.tunnel import tunnel
from git_sandbox.egress.values import Values

OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
KEEP: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}  # its path is the supervisor's
EVERY = 0.5  # seconds between looks at the policy, and between two writings of the log of requests


def state(
    policy: Callable[[], Egress] | Path,
    request_log: RequestLog,
    *,
    upstream: Upstream | None = None,
    source: Source | None = None,
    times: Times | None = None,
    resolver: Resolver = resolve,
) -> State:
    """What a proxy goes by. `source`: of secrets. Raises OSError (ssl.SSLError) for authorities that cannot be read."""
    upstream, times = upstream or Upstream(), times or Times()
    context = ssl.create_default_context(cafile=upstream.authorities or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    read, source = PolicyFile(policy) if isinstance(policy, Path) else policy, source or Local({})
    values, git = Values(source.value), GitCredentials(source.git)
    return State(read, request_log, Dialer(upstream, times, context, resolver), values, git, times)


class Proxy:
    def __init__(self, state: State) -> None:
        self.state = state
        self.tasks: set[asyncio.Task[None]] = set()  # one for each connection
        self.turn = 0.0  # when the next connection may begin, by the loop's clock

    async def serve(self, listening: socket.socket) -> None:
        """Until it is cancelled; the log of requests is written then, too."""
        server = await asyncio.start_unix_server(self.connection, sock=listening, **KEEP)
        try:
            while True:
                await asyncio.sleep(EVERY)
                self.state.recheck()
                self.state.requests.save()
        finally:
            server.close()
            await self.end()
            self.state.requests.save()

    async def end(self) -> None:
        """End every connection."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a guest's, from its first byte to its end."""
        client, task = Flow(reader, writer), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine is part of one
        self.tasks.add(task)
        try:
            await self._admitted(client)
        except (OSError, Refused, asyncio.CancelledError):  # it is over, whatever it was
            pass
        finally:
            self.tasks.discard(task)
            self.state.live.pop(task, None)
            with contextlib.suppress(asyncio.CancelledError):
                await client.close()

    async def _admitted(self, client: Flow) -> None:
        limits = self.state.egress().policy.limits
        if len(self.tasks) > limits.connections:
            refused = Refused(429, f"the limit is {limits.connections} connections at a time")
            self.state.refused(None, refused)
            await client.write(response(refused))
            return
        await self._wait(limits.rate)
        async with asyncio.timeout(self.state.times.head):
            if not await client.more():
                return
        if client.buffer[0] == socks.VERSION:
            await self._socks(client)
        else:
            await Exchange(self.state, client, connect=self._connect).run()

    async def _wait(self, rate: int) -> None:
        """No more than `rate` connections a second begin; a second's worth may begin at once."""
        now = asyncio.get_running_loop().time()
        self.turn = max(self.turn + 1 / rate, now - 1)
        if self.turn > now:
            await asyncio.sleep(self.turn - now)

    async def _connect(self, client: Flow, host: str, port: int) -> None:
        await tunnel(self.state, client, host, port, OPENED)

    async def _socks(self, client: Flow) -> None:
        place = None
        try:
            async with asyncio.timeout(self.state.times.head):
                place = await socks.request(client)
            await tunnel(self.state, client, *place, socks.answer(socks.DONE))
        except Refused as refused:
            self.state.refused(place, refused)
            if place is not None:
                with contextlib.suppress(OSError):
                    await client.write(socks.answer(socks.code(refused)))
