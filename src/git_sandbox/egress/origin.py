"""The server's side of an exchange: one connection, kept for the next request to the same place; a checked request is
sent there, and the head of its response read.
"""

from __future__ import annotations

import asyncio
import contextlib

from git_sandbox.egress import gitaccess, head, names
from git_sandbox.egress.dial import authorization
from git_sandbox.egress.flow import LAST_CHUNK, Flow, body, chunk
from git_sandbox.egress.gitaccess import Wish
from git_sandbox.egress.head import CHUNKED, LENGTH, UNTIL_END, Body, Request, Response, Target
from git_sandbox.egress.inject import Parts, Scan
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.refusal import Refused
from git_sandbox.egress.state import State
from git_sandbox.later import dataclass

MOST_INTERIM = 16  # answers before the answer
MOST_DRAINED = 64 << 10  # bytes of an answer that is not passed on
REUSED = 15.0  # seconds after which an idle connection to a server is not trusted
LATE = 5.0  # seconds for the answer of a server that has closed its side
HIDDEN = "the placeholder of a credential was in what it sent there, and stars went in its place"


@dataclass(frozen=True)
class Order:
    """One request, judged: where it goes, what is written, and the real values in it."""

    request: Request
    target: Target
    secure: bool
    parts: Parts
    values: tuple[str, ...]
    wish: Wish


