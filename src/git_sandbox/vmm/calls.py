"""Connections that the guest opens, handled one after the other, over any transport."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.vmm.machine import CALLS, Attachment

WAITING = 8  # connections the kernel keeps for us; further ones are refused
SILENCE = 30.0  # seconds a caller may take for its request: it keeps all others waiting
BREATH = 0.1  # seconds between two callers: a guest that calls and hangs up without end must not keep us busy


class Calls:
    """Iterate in one thread over connections, `close` in another. Whoever gets a connection need not close it.

    A virtio-serial port is one connection with all conversations on it; over vsock each is a connection of its own.
    Raises OSError when the machine cannot be reached.
    """

    def __init__(self, attachment: Attachment) -> None:
        self._listens = attachment.kind == CALLS
        self._socket = _listener(attachment.path) if self._listens else attachment.connect(timeout=10)
        self._current: socket.socket | None = None

    def __iter__(self) -> Iterator[socket.socket]:
        if not self._listens:
            self._socket.settimeout(None)
            yield self._socket
            return
        with contextlib.suppress(OSError):  # closed
            while True:
                self._current, _ = self._socket.accept()
                self._current.settimeout(SILENCE)
                with self._current:
                    yield self._current
                time.sleep(BREATH)

    def close(self) -> None:
        """Ends the iteration, also one that waits for a connection or for what a guest says."""
        for connection in (self._socket, self._current):
            with contextlib.suppress(OSError):
                if connection is not None:
                    connection.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _listener(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    try:
        Path(path).unlink(missing_ok=True)
        os.fchmod(listening.fileno(), 0o600)  # of the socket to be: by its name it could be a link of the VMM's
        listening.bind(path)
        listening.listen(WAITING)
    except OSError:
        listening.close()
        raise
    return listening
