"""Certificate authorities that were added to this host, for guests to trust as well: certificates only, never a key.

Where distributions keep what an administrator adds, and `update-ca-certificates`, `update-ca-trust` or `trust` read it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from git_sandbox import files
from git_sandbox.errors import UsageError

NONE, HOST = "none", "host"  # values of the setting `ca` that are no file
PLACES = (
    "usr/local/share/ca-certificates",  # Debian, Ubuntu, Alpine
    "etc/pki/ca-trust/source/anchors",  # Fedora, RHEL
    "etc/ca-certificates/trust-source/anchors",  # Arch
    "etc/pki/trust/anchors",  # SUSE
)
Reader = Callable[[str, int], bytes]  # gets a name and a limit; raises OSError, ValueError
MOST_FILES = 200  # of a directory, with all below it
MOST_FILE = 1 << 20  # bytes
MOST = 100  # certificates
MOST_BYTES = 512 << 10  # of all of them
_PEM = re.compile(
    rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----([A-Za-z0-9+/=\s]{1,100000})-----END (?:TRUSTED )?CERTIFICATE-----"
)
# Universal tags of ASN.1 (X.690).
INTEGER, UTF8, SEQUENCE, SET, VERSION = 0x02, 0x0C, 0x30, 0x31, 0xA0
ENCODINGS = {
    UTF8: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1A: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}


def for_guest(setting: str, read: Reader, root: Path = Path("/")) -> dict[str, bytes]:
    """What the setting `ca` asks for: by the name OpenSSL looks it up by (`HASH.N`), each certificate as PEM.

    Raises UsageError for a file without any.
    """
    if setting == NONE:
        return {}
    if setting == HOST:
        return named(certificate for content in _added(root) for certificate in certificates(content))
    try:
        named_ones = named(certificates(read(setting, MOST_FILE)))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the certificate authorities in {setting}", cause=files.why(error)) from error
    if not named_ones:
        raise UsageError(f"there is no certificate in {setting}", hint="use `host`, `none`, or a PEM file for `ca`")
    return named_ones


def _added(root: Path) -> Iterator[bytes]:
    """The files an administrator put there; one that cannot be read is as good as none."""
    for place in PLACES:
        for path in sorted((root / place).rglob("*"))[:MOST_FILES]:
            with contextlib.suppress(OSError, ValueError):
                if stat.S_ISREG(path.stat().st_mode):
                    yield files.read(path, MOST_FILE)


def certificates(content: bytes) -> Iterator[bytes]:
    """The certificates in a PEM file, as DER. What else is in it, a key above all, is left where it is."""
    for match in _PEM.finditer(content):
        with contextlib.suppress(ValueError):
            whole = base64.b64decode(b"".join(match[1].split()), validate=True)
            der = whole[: _ends(whole, 0)]  # OpenSSL's own settings follow one that is TRUSTED
            subject_hash(der)
            yield der


def named(data: Iterable[bytes]) -> dict[str, bytes]:
    """At most MOST of them, none twice."""
    by_name: dict[str, bytes] = {}
    seen: set[bytes] = set()
    room = MOST_BYTES
    for der in data:
        if der in seen or len(by_name) >= MOST or len(der) > room:
            continue
        seen.add(der)
        room -= len(der)
        digest = subject_hash(der)
        number = sum(name.startswith(digest) for name in by_name)
        by_name[f"{digest}.{number}"] = pem(der)
    return by_name


def pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN CERTIFICATE-----", *lines, b"-----END CERTIFICATE-----", b""])


def subject_hash(der: bytes) -> str:
    """As `openssl x509 -subject_hash` has it (X509_NAME_hash, crypto/x509/x509_cmp.c): of the name's canonical form."""
    name = b"".join(_canonical(part) for part in _children(subject(der)))
    return hashlib.sha1(name, usedforsecurity=False).digest()[3::-1].hex()


def subject(der: bytes) -> bytes:
    """The content of a certificate's subject (RFC 5280, 4.1). Raises ValueError for what is none."""
    (tag, certificate), *_ = _items(der)
    (_, body), *_ = _items(certificate)
    fields = [item for item in _items(body) if item[0] != VERSION]
    if tag != SEQUENCE or len(fields) < 6 or fields[0][0] != INTEGER or fields[4][0] != SEQUENCE:  # noqa: PLR2004
        raise ValueError("it is not a certificate")
    return fields[4][1]


def _canonical(part: bytes) -> bytes:
    """A relative name: its values in UTF-8, lower case, without spaces at the ends and with single ones inside."""
    rows = []
    for row in _children(part):
        (_, kind), (tag, value) = _items(row)[:2]
        if tag in ENCODINGS:
            text = value.decode(ENCODINGS[tag], "replace").encode("utf-8")
            tag, value = UTF8, re.sub(rb"[ \t\n\v\f\r]+", b" ", text.strip(b" \t\n\v\f\r")).lower()
        rows.append(_item(SEQUENCE, _item(0x06, kind) + _item(tag, value)))
    return _item(SET, b"".join(sorted(rows)))


def _children(content: bytes) -> list[bytes]:
    return [value for _, value in _items(content)]


def _items(content: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of each element. Raises ValueError."""
    items, at = [], 0
    while at < len(content):
        end = _ends(content, at)
        items.append((content[at], content[_begins(content, at) : end]))
        at = end
    if not items:
        raise ValueError("it is empty")
    return items


def _begins(content: bytes, at: int) -> int:
    """Where the content of the element at `at` begins: after its tag and its length."""
    if at + 2 > len(content):
        raise ValueError("it is truncated")
    return at + 2 + (content[at + 1] & 0x7F if content[at + 1] & 0x80 else 0)


def _ends(content: bytes, at: int) -> int:
    begin = _begins(content, at)
    length = int.from_bytes(content[at + 2 : begin], "big") if content[at + 1] & 0x80 else content[at + 1]
    if begin + length > len(content):
        raise ValueError("it is truncated")
    return begin + length


def _item(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 - the short form of a length
        return bytes([tag, size]) + content
    raw = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(raw)]) + raw + content
