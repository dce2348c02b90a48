"""The server name of a TLS ClientHello (RFC 8446, 6066), from the first bytes of a connection; nothing is changed.

Strict and bounded: every length has to fit exactly. What cannot be read has no name, and is not let through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from git_sandbox.egress import names

FIRST = 22  # the first byte of TLS: a handshake record
CLIENT_HELLO, SERVER_HELLO = 1, 2
RETRY = hashlib.sha256(b"HelloRetryRequest").digest()  # the random of a ServerHello that is none
SERVER_NAME, ENCRYPTED_HELLO = 0, 0xFE0D
MOST_RECORD = 16384  # bytes
MOST_HELLO = 32 << 10  # bytes
MOST_RECORDS = 32  # of one message: each is looked at again when more arrives


class NotReadable(ValueError):  # noqa: N818 - of data, in words
    """What came is not the beginning of TLS, or hides the name."""


class Reader:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if len(self.data) - self.at < count:
            raise NotReadable("it is truncated")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def block(self, size: int) -> Reader:
        """What follows a length of `size` bytes."""
        return Reader(self.take(self.number(size)))

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def end(self) -> None:
        if self.left:
            raise NotReadable("it has trailing data")


def message(data: bytes | bytearray, kind: int = CLIENT_HELLO) -> tuple[bytes, int] | None:
    """The message of that kind in the records at the beginning of `data`, and how many bytes these have; None while it
    is not all there. A ClientHello is alone in its records. Raises NotReadable.
    """
    collected, at, records = b"", 0, 0
    while len(collected) < 4 + _length(collected):  # type and length come first
        records += 1
        if records > MOST_RECORDS:
            raise NotReadable("it is in too many fragments")
        header = data[at : at + 5]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise NotReadable("it is not TLS")
        if len(header) < 5:  # noqa: PLR2004 - of a record
            return None
        size = int.from_bytes(header[3:5], "big")
        if header[2] > 4 or not 0 < size <= MOST_RECORD:  # noqa: PLR2004 - versions 3.0 to 3.4
            raise NotReadable("it is not TLS")
        piece = bytes(data[at + 5 : at + 5 + size])
        collected += piece
        if collected[:1] not in (b"", bytes([kind])) or len(collected) > MOST_HELLO or _length(collected) > MOST_HELLO:
            raise NotReadable("it does not begin with a TLS handshake")
        if len(piece) < size:
            return None
        at += 5 + size
    size = 4 + _length(collected)
    if len(collected) != size and kind == CLIENT_HELLO:
        raise NotReadable("something follows the ClientHello in its record")
    return collected[4:size], at


def _length(handshake: bytes) -> int:
    return int.from_bytes(handshake[1:4], "big")


def retries(server_hello: bytes) -> bool:
    """Whether the server asks for a second ClientHello (RFC 8446, 4.1.4)."""
    return server_hello[2:34] == RETRY


def server_name(hello: bytes) -> str:
    """The one name in a ClientHello, empty where it has none. Raises NotReadable, also where it hides it."""
    reader = Reader(hello)
    reader.take(2 + 32)  # version, random
    reader.block(1)  # session
    reader.block(2)  # cipher suites
    reader.block(1)  # compression
    if not reader.left:
        return ""
    extensions = reader.block(2)
    reader.end()
    readers: dict[int, Reader] = {}
    for kind, content in _extensions(extensions):
        if kind in readers:
            raise NotReadable("an extension occurs twice")
        readers[kind] = content
    if ENCRYPTED_HELLO in readers:
        raise NotReadable("its server name is encrypted (ECH)")
    return _name(readers[SERVER_NAME]) if SERVER_NAME in readers else ""


def _extensions(reader: Reader) -> Iterator[tuple[int, Reader]]:
    while reader.left:
        yield reader.number(2), reader.block(2)


def _name(extension: Reader) -> str:
    listed = extension.block(2)
    extension.end()
    if listed.number(1) != 0:
        raise NotReadable("its server name has an unknown type")
    text = listed.block(2)
    listed.end()
    try:
        return names.host(text.data.decode("ascii"))
    except ValueError:
        raise NotReadable("its server name is not a host name") from None
