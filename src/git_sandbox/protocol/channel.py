"""Connects to a channel of a machine from the host. Standard library only: ssh's proxy loads nothing else.

`unix`: the socket is the channel. `hybrid-vsock`: Firecracker's and Cloud Hypervisor's way of offering the guest's
vsock ports on one unix socket (Firecracker, docs/vsock.md): `CONNECT port`, then `OK number`, then the channel.
`vsock`: the host's own (vsock(7)); what stands for the path is the guest's context id.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from collections.abc import Callable

UNIX = "unix"
HYBRID_VSOCK = "hybrid-vsock"
VSOCK = "vsock"
KINDS = (UNIX, HYBRID_VSOCK, VSOCK)

MAX_OK = 32  # bytes of the line that accepts a connection
TRY = 5.0  # seconds for one handshake: the VMM gives a guest two
PAUSE = 0.05  # seconds until a guest is tried again that does not listen yet


class NotListeningError(ConnectionError):
    """The machine runs and nobody in it listens at that port (yet)."""


def connect(
    kind: str,
    path: str,
    port: int = 0,
    *,
    timeout: float | None = None,
    patience: float = 0.0,
    needed: Callable[[], bool] = lambda: True,
) -> socket.socket:
    """A connection to the channel; reading and writing take `timeout` seconds at most.

    `patience`: seconds for which a guest is tried again that does not listen yet, as long as `needed()`. Raises
    OSError: that nobody is at `path`, the VMM does not run, is reported at once.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of channel: {kind}")
    deadline = time.monotonic() + patience
    while True:
        connection = socket.socket(socket.AF_VSOCK if kind == VSOCK else socket.AF_UNIX)
        try:
            connection.settimeout(timeout if kind == UNIX else TRY)
            _reach(connection, kind, path, port)
        except _NotYetError as error:
            connection.close()
            if time.monotonic() >= deadline or not needed():
                raise NotListeningError(f"nothing listens on port {port} of the machine") from error
            time.sleep(PAUSE)
        except BaseException:
            connection.close()
            raise
        else:
            connection.settimeout(timeout)
            return connection


class _NotYetError(Exception):
    """The machine is there, what we want in it is not."""


def _reach(connection: socket.socket, kind: str, path: str, port: int) -> None:
    """Connect. OSError when there is no machine."""
    if kind != VSOCK:
        reach(connection, path)
    try:
        if kind == VSOCK:
            connection.connect((int(path), port))
        if kind == HYBRID_VSOCK:
            handshake(connection, port)
    except OSError as error:
        if error.errno == errno.ENODEV:  # nobody has that context id
            raise
        raise _NotYetError from error


def reach(connection: socket.socket, path: str) -> None:
    """Connect to the socket at `path`, to what is there and not to what a link there leads to. Raises OSError.

    A VMM makes sockets in a directory of its own. One that a guest has taken over could put a link in their place, to
    another socket of this user's: an agent, a bus, another sandbox.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), path)
        connection.connect(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def handshake(connection: socket.socket, port: int) -> None:
    """Ask the VMM for the guest's `port`. Not one byte behind the answer is read: it belongs to the conversation.

    Raises OSError when the guest does not listen, answers anything else, or not within the socket's timeout.
    """
    deadline = time.monotonic() + (connection.gettimeout() or TRY)
    request = b"CONNECT %d\n" % port
    if connection.send(request) != len(request):  # in one piece: Firecracker gives up on half a line
        raise ConnectionError("the request does not fit into the socket buffer")
    answer = b""
    while not answer.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or len(answer) >= MAX_OK:
            raise ConnectionError("the answer is incomplete")
        connection.settimeout(left)
        byte = connection.recv(1)
        if not byte:
            raise ConnectionResetError("refused")
        answer += byte
    word, _, number = answer[:-1].partition(b" ")
    if word != b"OK" or not number.isdigit():
        raise ConnectionError("the answer is not OK")
