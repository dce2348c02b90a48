"""Addresses that a name must not resolve to: those of this host, of the networks around it, and reserved ones.

A table of our own (IANA's special-purpose registries, RFC 6890 and later), for `ipaddress.is_global` answers
differently from one Python to the next.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from git_sandbox.egress.names import Address, plain

_V4 = {
    "0.0.0.0/8": "an unspecified address",
    "10.0.0.0/8": "a private address",
    "100.64.0.0/10": "an address of a provider's inner network",
    "127.0.0.0/8": "a loopback address",
    "169.254.0.0/16": "a link-local address",
    "172.16.0.0/12": "a private address",
    "192.0.0.0/24": "a reserved address",
    "192.0.2.0/24": "an address for documentation",
    "192.88.99.0/24": "a reserved address",
    "192.168.0.0/16": "a private address",
    "198.18.0.0/15": "an address for measurements",
    "198.51.100.0/24": "an address for documentation",
    "203.0.113.0/24": "an address for documentation",
    "224.0.0.0/4": "a multicast address",
    "240.0.0.0/4": "a reserved address",
}
_V6 = {
    "::/128": "an unspecified address",
    "::1/128": "a loopback address",
    "fc00::/7": "a private address",
    "fe80::/10": "a link-local address",
    "fec0::/10": "a private address",
    "ff00::/8": "a multicast address",
    "2001::/23": "a reserved address",
    "2001:db8::/32": "an address for documentation",
    "2002::/16": "an address within an address (6to4)",
    "3fff::/20": "an address for documentation",
}
_SPECIAL = [(ipaddress.ip_network(net), text) for net, text in (_V4 | _V6).items()]
_UNICAST = ipaddress.IPv6Network("2000::/3")  # what IANA has given out; the rest is reserved
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 address as a NAT64 network's resolver writes it
# Networks of IPv6 with an IPv4 address in them, and its lowest bit there: NAT64 (RFC 6052), NAT64 of a network's own
# (RFC 8215, as /96), SIIT (RFC 2765), compatible (RFC 4291), 6to4 (RFC 3056), the server and the client of Teredo (RFC
# 4380; the latter is inverted).
_WITHIN = [
    (ipaddress.IPv6Network(net), bit, inverted)
    for net, bit, inverted in (
        ("64:ff9b::/96", 0, False), ("64:ff9b:1::/48", 0, False), ("::ffff:0:0:0/96", 0, False), ("::/96", 0, False),
        ("2002::/16", 80, False), ("2001::/32", 64, False), ("2001::/32", 0, True),
    )
]  # fmt: skip
_ISATAP = (0x5EFE, 0x02005EFE)  # before the IPv4 address in the lower half (RFC 5214)
_LOW = 0xFFFFFFFF
# Nobody is reached at these, so no rule allows them.
_NEVER = [ipaddress.ip_network(text) for text in ("0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "::/128", "ff00::/8")]
# Of nobody, for documentation.
_FOREIGN: dict[int, Address] = {4: ipaddress.IPv4Address("192.0.2.1"), 6: ipaddress.IPv6Address("2001:db8::1")}


def fault(address: Address) -> str:
    """What kind of address it is that needs a rule of its own, in words; empty for one of the public network."""
    address = plain(address)
    for network, text in _SPECIAL:
        if address in network:
            return text
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED:
            return fault(ipaddress.IPv4Address(int(address) & _LOW))
        if address not in _UNICAST:
            return "a reserved address"
    return "an address of this host" if own(address) else ""


def never(address: Address) -> bool:
    """Whether it is no address of one host: unspecified (which means this host), multicast, broadcast."""
    address = plain(address)
    if isinstance(address, ipaddress.IPv6Address) and address in _TRANSLATED:
        address = ipaddress.IPv4Address(int(address) & _LOW)
    return any(address in network for network in _NEVER)


def embedded(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address may lead to by translation or in a tunnel; none for another one."""
    address = plain(address)
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    bits = int(address)
    numbers = [(bits >> bit & _LOW) ^ (_LOW if inverted else 0) for net, bit, inverted in _WITHIN if address in net]
    numbers += [bits & _LOW] if bits >> 32 & _LOW in _ISATAP else []
    return tuple(ipaddress.IPv4Address(number) for number in numbers)


def own(address: Address) -> bool:
    """Whether the kernel delivers to this host itself; nothing is sent. It then uses the address as the source, or, for
    a further one of a network, the first of that (ip-address(8), secondary): but a program can listen there.
    """
    return _is_source(address) or (_can_listen(address) and not _can_listen(_FOREIGN[address.version]))


def _is_source(address: Address) -> bool:
    with contextlib.suppress(OSError), _probe(address) as probe:
        probe.connect((str(address), 9))
        return bool(ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == address)
    return False


def _can_listen(address: Address) -> bool:
    """Also at an address of nobody's where the host is set up so (ip(7), ip_nonlocal_bind)."""
    with contextlib.suppress(OSError), _probe(address) as probe:
        probe.bind((str(address), 0))
        return True
    return False


def _probe(address: Address) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004 - the two that there are
    return socket.socket(family, socket.SOCK_DGRAM)
