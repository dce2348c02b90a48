"""One HTTP call over a unix socket, with a deadline."""

from __future__ import annotations

import contextlib
import socket
import threading
from http import client
from pathlib import Path

import msgspec

from git_sandbox.protocol import channel

MAX_REPLY = 1 << 20  # bytes; real answers have a few hundred


class _Connection(client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        channel.reach(self.sock, str(self._path))


def exchange(place: Path, overall: float, method: str, path: str, body: object) -> tuple[int, bytes]:
    """Status and body of the answer, within `overall` seconds. `body` None: none is sent. Raises OSError."""
    connection = _Connection(place, overall)
    late = threading.Timer(overall, _shut, [connection])  # its own timeout only bounds the silence
    late.daemon = True
    late.start()
    try:
        sent = None if body is None else msgspec.json.encode(body)
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if sent else {})
        connection.request(method, path, sent, headers)
        answer = connection.getresponse()
        content = answer.read(MAX_REPLY)
        if answer.length:  # bytes announced and not read: too many of them, or its end came first
            raise client.IncompleteRead(content[:0], answer.length)
    except client.HTTPException as error:
        raise OSError(str(error) or type(error).__name__) from error
    else:
        return answer.status, content
    finally:
        late.cancel()
        connection.close()


def _shut(connection: _Connection) -> None:
    with contextlib.suppress(OSError):
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