class Origin:
    """`client`: where a body comes from, and interim answers go."""

    def __init__(self, state: State, client: Flow) -> None:
        self.state, self.client = state, client
        self.flow: Flow | None = None
        self.place: tuple[str, int, bool] | None = None
        self.egress: Egress | None = None  # in force when the connection began
        self.used = 0.0
        self.upload: asyncio.Task[None] | None = None
        self.secrets: tuple[str, ...] = ()  # real values in the request that is on its way

    async def ask(self, order: Order) -> Response:
        """The answer to a request, with git's credentials where the server wants some. Raises Refused, OSError."""
        answer = await self._ask(order, self._git_field(order))
        if answer.status == 401 and order.wish.begins and order.secure:  # noqa: PLR2004 - Unauthorized
            egress, target = self.state.egress(), order.target
            field = await self.state.git.ask(egress, target.host, target.port, order.wish)
            if field and not order.request.all(b"authorization"):
                await self._drain(order.request, answer)
                answer = await self._ask(order, field)
        return answer

    def _git_field(self, order: Order) -> bytes:
        known = self.state.git.field(order.target.host, order.target.port, order.wish)
        return known if order.secure and not order.request.all(b"authorization") else b""

    async def _ask(self, order: Order, field: bytes) -> Response:
        """Once more where a kept connection turns out to be closed."""
        kept = await self._connect(order)
        try:
            return await self._asked(order, field)
        except (ConnectionError, EOFError):
            await self.drop()
            if not kept or order.request.body.kind != head.NONE:
                raise Refused(502, f"{order.target.host} ended the connection") from None
        await self._connect(order)
        try:
            return await self._asked(order, field)
        except EOFError:
            raise Refused(502, f"{order.target.host} ended the connection") from None

    async def _connect(self, order: Order) -> bool:
        """Have a connection to the server; True for one that was there."""
        place = (order.target.host, order.target.port, order.secure)
        if self.flow and self.place == place and self._fresh(self.flow):
            self.state.reached(self.flow.peer)
            return True
        await self.drop()
        self.egress = self.state.egress()
        self.flow = await self.state.open(*place[:2], plain=not order.secure, secure=order.secure)
        self.place = place
        return False

    def _fresh(self, flow: Flow) -> bool:
        """Whether a kept connection can be used: not for long, and never under other rules than it began under."""
        soon = asyncio.get_running_loop().time() < self.used + REUSED
        return soon and self.egress is self.state.egress() and not flow.reader.at_eof() and not flow.buffer

    async def _asked(self, order: Order, field: bytes) -> Response:
        flow = self.connected
        self.secrets = (*order.values, *gitaccess.forms(field))
        await flow.write(self._written(order, field, flow))
        self.upload = asyncio.ensure_future(self._upload(order, flow))
        answer = asyncio.ensure_future(self._answer(flow))
        try:
            await asyncio.wait({self.upload, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() or isinstance(self.upload.done() and self.upload.exception(), Refused):
                cut = await self._uploaded()
                async with asyncio.timeout(LATE if cut else self.state.times.answer):
                    await asyncio.wait({answer})
            return await answer
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def _uploaded(self) -> bool:
        """Wait for the end of the upload; whether the server did not want all of it. Raises Refused, and TimeoutError
        for a client that does not go on.
        """
        assert self.upload is not None  # noqa: S101 - a request is on its way
        try:
            await self.upload
        except TimeoutError:
            raise
        except OSError:
            return True
        return False

    @property
    def connected(self) -> Flow:
        assert self.flow is not None  # noqa: S101 - a request is on its way
        return self.flow

    async def done(self, *, keeps: bool) -> bool:
        """After the answer's end: whether all of the request was read, too. `keeps`: what the server says."""
        whole = self.upload is not None and self.upload.done() and self.upload.exception() is None
        if not whole or not keeps:
            await self.drop()
        self.used = asyncio.get_running_loop().time()
        return whole

    async def drop(self) -> None:
        """Without a connection, and without what was on its way."""
        upload, self.upload = self.upload, None
        flow, self.flow = self.flow, None
        try:
            if upload is not None:
                upload.cancel()
                await asyncio.gather(upload, return_exceptions=True)
        finally:
            if flow is not None:
                await flow.close()

    def _written(self, order: Order, field: bytes, flow: Flow) -> bytes:
        """The head of the request as the server gets it: made here, of what was judged."""
        target, fields = order.target, order.parts.fields
        host = f"[{target.host}]" if ":" in target.host else target.host
        usual = target.port == (443 if order.secure else 80)
        where = host if usual else names.joined(target.host, target.port)
        if self.secrets:  # what may repeat a value has to be readable, and whole
            fields = [*(row for row in fields if _harmless(row[0])), (b"Accept-Encoding", b"identity")]
        fields = [(b"Host", where.encode()), *fields, *framed(order.request.body)]
        fields += [(b"Authorization", field)] if field else []
        fields += UPGRADE if order.request.websocket else []
        path = order.parts.path
        if flow.via is not None and not order.secure:
            path = f"http://{where}{path}"
            fields += authorization(flow.via)
        return head.encode(f"{order.request.method} {path} HTTP/1.1", fields)

    async def _upload(self, order: Order, flow: Flow) -> None:
        egress, target, kind = self.state.egress(), order.target, order.request.body.kind
        lent = order.secure and bool(egress.credentials_for(target.host, target.port))
        scan = Scan(egress.credentials, hides=lent)
        async with contextlib.aclosing(body(self.client, order.request.body)) as pieces:
            while True:
                async with asyncio.timeout(self.state.times.body):
                    data = await anext(pieces, b"")
                passed = scan.look(data)
                if passed:
                    await flow.write(chunk(passed) if kind == CHUNKED else passed)
                if not data:
                    break
        if kind == CHUNKED:
            await flow.write(LAST_CHUNK)
        if scan.hidden:
            self.state.requests.note(target.host, target.port, HIDDEN)

    async def _answer(self, flow: Flow) -> Response:
        """The answer's head; those before it are passed on. Raises EOFError where there is none."""
        for _ in range(MOST_INTERIM):
            try:
                data = await flow.until(head.END, head.MOST_HEAD)
            except Refused as error:
                raise Refused(502, error.message) from None
            if not data:
                raise EOFError
            answer = head.response(data)
            if answer.status >= 200 or answer.status == 101:  # noqa: PLR2004 - final ones
                return answer
            if answer.status == 100:  # noqa: PLR2004 - what a client waits for
                await self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        raise Refused(502, "the server does not come to its answer")

    async def _drain(self, request: Request, answer: Response) -> None:
        """Read an answer that is not passed on, or give up its connection."""
        kind = answer.body(request.method)
        short = kind.kind == head.NONE or (kind.kind == LENGTH and kind.length <= MOST_DRAINED)
        if not short or not answer.keeps or kind.kind == UNTIL_END:
            await self.drop()
            return
        async with contextlib.aclosing(body(self.connected, kind)) as pieces:
            async for _ in pieces:
                pass
        self.used = asyncio.get_running_loop().time()


# What asks for an answer in another form: compressed, in another charset, as a difference.
_FORMS = frozenset({b"accept-encoding", b"accept-charset", b"a-im", b"sec-websocket-extensions"})


def _harmless(name: bytes) -> bool:
    """Whether a field does not ask for an answer in which a value is not seen: in another form, or in parts (`Range`,
    `If-Range` and what servers of their own call so; `Content-Range` is about the request's body).
    """
    return name not in _FORMS and (not name.endswith(b"range") or name == b"content-range")


UPGRADE = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]


def framed(kind: Body) -> list[tuple[bytes, bytes]]:
    """The fields that say how long a body is."""
    if kind.kind == CHUNKED:
        return [(b"Transfer-Encoding", b"chunked")]
    return [(b"Content-Length", str(kind.length).encode())] if kind.kind == LENGTH else []
