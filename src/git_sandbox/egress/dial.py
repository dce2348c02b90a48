"""Outgoing connections: a name is resolved once, here, and its address connected to, or the host's own proxy.

What a name leads to is judged before anything is sent: see `rules.Policy.decide_address`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from git_sandbox.egress import head, names
from git_sandbox.egress.flow import Flow, Times
from git_sandbox.egress.names import Address
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.refusal import Refused
from git_sandbox.egress.service import Upstream
from git_sandbox.later import dataclass

MOST_ADDRESSES = 8  # of one name
RESOLVE = 20.0  # seconds
Resolver = Callable[[str], Awaitable[Sequence[Address]]]


async def resolve(name: str) -> list[Address]:
    """The host's own resolver. Raises OSError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(RESOLVE):
        rows = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(str(row[4][0]).partition("%")[0]) for row in rows][:MOST_ADDRESSES]


@dataclass(frozen=True)
class Dialer:
    """`context`: what servers are verified by."""

    upstream: Upstream
    times: Times
    context: ssl.SSLContext
    resolver: Resolver = resolve

    def proxy_for(self, host: str, secure: bool) -> SplitResult | None:
        """The host's own proxy for that place; `secure`: for whatever is not plain HTTP. Raises Refused."""
        url = self.upstream.https if secure else self.upstream.http
        if not url or _excepted(host, self.upstream.no_proxy):
            return None
        try:
            return urlsplit(url if "://" in url else f"http://{url}")
        except ValueError:
            raise Refused(502, "the host's proxy is not set as a URL") from None

    async def open(self, egress: Egress, host: str, port: int, *, plain: bool = False) -> Flow:
        """A connection to that place. `plain`: for requests that the host's own proxy may see. Raises Refused."""
        route = egress.route(host, port)
        if route != (host, port):
            return await self._first([await self._address_of(route[0])], route[1], names.joined(host, port))
        proxy = self.proxy_for(host, secure=not plain)
        addresses = await self._addresses(egress, host, port, required=proxy is None)
        if proxy is not None:
            return await self._through(proxy, host, port, plain=plain)
        flow = await self._first(addresses, port, names.joined(host, port))
        flow.peer = names.address(flow.writer.get_extra_info("peername")[0])
        return flow

    async def _address_of(self, host: str) -> Address:
        """Of a route, which the user says himself."""
        return names.address(host) or (await self._resolved(host))[0]

    async def _addresses(self, egress: Egress, host: str, port: int, *, required: bool) -> list[Address]:
        """Those of the name that may be used. `required`: whether it has to have any that this host knows."""
        literal = names.address(host)
        try:
            addresses = [literal] if literal is not None else await self._resolved(host)
        except Refused:
            if required:
                raise
            if egress.policy.denies_addresses(port):
                message = f"the name {host} cannot be resolved here, so `deny:` rules for addresses cannot be checked"
                raise Refused(403, message) from None
            return []
        decisions = [(known, egress.policy.decide_address(host, known, port)) for known in addresses]
        allowed = [names.plain(address) for address, decision in decisions if decision.allowed]
        refused = next((decision for _, decision in decisions if not decision.allowed), None)
        if refused and not (allowed and required):  # the host's own proxy could take any of them
            raise Refused(403, refused.message, refused.hint)
        return allowed

    async def _resolved(self, host: str) -> list[Address]:
        try:
            addresses = list(await self.resolver(host))
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise Refused(502, f"cannot resolve {host}")
        return addresses[:MOST_ADDRESSES]

    async def _first(self, addresses: Sequence[Address], port: int, what: str) -> Flow:
        for address in addresses:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(self.times.connect):
                    return Flow(*await asyncio.open_connection(str(address), port))
        raise Refused(502, f"cannot connect to {what}")

    async def _through(self, proxy: SplitResult, host: str, port: int, *, plain: bool) -> Flow:
        """The host's own proxy: whether it lets us is its matter, and its password is not said."""
        if proxy.scheme not in ("http", "https"):
            raise Refused(502, f"the host's proxy is not an HTTP proxy ({proxy.scheme})")
        refused = Refused(502, f"the host's proxy does not connect to {names.joined(host, port)}")
        try:
            async with asyncio.timeout(self.times.connect):
                flow = await self._proxy(proxy)
            if not plain:
                async with asyncio.timeout(self.times.connect):
                    await _connect(flow, proxy, host, port, refused)
        except (OSError, ValueError):
            raise refused from None
        flow.via = proxy if plain else None
        return flow

    async def _proxy(self, proxy: SplitResult) -> Flow:
        secure = proxy.scheme == "https"
        options: dict[str, Any] = {"ssl": self.context, "server_hostname": proxy.hostname} if secure else {}
        port = proxy.port or (443 if secure else 80)
        return Flow(*await asyncio.open_connection(proxy.hostname, port, **options))

    async def secure(self, flow: Flow, host: str) -> Flow:
        """TLS to a server whose certificate is verified for that name. Raises Refused."""
        try:
            return await flow.secure(self.context, host, self.times.connect)
        except ssl.SSLCertVerificationError:
            raise Refused(502, f"this host does not trust the certificate of {host}") from None
        except OSError:
            raise Refused(502, f"cannot speak TLS to {host}") from None


async def _connect(flow: Flow, proxy: SplitResult, host: str, port: int, refused: Refused) -> None:
    where = names.joined(host, port)
    fields = [(b"Host", where.encode()), *authorization(proxy)]
    await flow.write(head.encode(f"CONNECT {where} HTTP/1.1", fields))
    answer = head.response(await flow.until(head.END, head.MOST_HEAD))
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - what succeeds
        await flow.close()
        raise refused


def authorization(proxy: SplitResult) -> list[tuple[bytes, bytes]]:
    """The field with the proxy's user and password, if its URL has them."""
    if proxy.username is None:
        return []
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(pair.encode()))]


def _excepted(host: str, no_proxy: Sequence[str]) -> bool:
    """Whether `no_proxy` names the host: as curl reads it, a name stands for itself and what is below it."""
    literal = names.address(host)
    for entry in no_proxy:
        text = entry.strip().lower().split(":")[0] if entry.count(":") == 1 else entry.strip().lower()
        if text == "*" or (text and literal is None and f".{host}".endswith(f".{text.lstrip('.')}")):
            return True
        if literal is not None and _within(literal, text):
            return True
    return False


def _within(literal: Address, text: str) -> bool:
    with contextlib.suppress(ValueError):
        return literal in ipaddress.ip_network(text.strip("[]"))
    return False
