"""The proxy as a process of its own, beside a sandbox's supervisor: how it is started, and what it is told.

    listening = service.listen(path)                 # bound before the machine starts, so nothing polls
    order = service.Order(policy, ledger, listening.fileno(), …)
    process: service.argv(), standard input: order.encode(), descriptor passed on

It prints one line of JSON when it serves (`Ready`), and ends with SIGTERM.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

MODULE = "git_sandbox.egress"
BACKLOG = 128


@dataclass(frozen=True)
class Upstream:
    """The host's own way out: URLs of proxies as `http_proxy` and the like give them, empty for none.

    `authorities`: a PEM file that servers are verified by, empty for those of the system.
    """

    http: str = ""
    https: str = ""
    no_proxy: tuple[str, ...] = ()
    authorities: str = ""


@dataclass(frozen=True)
class Order:
    """What the process is told on standard input, and nowhere else: there are secrets in it.

    `policy`, `ledger`: paths; the policy is read again when it changes. `descriptor`: a listening Unix socket.
    `values`: of credentials that come from this host's environment, by the variable's name.
    """

    policy: str
    ledger: str
    descriptor: int
    upstream: Upstream = field(default_factory=Upstream)
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")


@dataclass(frozen=True)
class Ready:
    """`authority`: the certificate that the guest has to trust for what is inspected (PEM); empty where nothing is."""

    authority: str = ""


def argv() -> list[str]:
    return [sys.executable, "-P", "-m", MODULE]


def listen(path: Path) -> socket.socket:
    """A Unix socket that only this user can connect to; the directory is private already. Raises OSError."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    old = os.umask(0o177)
    try:
        listening.bind(os.fspath(path))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(old)
    return listening


def decode(data: bytes) -> Order:
    """Raises ValueError, KeyError or TypeError for what `Order.encode` does not write."""
    content = json.loads(data)
    upstream = content.pop("upstream")
    upstream["no_proxy"] = tuple(upstream["no_proxy"])
    return Order(upstream=Upstream(**upstream), **content)


def ready(line: bytes) -> Ready:
    """What the process printed. Raises ValueError for anything else."""
    content = json.loads(line)
    if isinstance(content, dict) and isinstance(content.get("authority"), str):
        return Ready(content["authority"])
    raise ValueError("it is not the proxy's word")
