"""DNS for programs that know of no proxy: every name gets a placeholder address that is routed nowhere.

The relay (`guest/egress.py`) looks the name up again when somebody connects there, and the host resolves it, if it is
allowed. So no question leaves the guest.
"""

from __future__ import annotations

import re
import socket
import struct
from collections import OrderedDict

FIRST, LAST = 0xC6120100, 0xC613FFFE  # 198.18.1.0 to 198.19.255.254, of RFC 2544: nobody's real addresses
MOST = 50_000  # names at a time
SECONDS = 60  # how long an answer may be remembered
MAX_NAME = 253
LABEL = re.compile(rb"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
HEADER = struct.Struct(">HHHHHH")
ADDRESS, INTERNET = 1, 1
RESPONSE, REPLY, RECURSION = 0x8000, 0x8080, 0x0100  # REPLY: a response that has been searched for everywhere
NO_SUCH_NAME, NOT_UNDERSTOOD, NOT_DONE = 3, 1, 4
OPCODE = 0x7800


class Names:
    """Which name has which address. The one that nobody asked for longest makes way for a new one."""

    def __init__(self) -> None:
        self._by_name: OrderedDict[str, int] = OrderedDict()
        self._by_address: dict[int, str] = {}
        self._next = FIRST

    def address(self, name: str) -> str:
        number = self._by_name.get(name)
        if number is None:
            number = self._take()
            self._by_name[name], self._by_address[number] = number, name
        self._by_name.move_to_end(name)
        return socket.inet_ntoa(struct.pack(">I", number))

    def _take(self) -> int:
        if len(self._by_name) >= MOST:
            _, old = self._by_name.popitem(last=False)
            del self._by_address[old]
            return old
        self._next += 1
        return self._next - 1

    def name(self, address: str) -> str | None:
        """None for an address that is nobody's here."""
        return self._by_address.get(int.from_bytes(socket.inet_aton(address), "big"))


def ours(address: str) -> bool:
    """Whether it is one that only `Names` gives."""
    return FIRST <= int.from_bytes(socket.inet_aton(address), "big") <= LAST


def answer(query: bytes, names: Names) -> bytes:
    """What DNS (RFC 1035) says to a question; nothing to what is none.

    A question for anything but an IPv4 address gets an empty answer: the name is there and has none.
    """
    if len(query) < HEADER.size or query[2] & RESPONSE >> 8:
        return b""
    ident, flags, questions, *_ = HEADER.unpack_from(query)
    flags = REPLY | flags & RECURSION
    asked = question(query) if questions == 1 else None
    if asked is None:
        return HEADER.pack(ident, flags | NOT_UNDERSTOOD, 0, 0, 0, 0)
    raw, name, kind, family = asked
    if query[2] & OPCODE >> 8:
        flags |= NOT_DONE
    elif not name:
        flags |= NO_SUCH_NAME
    elif (kind, family) == (ADDRESS, INTERNET):
        packed = socket.inet_aton(names.address(name))
        row = struct.pack(">HHHIH", 0xC000 | HEADER.size, ADDRESS, INTERNET, SECONDS, len(packed)) + packed
        return HEADER.pack(ident, flags, 1, 1, 0, 0) + raw + row
    return HEADER.pack(ident, flags, 1, 0, 0, 0) + raw


def question(query: bytes) -> tuple[bytes, str, int, int] | None:
    """As it stands, its name (empty where that cannot be a host's), kind and class. None: it is damaged."""
    labels, at = [], HEADER.size
    while at < len(query) and (length := query[at]):
        if length > 63 or at + length >= len(query):  # a pointer, or cut off  # noqa: PLR2004 - of RFC 1035
            return None
        labels.append(query[at + 1 : at + 1 + length].lower())
        at += length + 1
    if at + 5 > len(query):
        return None
    kind, family = struct.unpack_from(">HH", query, at + 1)
    name = b".".join(labels)
    sound = all(LABEL.fullmatch(label) for label in labels) and len(name) <= MAX_NAME and not reserved(labels)
    return query[HEADER.size : at + 5], name.decode("ascii") if sound and labels else "", kind, family


def reserved(labels: list[bytes]) -> bool:
    """Names that are never a host's elsewhere (RFC 6761, 6762), and addresses in their words for DNS."""
    return bool(labels) and labels[-1] in (b"localhost", b"local", b"invalid", b"arpa", b"onion")
