"""The destination of a connection, from the first bytes its program sends: the TLS server name or the HTTP Host.

For connections to bare addresses. The host believes none of it: it decides by the name, and resolves that itself.
"""

from __future__ import annotations

import re

MOST = 16 << 10  # bytes looked at
HANDSHAKE, CLIENT_HELLO, SERVER_NAME = 22, 1, 0
NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?\.?", re.ASCII)
METHOD = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH|TRACE|PROPFIND|REPORT) [^\r\n]* HTTP/1\.[01]\r\n")
HOST = re.compile(rb"\r\nhost:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)


def is_http(begin: bytes) -> bool:
    return bool(METHOD.match(begin))


def complete(begin: bytes) -> bool:
    """Whether more of it would tell nothing new: what is neither TLS nor HTTP says nothing at all."""
    if begin[:1] == bytes([HANDSHAKE]):
        return len(begin) >= 5 and len(begin) >= 5 + int.from_bytes(begin[3:5], "big")  # noqa: PLR2004 - a record's head
    if is_http(begin):
        return b"\r\n\r\n" in begin
    return bool(begin) and (b"\r\n" in begin or not begin[:8].isascii() or len(begin) > 4096)  # noqa: PLR2004


def name(begin: bytes) -> str:
    """Empty where there is none, or none that can be a host's."""
    raw = server_name(begin) if begin[:1] == bytes([HANDSHAKE]) else host(begin)
    text = raw.decode("ascii", "replace").lower()
    return text.rstrip(".") if NAME.fullmatch(text) else ""


def host(begin: bytes) -> bytes:
    """Of an HTTP request, without a port. Empty where there are two, and nobody knows which one counts."""
    if not is_http(begin):
        return b""
    hosts = HOST.findall(begin.partition(b"\r\n\r\n")[0] + b"\r\n")
    return re.sub(rb":[0-9]{1,5}$", b"", hosts[0]) if len(hosts) == 1 else b""


def server_name(begin: bytes) -> bytes:
    """Of a ClientHello (RFC 8446, 4.1.2; RFC 6066, 3) that is in its first record whole."""
    try:
        return _server_name(_Bytes(begin))
    except IndexError:
        return b""


class _Bytes:
    """Takes one field after the other. Raises IndexError where there are not as many bytes as it says."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def __bool__(self) -> bool:
        return bool(self.raw)

    def take(self, count: int) -> bytes:
        if count > len(self.raw):
            raise IndexError
        data, self.raw = self.raw[:count], self.raw[count:]
        return data

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def field(self, size: int) -> _Bytes:
        """What its length, a number of `size` bytes, stands before."""
        return _Bytes(self.take(self.number(size)))


def _server_name(raw: _Bytes) -> bytes:
    raw.take(3)
    record = raw.field(2)
    if record.number(1) != CLIENT_HELLO:
        return b""
    hello = record.field(3)
    hello.take(2 + 32)  # version, random
    for size in (1, 2, 1):  # session, cipher suites, compression
        hello.field(size)
    extensions = hello.field(2)
    while extensions:
        kind, content = extensions.number(2), extensions.field(2)
        if kind == SERVER_NAME:
            names = content.field(2)
            return names.field(2).raw if names.number(1) == 0 else b""
    return b""
