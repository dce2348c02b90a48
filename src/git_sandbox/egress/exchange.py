"""The HTTP requests of one connection in turn: each is checked and rewritten, and its response passed on.

Three kinds of connections have them: the proxy's own (`GET http://name/…`, and `GET /@credential/…` for a base URL), a
tunnel to port 80, and TLS that is opened for a declared host.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import re
from collections.abc import Awaitable, Callable

from git_sandbox.egress import gitaccess, head, inject, names
from git_sandbox.egress.credentials import Credential
from git_sandbox.egress.flow import LAST_CHUNK, Flow, body, chunk, relay
from git_sandbox.egress.head import CHUNKED, LENGTH, UNTIL_END, Request, Response, Target
from git_sandbox.egress.inject import Parts, Scrub
from git_sandbox.egress.origin import UPGRADE, Order, Origin, framed
from git_sandbox.egress.refusal import Refused, response
from git_sandbox.egress.state import State
from git_sandbox.errors import SandboxError, UsageError
from git_sandbox.later import dataclass

_BROKER = re.compile(r"/@([a-z0-9-]{1,40})(/[!-~]*)?")


@dataclass(frozen=True)
class Fixed:
    """Where all requests of a connection go."""

    host: str
    port: int
    secure: bool


Connect = Callable[[Flow, str, int], Awaitable[None]]


class Exchange:
    """`fixed` None: the proxy's own connection, where `connect` takes over for CONNECT."""

    def __init__(self, state: State, client: Flow, fixed: Fixed | None = None, connect: Connect | None = None) -> None:
        self.state, self.client, self.fixed, self.connect = state, client, fixed, connect
        self.origin = Origin(state, client)
        self.answered = False
        self.about: tuple[str, int] | None = None

    async def run(self) -> None:
        """Until the client, or the first refusal, ends it."""
        try:
            while await self._guarded():
                pass
        finally:
            await self.origin.drop()

    async def _guarded(self) -> bool:
        self.answered, self.about = False, (self.fixed.host, self.fixed.port) if self.fixed else None
        try:
            return await self._one()
        except TimeoutError:
            refused = Refused(408 if self.about is None else 504, "it timed out")
        except Refused as error:
            refused = error
        except OSError:
            if self.about is None:
                return False
            refused = Refused(502, f"the connection to {names.joined(*self.about)} ended")
        await self._say(refused)
        return False

    async def _say(self, refused: Refused) -> None:
        if refused.status not in (408, 502, 504):
            self.state.refused(self.about, refused)
        if not self.answered:
            with contextlib.suppress(OSError):
                async with asyncio.timeout(self.state.times.connect):
                    await self.client.write(response(refused))

    async def _one(self) -> bool:
        data = await self._head()
        if not data:
            return False
        request = head.request(data)
        if request.method == "CONNECT":
            return await self._connected(request)
        if request.method == "TRACE":  # it repeats what the proxy put in
            raise Refused(403, "TRACE is not supported")
        target, secure, broker = self._target(request)
        self.about = (target.host, target.port)
        order = await self._judged(request, target, secure, broker)
        return await self._pass_on(order, await self.origin.ask(order))

    async def _head(self) -> bytes:
        times = self.state.times
        if not self.client.buffer:
            try:
                async with asyncio.timeout(times.idle):
                    if not await self.client.more():
                        return b""
            except TimeoutError:
                return b""
        async with asyncio.timeout(times.head):
            return await self.client.until(head.END, head.MOST_HEAD)

    async def _connected(self, request: Request) -> bool:
        if self.connect is None or request.body.kind != head.NONE:
            raise Refused(400, "CONNECT is not supported here")
        host, port = head.place(request.target, None)
        self.about = (host, port)
        if request.all(b"host"):
            head.same_host(request, host, port, port)
        try:
            await self.connect(self.client, host, port)
        except OSError:
            self.answered = True  # a tunnel is refused before it is open, and just ends afterwards
        return False

    def _target(self, request: Request) -> tuple[Target, bool, Credential | None]:
        if self.fixed is not None:
            return self._within(request, self.fixed), self.fixed.secure, None
        target = head.absolute(request)
        if target is not None:
            head.same_host(request, target.host, target.port, 80)
            return target, False, None
        match = _BROKER.fullmatch(request.target)
        credential = next(
            (candidate for candidate in self.state.egress().credentials if match and candidate.name == match[1]), None
        )
        if match is None or credential is None:
            raise Refused(400, "this is a proxy, not a web server")
        try:
            return Target(*credential.upstream, match[2] or "/"), True, credential
        except UsageError as error:
            raise Refused(403, error.message) from None

    def _within(self, request: Request, fixed: Fixed) -> Target:
        default = 443 if fixed.secure else 80
        target = head.absolute(request)
        if target is not None and (fixed.secure or (target.host, target.port) != (fixed.host, fixed.port)):
            raise Refused(403, f"the request is for a host other than {names.joined(fixed.host, fixed.port)}")
        head.same_host(request, fixed.host, fixed.port, default)
        if target is None and request.target == "*" and request.method != "OPTIONS":
            raise Refused(400, "the target of the request is not a path")
        return Target(fixed.host, fixed.port, target.path if target else request.target)

    async def _judged(self, request: Request, target: Target, secure: bool, broker: Credential | None) -> Order:
        """Raises Refused."""
        egress, where = self.state.egress(), names.joined(target.host, target.port)
        self.state.register(target.host, target.port)
        decision = self.state.decide(target.host, target.port)
        wish = gitaccess.wish(request, target.path)
        if decision.read_only:
            gitaccess.check_read_only(request, wish, where)
        gitaccess.check_push(egress, target.host, target.port, wish)
        fields = [row for row in head.passed(request.fields) if row[0] != b"host"]
        if decision.read_only:
            fields = gitaccess.as_written(fields)
        parts, values = await self._credentials(Parts(target.path, fields), target, secure, broker)
        row = self.state.requests.allow(target.host, target.port)
        if wish.kind == gitaccess.PUSH and not wish.begins:
            self.state.requests.push(row)
        return Order(request, target, secure, parts, values, wish)

    async def _credentials(
        self, parts: Parts, target: Target, secure: bool, broker: Credential | None
    ) -> tuple[Parts, tuple[str, ...]]:
        """The parts with real values, and these as they are written. Raises Refused."""
        egress = self.state.egress()
        mine = (broker,) if broker else egress.credentials_for(target.host, target.port) if secure else ()
        values = {credential: await self._value(credential) for credential in mine}
        if broker:
            real = inject.brokered(parts, broker, values[broker], egress.credentials)
        else:
            real = inject.replaced(parts, values, egress.credentials)
        sent = {
            *values.values(),
            *self.state.values.of(egress.credentials_for(target.host, target.port) if secure else ()),
        }
        return real, tuple(form for value in sent for form in inject.forms(value, real))

    async def _value(self, credential: Credential) -> str:
        """Raises Refused, which names the credential and nothing else: the cause may hold the words of a command."""
        try:
            return await self.state.values.get(credential)
        except SandboxError:
            raise Refused(403, f"cannot get the credential `{credential.name}`") from None

    async def _pass_on(self, order: Order, answer: Response) -> bool:
        """Write the answer to the client; whether the connection goes on."""
        request, server, scrub = order.request, self.origin.connected, Scrub(self.origin.secrets)
        kind = answer.body(request.method)
        if self.origin.secrets:
            _readable(answer, kind, order.target.host)
        fields = scrub.fields(head.passed(answer.fields))
        if answer.status == 101:  # noqa: PLR2004 - Switching Protocols
            return await self._upgraded(request, server, fields, scrub)
        chunked = kind.kind in (CHUNKED, UNTIL_END) and request.minor == 1
        keeps = request.keeps and (chunked or kind.kind in (head.NONE, LENGTH))
        fields += framed(head.Body(CHUNKED) if chunked else kind)
        if kind.kind == head.NONE:
            fields += [row for row in answer.fields if row[0] == b"content-length" and row[1].isdigit()]
        fields.append((b"Connection", b"keep-alive" if keeps else b"close"))
        self.answered = True
        await self.client.write(head.encode(f"HTTP/1.1 {answer.status} {_reason(answer.status)}", fields))
        await self._body(server, kind, scrub, chunked=chunked)
        return await self.origin.done(keeps=answer.keeps and kind.kind != UNTIL_END) and keeps

    async def _body(self, server: Flow, kind: head.Body, scrub: Scrub, *, chunked: bool) -> None:
        async with contextlib.aclosing(body(server, kind)) as pieces:
            while True:
                try:
                    async with asyncio.timeout(self.state.times.quiet):
                        data = await anext(pieces, b"")
                except Refused as error:
                    raise ConnectionError(error.message) from None
                changed = scrub.change(data)
                if changed:
                    await self.client.write(chunk(changed) if chunked else changed)
                if not data:
                    break
        if chunked:
            await self.client.write(LAST_CHUNK)

    async def _upgraded(self, request: Request, server: Flow, fields: list[tuple[bytes, bytes]], scrub: Scrub) -> bool:
        if not request.websocket:
            raise Refused(502, "the server switches protocols without a request")
        self.answered = True
        await self.client.write(head.encode("HTTP/1.1 101 Switching Protocols", [*fields, *UPGRADE]))
        await relay(self.client, server, self.state.times.quiet, scrub.change)
        return False


def _reason(status: int) -> str:
    """The phrase of the standard: a server's own could repeat a value."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return ""


def _readable(answer: Response, kind: head.Body, host: str) -> None:
    """Raises Refused for an answer to a request with a real value that cannot be looked through: coded or in parts,
    which nobody asked for.
    """
    coded = set(head.tokens([value for name, value in answer.fields if name == b"content-encoding"])) - {b"identity"}
    framed = any(name == b"sec-websocket-extensions" for name, _ in answer.fields)
    if (coded and kind.kind != head.NONE) or framed:
        raise Refused(502, f"the answer of {host} has a content encoding that was not requested")
    if answer.status == 206:  # noqa: PLR2004 - Partial Content
        raise Refused(502, f"the answer of {host} is partial, although the whole was requested")
