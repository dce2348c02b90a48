"""`python -P -m git_sandbox.egress`: the proxy of one sandbox, see `egress/service`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from git_sandbox.egress import authority, proxy, request_log, service
from git_sandbox.egress.authority import Authority
from git_sandbox.egress.proxy import Proxy
from git_sandbox.egress.service import Order, Ready
from git_sandbox.egress.sources import Remote
from git_sandbox.egress.state import State


def quiet(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What went wrong without anybody waiting for it, by its kind: its words may hold what a guest or a server said."""
    sys.stderr.write(f"{type(context.get('exception')).__name__} in a connection\n")


async def run(order: Order) -> bool:
    """Until it is to end, or whoever has the secrets is gone: then False."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(quiet)
    source = Remote(socket.socket(fileno=order.channel)) if order.channel != service.NONE else None
    state = proxy.state(
        Path(order.policy), request_log.resumed(Path(order.request_log)), upstream=order.upstream, source=source
    )
    ready = _ready(state, order.authority)
    with socket.socket(fileno=order.descriptor) as listening:
        serving = asyncio.ensure_future(Proxy(state).serve(listening))
        answers = asyncio.ensure_future(source.listen() if source else loop.create_future())
        answers.add_done_callback(lambda _: serving.cancel())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, serving.cancel)
        if order.leash != service.NONE:
            loop.add_reader(order.leash, _let_go, order.leash, serving)
        sys.stdout.write(json.dumps(asdict(ready)) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        return not answers.done()


def _let_go(leash: int, serving: asyncio.Future[None]) -> None:
    """Once: a second time would break off what is done at the end."""
    asyncio.get_running_loop().remove_reader(leash)
    serving.cancel()


def _ready(state: State, before: str) -> Ready:
    """With the authority of an earlier proxy where there was one."""
    if before:
        state.own_authority = Authority(before)
    elif state.egress().opens_tls and authority.available():
        state.own_authority = Authority()
    return Ready(state.own_authority.certificate, state.own_authority.secret()) if state.own_authority else Ready()


def main() -> None:
    service.seal()
    order = service.decode(sys.stdin.buffer.read())
    if not asyncio.run(run(order)):
        sys.exit("the process that holds the secrets ended")


if __name__ == "__main__":
    main()
