"""Relays the output of sshd to its virtio-serial port, because sshd must not poll that port twice; input is not
relayed.

Polling such a port takes a buffer that has just arrived off its queue (Linux, drivers/char/virtio_console.c,
port_has_data); the interrupt that follows finds the queue empty and wakes nobody. sshd polls its connection twice in
one ppoll, for reading and for writing. When the second look takes the buffer, it sleeps with its data there: seen with
ppoll's arguments from /proc/PID/mem, while a poll of a copy of the descriptor said POLLIN. Most `scp -r` of fifty files
stood still like that, whatever event_idx and ioeventfd were. Hence nothing here ever polls.
"""

from __future__ import annotations

import os
import time

CHUNK = 64 << 10  # bytes
FULL = 0.002  # seconds until a full queue of the port is tried again


def relay(source: int, port: int) -> None:
    """Copy what sshd, our parent, writes to the host. The port is in non-blocking mode: sshd wants it so.

    Ends with sshd. What the host has not taken by then is dropped: without a host a port takes nothing, and the next
    conversation must not begin with the rest of this one.
    """
    parent = os.getppid()
    while chunk := os.read(source, CHUNK):
        while chunk:
            try:
                chunk = chunk[os.write(port, chunk) :]
            except BlockingIOError:
                if os.getppid() != parent:
                    return
                time.sleep(FULL)
