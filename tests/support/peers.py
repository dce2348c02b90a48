"""Programs at the other end of a unix socket, as real as a socket can be: a thread each, one connection at a time."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Talk = Callable[[socket.socket], None]


@dataclass
class Peer:
    """`path`: where it listens. `errors`: what its conversations raised, but for a partner that left."""

    path: Path
    met: int = 0
    errors: list[BaseException] = field(default_factory=list)


@contextlib.contextmanager
def peer(talk: Talk) -> Iterator[Peer]:
    """`talk` is called with each connection, one after the other."""
    with tempfile.TemporaryDirectory(prefix="p-", dir="/tmp") as place, socket.socket(socket.AF_UNIX) as listener:
        made = Peer(Path(place, "s"))
        listener.bind(str(made.path))
        listener.listen(8)
        thread = threading.Thread(target=_serve, args=(made, listener, talk), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
    assert not thread.is_alive()
    assert made.errors == []


def _serve(made: Peer, listener: socket.socket, talk: Talk) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.settimeout(10)
            made.met += 1
            with connection:
                try:
                    talk(connection)
                except OSError:
                    continue  # the partner left: the test looks at what the partner made of it
                except BaseException as error:  # noqa: BLE001 - reported by `peer`
                    made.errors.append(error)


def line(connection: socket.socket) -> bytes:
    """One line, read byte by byte; what there is at the end."""
    found = b""
    while not found.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        found += byte
    return found
