"""Host names and addresses as a guest, a rule or a certificate writes them: one canonical form for each, or none.

Strict on purpose. What two programs can read differently (`127.1`, `0x7f000001`, `example.org..`, a name in Unicode,
`user@host`) is no name here, so nothing is decided about one host and done to another.
"""

from __future__ import annotations

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_NAME = 253  # characters of a name (RFC 1035, without the last dot)
MOST_PORT = 65535
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label that makes a resolver think of an address
_PORT = re.compile(r"[1-9][0-9]{0,4}")


def host(text: str) -> str:
    """The one spelling of a name or an address literal (without brackets). Raises ValueError with what is wrong."""
    literal = address(text)
    if literal is not None:
        return str(literal)
    name = text.lower().removesuffix(".")
    if not text.isascii():
        raise ValueError("a name outside ASCII is written as `xn--…`")
    if not name or len(name) > MOST_NAME:
        raise ValueError("it is not the name of a host")
    labels = name.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or _NUMERIC.fullmatch(labels[-1]):
        raise ValueError("it is not the name of a host")
    return name


def address(text: str) -> Address | None:
    """The address that `text` spells in full, None for anything else. An IPv4 address mapped into IPv6 is that."""
    if "%" in text or not text.isascii():  # a zone: the meaning of an address is this host's matter
        return None
    try:
        return plain(ipaddress.ip_address(text))
    except ValueError:
        return None


def plain(address: Address) -> Address:
    """An address without the disguise of IPv6's `::ffff:a.b.c.d`."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def port(text: str) -> int:
    """Raises ValueError."""
    if not _PORT.fullmatch(text) or int(text) > MOST_PORT:
        raise ValueError("a port is a number from 1 to 65535")
    return int(text)


def authority(text: str, default: int | None = None) -> tuple[str, int]:
    """(host, port) of `name:port`, `[address]:port` (RFC 3986, without userinfo). Raises ValueError."""
    name, number = split(text)
    if not number and default is None:
        raise ValueError("the port is missing")
    return host(name), port(number) if number else default or 0


def split(text: str) -> tuple[str, str]:
    """Host and port as written, the latter empty when it is not there. Raises ValueError."""
    if text.startswith("["):
        inner, closed, rest = text[1:].partition("]")
        if not closed or ":" not in inner or (rest and not rest.startswith(":")) or rest == ":":
            raise ValueError("an IPv6 address is written as `[::1]` or `[::1]:443`")
        return inner, rest[1:]
    name, colon, number = text.partition(":")
    if colon and not number:
        raise ValueError("the port is missing")
    return name, number


def joined(name: str, number: int) -> str:
    """`name:port`, with the brackets that an IPv6 address has there."""
    return f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
