"""`python -P -m git_sandbox.egress`: the proxy of one sandbox, see `egress/service`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import resource
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from git_sandbox.egress import authority, ledger, proxy, service
from git_sandbox.egress.proxy import Proxy
from git_sandbox.egress.service import Order, Ready

PR_SET_DUMPABLE = 4
DESCRIPTORS = 4096


def closed() -> None:
    """No core file, and no other process reads this one's memory: there are values of credentials in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS) if hard >= 0 else DESCRIPTORS, hard))


def quiet(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What went wrong without anybody waiting for it, by its kind: its words may hold what a guest or a server said."""
    sys.stderr.write(f"{type(context.get('exception')).__name__} in a connection\n")


async def run(order: Order) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(quiet)
    book = ledger.resumed(Path(order.ledger))
    state = proxy.state(Path(order.policy), book, upstream=order.upstream, values=dict(order.values))
    opens = state.egress().opens_tls and authority.available()
    made = state.authority("this sandbox").certificate if opens else ""
    with socket.socket(fileno=order.descriptor) as listening:
        serving = asyncio.ensure_future(Proxy(state).serve(listening))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, serving.cancel)
        sys.stdout.write(json.dumps(asdict(Ready(made))) + "\n")
        sys.stdout.flush()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


def main() -> None:
    closed()
    order = service.decode(sys.stdin.buffer.read())
    asyncio.run(run(order))


if __name__ == "__main__":
    main()
