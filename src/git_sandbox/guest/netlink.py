"""Network configuration over netlink(7): a device, an address, a route, nftables rules.

Messages are built here rather than by `ip` and `nft`: an image need not have those, and a start does not wait for them.
Numbers and layouts: linux/netlink.h, linux/rtnetlink.h, linux/netfilter/nfnetlink.h and nf_tables.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

ROUTE, NETFILTER = 0, 12  # protocols
REQUEST, ACK, EXCL, CREATE, APPEND = 0x001, 0x004, 0x200, 0x400, 0x800
NESTED = 0x8000
LINK, REMOVE_LINK, ADDRESS, NEW_ROUTE = 16, 17, 20, 24
BATCH_BEGIN, BATCH_END, NFTABLES = 0x10, 0x11, 10
TABLE, REMOVE_TABLE, CHAIN, RULE = 0, 2, 3, 6
HOOKS = {"prerouting": 0, "output": 3}
PRIORITIES = {"nat": -100, "filter": 0}
HEADER, ERROR = 16, 2  # bytes of a message's head; kind of an acknowledgement
OUTPUT_DEVICE, TRANSPORT = 7, 16  # keys of `meta`
TCP, UDP, ICMP = 6, 17, 1
DATA, VERDICT = 1, 0  # registers
ANSWER = 64 << 10  # bytes


def attribute(number: int, value: bytes) -> bytes:
    """One attribute; those that hold others are told apart by NESTED in their number."""
    return struct.pack("=HH", len(value) + 4, number) + value + bytes(-len(value) % 4)


def nested(number: int, *inside: bytes) -> bytes:
    return attribute(number | NESTED, b"".join(inside))


def number(which: int, value: int) -> bytes:
    """Nftables has its numbers in network order."""
    return attribute(which, struct.pack(">I", value & 0xFFFFFFFF))


def text(which: int, value: str) -> bytes:
    return attribute(which, value.encode("ascii") + b"\0")


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", len(body) + HEADER, kind, REQUEST | flags, sequence, 0) + body


def talk(protocol: int, messages: Sequence[bytes], answers: int) -> None:
    """Send all at once and hear `answers` of them acknowledged. Raises OSError with what the kernel says."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as channel:
        channel.bind((0, 0))
        channel.settimeout(30.0)  # modules may have to be loaded
        channel.sendall(b"".join(messages))
        heard = 0
        while heard < answers:
            for code in errors(channel.recv(ANSWER)):
                if code:
                    raise OSError(code, os.strerror(code))
                heard += 1


def errors(received: bytes) -> Iterable[int]:
    """The number of the error in each acknowledgement, 0 for none."""
    while len(received) >= HEADER:
        length, kind = struct.unpack_from("=IH", received)
        if kind == ERROR:
            yield -struct.unpack_from("=i", received, HEADER)[0]
        received = received[max(HEADER, length + -length % 4) :]


def add_device(name: str, kind: str) -> None:
    """A device of no hardware's, switched on. Raises OSError."""
    up = 1
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, up, up) + text(3, name) + nested(18, text(1, kind))
    talk(ROUTE, [message(LINK, ACK | CREATE | EXCL, 1, body)], 1)


def add_address(device: str, address: str) -> None:
    """A host's address. Raises OSError."""
    raw = socket.inet_aton(address)
    body = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, socket.if_nametoindex(device))
    body += attribute(2, raw) + attribute(1, raw)
    talk(ROUTE, [message(ADDRESS, ACK | CREATE, 1, body)], 1)


def add_default_route(device: str, source: str) -> None:
    """Raises OSError."""
    main, static, link, unicast = 254, 4, 253, 1
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, main, static, link, unicast, 0)
    body += attribute(4, struct.pack("=i", socket.if_nametoindex(device))) + attribute(7, socket.inet_aton(source))
    talk(ROUTE, [message(NEW_ROUTE, ACK | CREATE, 1, body)], 1)


def expression(name: str, *inside: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *inside))


def equals(value: bytes, *, to: bool = True) -> bytes:
    """Whether the register has this value; `to` False: another one."""
    return expression("cmp", number(1, DATA), number(2, 0 if to else 1), nested(3, attribute(1, value)))


def goes_out_by(device: str) -> bytes:
    data = expression("meta", number(1, DATA), number(2, OUTPUT_DEVICE))
    return data + equals(device.encode("ascii").ljust(16, b"\0"))


def would_go_out_by(device: str) -> bytes:
    """The same of what has not been routed yet."""
    by_name, by_destination = 2, 2
    data = expression("fib", number(1, DATA), number(2, by_name), number(3, by_destination))
    return data + equals(device.encode("ascii").ljust(16, b"\0"))


def of_protocol(protocol: int) -> bytes:
    return expression("meta", number(1, DATA), number(2, TRANSPORT)) + equals(bytes([protocol]))


def for_port(port: int, *, to: bool = True) -> bytes:
    header, offset, length = 2, 2, 2
    where = (number(1, DATA), number(2, header), number(3, offset), number(4, length))
    return expression("payload", *where) + equals(struct.pack(">H", port), to=to)


def redirect(port: int) -> bytes:
    """To a port of this machine."""
    value = expression("immediate", number(1, DATA), nested(2, attribute(1, struct.pack(">H", port))))
    return value + expression("redir", number(1, DATA))


def reject() -> bytes:
    unreachable, prohibited = 0, 13
    return expression("reject", number(1, unreachable), attribute(2, bytes([prohibited])))


class Hook(NamedTuple):
    """Where a chain is called. `kind`: nat or filter."""

    kind: str
    place: str


def add_chain(table: str, name: str, hook: Hook, rules: Sequence[bytes]) -> None:
    """A chain of an IPv4 table with `rules`, all of it or nothing. Raises OSError."""
    generic = struct.pack(">BBH", socket.AF_INET, 0, 0)
    batch = struct.pack(">BBH", socket.AF_UNSPEC, 0, NFTABLES)
    steps = [(TABLE, CREATE, text(1, table) + number(2, 0))]
    at = nested(4, number(1, HOOKS[hook.place]), number(2, PRIORITIES[hook.kind]))
    steps.append((CHAIN, CREATE, text(1, table) + text(3, name) + at + text(7, hook.kind)))
    steps += [(RULE, CREATE | APPEND, text(1, table) + text(2, name) + nested(4, rule)) for rule in rules]
    data = [
        message(NFTABLES << 8 | kind_, ACK | flags, at_, generic + body)
        for at_, (kind_, flags, body) in enumerate(steps, 2)
    ]
    data = [message(BATCH_BEGIN, 0, 1, batch), *data, message(BATCH_END, 0, len(steps) + 2, batch)]
    talk(NETFILTER, data, len(steps))


def remove_table(table: str) -> None:
    """With all that is in it. Raises OSError."""
    batch, generic = struct.pack(">BBH", socket.AF_UNSPEC, 0, NFTABLES), struct.pack(">BBH", socket.AF_INET, 0, 0)
    data = [message(BATCH_BEGIN, 0, 1, batch), message(NFTABLES << 8 | REMOVE_TABLE, ACK, 2, generic + text(1, table))]
    talk(NETFILTER, [*data, message(BATCH_END, 0, 3, batch)], 1)


def remove_device(name: str) -> None:
    """Raises OSError."""
    body = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 0, 0)
    talk(ROUTE, [message(REMOVE_LINK, ACK, 1, body)], 1)
