"""Runs in a network namespace of its own: the guest's relay, a proxy that stands for the host's, and programs that know
of neither. Prints what they saw as one JSON object.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time

from git_sandbox.guest import common, egress
from git_sandbox.guest.interfaces import interface_up

PROXY = 3128
# What kernels say that have no such devices, no nftables, or let no user make either.
LACKING = (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.ENOENT, errno.EPERM)
DNS = ("198.51.100.53", 53)
asked: list[str] = []


def proxy(listener: socket.socket) -> None:
    """Allows what has `allowed` in it: says hello, and what it hears in capitals."""
    while True:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            line = stream.readline().decode()
            asked.append(line.split(" ")[1])
            while stream.readline().strip():
                pass
            if "allowed" in line:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello ")
                connection.sendall(stream.readline().upper())
            else:
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n")


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
    return struct.pack(">HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", kind, 1)


def resolved(name: str, server: tuple[str, int] = DNS) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.connect(server)
        client.send(query(name))
        return socket.inet_ntoa(client.recv(512)[-4:])


def resolved_by_tcp(name: str) -> str:
    with socket.create_connection(DNS, 20) as client:
        client.sendall(len(query(name)).to_bytes(2, "big") + query(name))
        return socket.inet_ntoa(client.recv(512)[-4:])


def conversation(address: str, port: int, said: bytes) -> str:
    """Until the other side ends it; the error's name where it broke."""
    try:
        with socket.create_connection((address, port), 20) as client, client.makefile("rb") as stream:
            client.sendall(said)
            return stream.read().decode("latin-1")
    except OSError as error:
        return type(error).__name__


def tls(address: str, name: str) -> None:
    """Fails: the proxy does not speak TLS. What it was asked for counts."""
    context = ssl.create_default_context()
    with socket.create_connection((address, 443), 20) as client:
        client.settimeout(20)
        with contextlib.suppress(OSError):
            context.wrap_socket(client, server_hostname=name)


def datagram(port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            client.connect(("192.0.2.1", port))
            client.send(b"x")
        except OSError as error:
            return type(error).__name__
        return "sent"


def main() -> None:
    interface_up("lo")
    try:
        egress.redirect("ifb")  # which has no module of its own everywhere: `dummy` is what a guest takes
    except OSError as error:
        if error.errno not in LACKING:
            raise
        sys.stdout.write(json.dumps({"lacking": str(error)}))
        return
    egress.undo()
    left = egress.DEVICE in [name for _, name in socket.if_nameindex()]
    listener = socket.create_server(("127.0.0.1", PROXY))
    threading.Thread(target=proxy, args=(listener,), daemon=True).start()
    began = egress.begin({"network": {"proxy": PROXY}}, "ifb")
    try:
        name = resolved("allowed.example.org")
        again = resolved("ALLOWED.example.org", ("192.0.2.53", 53))
        said = {
            "undone": not left,
            "began": began,
            "same": name == again == resolved_by_tcp("allowed.example.org"),
            "by_name": conversation(name, 8443, b"words\n"),
            "refused": conversation(resolved("other.example.org"), 22, b""),
            "refused_http": conversation("192.0.2.7", 80, b"GET / HTTP/1.1\r\nHost: web.example.org:80\r\n\r\n"),
            "literal": conversation("192.0.2.7", 5432, b"\0\0\0\x08"),
            "unknown": conversation("198.19.0.9", 80, b"\0"),
            "itself": conversation("127.0.0.1", egress.TCP_PORT, b"x"),
            "datagram": datagram(123),
        }
        tls("192.0.2.8", "allowed.tls.example.org")
        deadline = time.monotonic() + 20
        while "allowed.tls.example.org:443" not in asked and time.monotonic() < deadline:
            time.sleep(0.01)
        sys.stdout.write(json.dumps(said | {"asked": asked}))
    finally:
        for each in common.FORKED:
            os.kill(each, signal.SIGKILL)


if __name__ == "__main__":
    main()
