"""Opens worktree files that the exporter's user may not read, in a fork of process 1 that is still root.

It never runs git and writes nothing. A path is walked one name at a time, never through a link, and never onto another
file system; what comes back is a descriptor, or what the name is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable

MOST = 64 << 10  # bytes of one request
FILE, DIRECTORY, LINK, OTHER = b"f", b"d", b"l", b"o"
OWN = b"/own"  # no path inside begins like this
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def serve(requests: socket.socket, top: str, own: Callable[[], object] = lambda: None) -> None:
    """Answer until the other end is closed. One request is one path, relative to `top`, or OWN."""
    root = os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    while path := requests.recv(MOST):
        if path == OWN:
            own()
            requests.send(OTHER)
            continue
        try:
            kind, handle, target = look(root, path)
        except (OSError, ValueError) as error:
            requests.send(b"e%d" % (getattr(error, "errno", 0) or errno.EINVAL))
            continue
        if handle is None:
            requests.send(kind + target)
            continue
        try:
            socket.send_fds(requests, [kind], [handle])
        finally:
            os.close(handle)


def look(root: int, path: bytes) -> tuple[bytes, int | None, bytes]:
    """What `path` is, an open descriptor of a file or directory, and where a link leads. Raises OSError, ValueError."""
    names = path.split(b"/")
    if not all(names) or {b".", b".."} & set(names) or b"\0" in path:
        raise ValueError("not a path inside")
    device = os.fstat(root).st_dev
    place = os.dup(root)
    try:
        for name in names:
            below = os.open(name, _STEP, dir_fd=place)
            os.close(place)
            place = below
            if os.fstat(place).st_dev != device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return _opened(place)
    finally:
        os.close(place)


def _opened(place: int) -> tuple[bytes, int | None, bytes]:
    mode = os.fstat(place).st_mode
    if stat.S_ISLNK(mode):
        return LINK, None, os.fsencode(os.readlink("", dir_fd=place))
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return OTHER, None, b""
    handle = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    return (FILE if stat.S_ISREG(mode) else DIRECTORY), handle, b""


class Opener:
    """The exporter's end. `open` gives nothing where even root gets nothing."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests

    def open(self, path: bytes) -> tuple[bytes, int | None, bytes] | None:
        with contextlib.suppress(OSError):
            self._requests.send(path)
            request, handles, _, _ = socket.recv_fds(self._requests, MOST, 1)
            kind = request[:1]
            if kind in (FILE, DIRECTORY) and handles:
                return kind, handles[0], b""
            if kind in (LINK, OTHER):
                return kind, None, request[1:]
        return None

    def own(self) -> None:
        """Have root give the git directory to its user."""
        with contextlib.suppress(OSError):
            self._requests.send(OWN)
            self._requests.recv(MOST)


def pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
