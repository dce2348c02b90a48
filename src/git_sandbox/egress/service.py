"""The proxy as a separate process: how the supervisor starts it, and the configuration it receives.

    listening = service.listen(path)                 # bound before the machine starts, so nothing polls
    order = service.Order(policy, request_log, listening.fileno(), …)
    process: service.argv(), standard input: order.encode(), descriptors passed on

It prints one line of JSON when it serves (`Ready`), and ends when its leash does: a pipe that nobody writes to. Where
there are secrets, a second process has them (`SOURCES`, see `sources`).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from git_sandbox.later import asdict, dataclass, field

MODULE, SOURCES = "git_sandbox.egress", "git_sandbox.egress.sources"
BACKLOG = 128
PR_SET_DUMPABLE = 4
DESCRIPTORS = 4096
NONE = -1  # no descriptor


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
    """What the process is told on standard input.

    `policy`, `request_log`: paths; the policy is read again when it changes. `descriptor`: a listening Unix socket.
    `leash`, `channel`: descriptors of a pipe that ends when the process is to end, and of the way to `SOURCES`.
    `authority`: of an earlier proxy of this session (`Ready.secret`): the guest trusts that one.
    """

    policy: str
    request_log: str
    descriptor: int
    upstream: Upstream = field(default_factory=Upstream)
    leash: int = NONE
    channel: int = NONE
    authority: str = field(default="", repr=False)

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")


@dataclass(frozen=True)
class SourcesOrder:
    """What `SOURCES` is told on standard input, and nowhere else: there are secrets in it.

    `values`: of credentials that come from this host's environment, by the variable's name.
    """

    policy: str
    channel: int
    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode("ascii")


@dataclass(frozen=True)
class Ready:
    """`authority`: the certificate that the guest has to trust for what is inspected (PEM); empty where nothing is.

    `secret`: the same with its key, for the proxy that takes over when this one dies.
    """

    authority: str = ""
    secret: str = field(default="", repr=False)


def argv(module: str = MODULE) -> list[str]:
    return [sys.executable, "-P", "-m", module]


def seal() -> None:
    """No core file, and no other process reads this one's memory: there are values of credentials in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, DESCRIPTORS) if hard >= 0 else DESCRIPTORS, hard))


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


def decode_sources(data: bytes) -> SourcesOrder:
    """Raises ValueError or TypeError for what `SourcesOrder.encode` does not write."""
    return SourcesOrder(**json.loads(data))


def ready(line: bytes) -> Ready:
    """What the process printed. Raises ValueError for anything else."""
    content = json.loads(line)
    if isinstance(content, dict) and content.keys() == {"authority", "secret"}:
        return Ready(str(content["authority"]), str(content["secret"]))
    raise ValueError("it is not a message of the proxy")
