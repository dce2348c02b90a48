"""A proxy on a socket, servers on the loopback that stand for the outside, and clients that say any bytes they like.

All of one test is in one event loop: `play(work)` makes a world, runs it, and ends what it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from git_sandbox.egress import proxy, rules
from git_sandbox.egress.credentials import Credential, declared
from git_sandbox.egress.flow import Times
from git_sandbox.egress.names import Address
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.proxy import Proxy
from git_sandbox.egress.request_log import RequestLog
from git_sandbox.egress.rules import Limits, Policy
from git_sandbox.egress.service import Upstream
from git_sandbox.egress.sources import Local
from git_sandbox.egress.state import State

NAMES = ("a.test", "b.test", "api.test", "forge.test")
PATIENCE = 60.0  # seconds for a whole test
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def certificate(directory: Path) -> Path:
    """Key and certificate of all NAMES, which is its own authority."""
    path = directory / "server.pem"
    subject = ",".join(f"DNS:{name}" for name in NAMES)
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-keyout", f"{path}.key", "-out", f"{path}.crt", "-subj", "/CN=test"]
    words += ["-addext", f"subjectAltName={subject}"]
    subprocess.run(words, check=True, capture_output=True)
    path.write_bytes(Path(f"{path}.key").read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@dataclass
class Server:
    """One that stands for the outside. `seen`: what came, whole; `answer`: to each request of HTTP."""

    port: int
    seen: list[bytes] = field(default_factory=list)
    connections: int = 0


@dataclass
class World:
    """`found`: what the resolver was asked. `hosts`: what it says; all names lead to the loopback."""

    certificate: Path
    directory: Path
    egress: Egress = field(default_factory=Egress)
    hosts: dict[str, list[str]] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    started: list[asyncio.Server] = field(default_factory=list)
    opened: list[asyncio.StreamWriter] = field(default_factory=list)
    state: State | None = None

    async def resolver(self, name: str) -> Sequence[Address]:
        self.found.append(name)
        return [ipaddress.ip_address(each) for each in self.hosts.get(name, ["127.0.0.1"])]

    def allow(self, *texts: str, limits: Limits | None = None) -> None:
        policy = Policy("vm-1", rules.parse_all(texts), limits or self.egress.policy.limits)
        self.egress = replace(self.egress, policy=policy)

    def credential(self, name: str, **table: object) -> Credential:
        found = replace(declared(name, {"env": "KEY", **table}), placeholder=f"sk-placeholder-of-{name}")
        self.egress = replace(self.egress, credentials=(*self.egress.credentials, found))
        return found

    async def start(
        self, *, upstream: Upstream | None = None, times: Times | None = None, values: dict[str, str] | None = None
    ) -> Proxy:
        upstream = replace(upstream or Upstream(), authorities=str(self.certificate))
        self.state = proxy.state(
            lambda: self.egress,
            RequestLog(),
            upstream=upstream,
            source=Local(values or {}),
            times=times,
            resolver=self.resolver,
        )
        made = Proxy(self.state)
        (self.directory / "proxy").unlink(missing_ok=True)
        self.started.append(await asyncio.start_unix_server(made.connection, self.directory / "proxy"))
        return made

    async def serve(self, handler: Handler, *, tls: bool = False) -> Server:
        context = None
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
        server = Server(0)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server.connections += 1
            try:
                await handler(reader, writer)
            except (OSError, EOFError, ValueError, asyncio.CancelledError):  # what was said is not whole
                pass
            finally:
                writer.close()

        made = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        self.started.append(made)
        server.port = made.sockets[0].getsockname()[1]
        return server

    async def web(self, answer: bytes = b"", *, tls: bool = False) -> Server:
        """A server that reads requests by Content-Length or chunks and answers each with what it saw, or `answer`."""
        seen: list[bytes] = []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                request = await one_request(reader)
                if not request:
                    return
                seen.append(request)
                body = answer or request
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Server: yes\r\n\r\n%s" % (len(body), body))
                await writer.drain()

        server = await self.serve(handler, tls=tls)
        server.seen = seen
        return server

    async def client(self) -> Client:
        reader, writer = await asyncio.open_unix_connection(self.directory / "proxy")
        self.opened.append(writer)
        return Client(reader, writer, self.opened)

    def route(self, name: str, server: Server) -> None:
        """`name:port` leads to that server."""
        self.egress = replace(self.egress, routes=(*self.egress.routes, (name, f"127.0.0.1:{server.port}")))


async def one_request(reader: asyncio.StreamReader) -> bytes:
    """One whole request by its own words, empty at the end. A reader of its own, that trusts what it is told."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while True:
            size = int(await reader.readline(), 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if size == 0:
                return head + body
    length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length: " in lower else 0
    return head + await reader.readexactly(length)


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    opened: list[asyncio.StreamWriter]

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def all(self) -> bytes:
        """What comes until the other side ends."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def ask(self, data: bytes) -> bytes:
        """Say it, and no more; everything that comes back."""
        await self.say(data)
        return await self.all()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of one answer."""
        text = await one_request(self.reader)
        head, _, body = text.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), body

    async def tunnel(self, place: str) -> int:
        await self.say(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        return int((await self.reader.readuntil(b"\r\n\r\n")).split(b" ")[1])

    async def tls(self, name: str | None, authority: str | None = None, *, verify: bool = True) -> Client:
        """The same connection under TLS. `authority`: PEM, or the path of one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif authority and authority.startswith("-"):
            context.load_verify_locations(cadata=authority)
        else:
            context.load_verify_locations(authority)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await loop.start_tls(self.writer.transport, protocol, context, server_hostname=name)
        assert transport is not None
        protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self.opened.append(writer)
        return Client(reader, writer, self.opened)


def play(world: World, work: Callable[[World], Awaitable[None]]) -> None:
    faults: list[object] = []

    async def all_of_it() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        try:
            async with asyncio.timeout(PATIENCE):
                await work(world)
        finally:
            for server in world.started:
                server.close()
            for writer in world.opened:
                writer.transport.abort()
            for _ in range(5):  # a task that is cancelled before it began closes nothing
                await asyncio.sleep(0)
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    asyncio.run(all_of_it())
    assert faults == [], faults


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in this loop."""
    while not condition():  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.001)


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def client_hello(name: str | None) -> bytes:
    """What the standard library's TLS says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()
