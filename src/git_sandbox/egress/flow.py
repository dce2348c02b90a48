"""One side of a connection: buffered bytes, a limit on waiting, and byte counts."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncGenerator, Callable
from urllib.parse import SplitResult

from git_sandbox.egress import head
from git_sandbox.egress.head import CHUNKED, LENGTH, NONE, Body
from git_sandbox.egress.names import Address
from git_sandbox.egress.refusal import Refused
from git_sandbox.later import dataclass

PIECE = 64 << 10  # bytes
MOST_CHUNK_LINE = 1024  # bytes
_HEXADECIMAL = re.compile(rb"[0-9A-Fa-f]{1,10}")


@dataclass(frozen=True)
class Times:
    """Seconds. `head`: for a whole head, or a ClientHello. `idle`: until the next request. `connect`: for one address.
    `body`: for the next piece of a request's body. `answer`: until a server's answer begins. `quiet`: without a byte in
    either direction.
    """

    head: float = 30.0
    idle: float = 300.0
    connect: float = 20.0
    body: float = 300.0
    answer: float = 1800.0
    quiet: float = 4 * 3600.0


def _uncounted(_size: int) -> None:
    pass


class Flow:
    """`wrote` and `read`: hear how many bytes went and came; `wrote` may raise Refused, before they go.

    `via`: the host's own proxy, where it is at the other end and gets requests as a proxy does. `peer`: the address
    at the other end, where a name led there and was judged for that.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        wrote: Callable[[int], None] = _uncounted,
        read: Callable[[int], None] = _uncounted,
    ) -> None:
        self.reader, self.writer = reader, writer
        self.wrote, self.read = wrote, read
        self.buffer = bytearray()
        self.via: SplitResult | None = None
        self.peer: Address | None = None
        self.below: Flow | None = None  # a writer that is forgotten closes its connection
        self.covered = False  # by TLS, which ends it
        writer.transport.set_write_buffer_limits(1, 0)  # what is written has gone when `write` returns

    async def more(self) -> bool:
        """Wait for something, False at the end."""
        data = await self.reader.read(PIECE)
        self.read(len(data))
        self.buffer += data
        return bool(data)

    async def piece(self, most: int = PIECE) -> bytes:
        """What is there, or comes next; nothing at the end."""
        if not self.buffer:
            data = await self.reader.read(PIECE)
            self.read(len(data))
            if len(data) <= most:  # the usual case: it is not copied
                return data
            self.buffer += data  # what follows has to be seen there: by `Origin`, before it asks again
        data = bytes(self.buffer[:most])
        del self.buffer[: len(data)]
        return data

    async def until(self, mark: bytes, most: int) -> bytes:
        """Up to and with `mark`; nothing where it ends before the first byte. Raises Refused for more than `most`, an
        end in between, or a line break that is not one of HTTP.
        """
        begin = 0
        while (at := self.buffer.find(mark, begin, most + len(mark))) < 0:
            if len(self.buffer) >= most:
                raise Refused(431, "the head of the message is too long")
            if head.bare(self.buffer, begin):
                raise Refused(400, "the head of the message is not valid HTTP/1")
            begin = max(0, len(self.buffer) - len(mark))
            if not await self.more():
                if self.buffer:
                    raise Refused(400, "the message is truncated")
                return b""
        data = bytes(self.buffer[: at + len(mark)])
        del self.buffer[: len(data)]
        return data

    async def write(self, data: bytes) -> None:
        self.wrote(len(data))
        self.writer.write(data)
        await self.writer.drain()

    async def end(self) -> None:
        """Nothing more is written; TLS cannot say so without closing."""
        with contextlib.suppress(OSError, NotImplementedError):
            if self.writer.can_write_eof():
                self.writer.write_eof()
            else:
                self.writer.close()

    async def close(self) -> None:
        try:
            with contextlib.suppress(OSError):
                self.writer.close()
                if self.covered:
                    return
                async with asyncio.timeout(2):
                    await self.writer.wait_closed()
        finally:
            with contextlib.suppress(AttributeError):  # TLS that has ended already, Python 3.11.2
                self.writer.transport.abort()

    async def secure(self, context: ssl.SSLContext, name: str | None, seconds: float, *, server: bool = False) -> Flow:
        """The same connection under TLS. Raises OSError (ssl.SSLError), TimeoutError."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        self.covered = True
        transport = await loop.start_tls(
            self.writer.transport, protocol, context, server_side=server, server_hostname=name,
            ssl_handshake_timeout=seconds, ssl_shutdown_timeout=2,
        )  # fmt: skip
        if transport is None:
            raise ConnectionResetError
        protocol.connection_made(transport)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        flow = Flow(reader, writer, self.wrote, self.read)
        flow.peer = self.peer
        flow.below = self
        return flow


async def body(flow: Flow, kind: Body) -> AsyncGenerator[bytes, None]:
    """The content of a body, piece by piece as it comes, without its framing. Raises Refused."""
    if kind.kind == NONE:
        return
    if kind.kind == CHUNKED:
        async for data in _chunks(flow):
            yield data
        return
    left = kind.length
    while kind.kind != LENGTH or left:
        data = await flow.piece(min(left, PIECE) if kind.kind == LENGTH else PIECE)
        if not data and kind.kind == LENGTH:
            raise Refused(502, "the message is truncated")
        if not data:
            return
        left -= len(data)
        yield data


async def _chunks(flow: Flow) -> AsyncGenerator[bytes, None]:
    while size := _size(await _line(flow)):
        left = size
        while left:
            data = await flow.piece(min(left, PIECE))
            if not data:
                raise Refused(502, "the message is truncated")
            left -= len(data)
            yield data
        if await _line(flow):
            raise Refused(400, "a chunk of the message is longer than announced")
    for _ in range(head.MOST_FIELDS):  # trailers: nobody needs them
        if not await _line(flow):
            return
    raise Refused(400, "the message has too many trailer fields")


async def _line(flow: Flow) -> bytes:
    line = await flow.until(b"\r\n", MOST_CHUNK_LINE)
    if not line or head.bare(line):
        raise Refused(400, "the message is truncated")
    return line[:-2]


def _size(line: bytes) -> int:
    digits, _, extension = line.partition(b";")
    digits = digits.rstrip(b" \t") if extension else digits
    if not _HEXADECIMAL.fullmatch(digits):
        raise Refused(400, "a chunk of the message has no valid length")
    return int(digits, 16)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


async def relay(one: Flow, other: Flow, quiet: float, change: Callable[[bytes], bytes] | None = None) -> None:
    """Bytes both ways until both have ended. `change`: of what `other` says. Raises OSError, Refused, TimeoutError."""
    watch = Watch(quiet)
    ways = (_pump(one, other, watch, None), _pump(other, one, watch, change))
    pumps = [asyncio.ensure_future(coroutine) for coroutine in ways]
    try:
        await asyncio.gather(*pumps)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


class Watch:
    """Whether something went through in the last `quiet` seconds, in either direction."""

    def __init__(self, quiet: float) -> None:
        self.quiet = quiet
        self.loop = asyncio.get_running_loop()
        self.last = self.loop.time()

    async def piece(self, flow: Flow) -> bytes:
        while True:
            try:
                async with asyncio.timeout_at(self.last + self.quiet):
                    data = await flow.piece()
            except TimeoutError:
                if self.loop.time() < self.last + self.quiet:
                    continue
                raise
            self.last = self.loop.time()
            return data


async def _pump(source: Flow, target: Flow, watch: Watch, change: Callable[[bytes], bytes] | None) -> None:
    while data := await watch.piece(source):
        changed = change(data) if change else data
        if changed:
            await target.write(changed)
    if change and (rest := change(b"")):
        await target.write(rest)
    await target.end()
