"""Puts real values into requests, finds misplaced placeholders, and removes real values from responses.

A request to a declared host, over TLS that this side verifies, has the placeholder in the declared place: there it is
replaced. A placeholder that is anywhere else in what can be read here ends the request.
"""

from __future__ import annotations

import base64
import binascii
import functools
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, unquote_to_bytes

from git_sandbox.egress.credentials import MOST_CREDENTIALS, Credential
from git_sandbox.egress.refusal import Refused
from git_sandbox.later import dataclass

FieldList = list[tuple[bytes, bytes]]
AUTHORIZATION = b"authorization"


@dataclass(frozen=True)
class Parts:
    """What of a request can hold a credential."""

    path: str
    fields: FieldList


def replaced(parts: Parts, values: Mapping[Credential, str], known: Iterable[Credential]) -> Parts:
    """The request with real values for the placeholders of `values`, each in its place. Raises Refused for one of
    `known` that is somewhere else.
    """
    blank, real = parts, parts
    for credential, value in values.items():
        blank = _set(blank, credential, "")
        real = _set(real, credential, value)
    first = leaked(blank, known)
    if first:
        raise misplaced(first)
    return real


def brokered(parts: Parts, credential: Credential, value: str, known: Iterable[Credential]) -> Parts:
    """The request of a base URL: whatever it has in the declared place gives way to the value. Raises Refused."""
    name = _field(credential)
    fields = [row for row in parts.fields if row[0] != name]
    path = _without(parts.path, credential.field) if credential.place == "query" else parts.path
    first = leaked(Parts(path, fields), known)
    if first:
        raise misplaced(first)
    if credential.place == "query":
        return Parts(f"{path}{'&' if '?' in path else '?'}{credential.field}={quote(value, safe='')}", fields)
    return Parts(path, [*fields, (name, _written(credential, value))])


def misplaced(credential: Credential) -> Refused:
    return Refused(403, f"the placeholder of the credential `{credential.name}` is in the wrong place")


def leaked(parts: Parts, known: Iterable[Credential]) -> Credential | None:
    """The credential whose placeholder is in any part, also percent-encoded, in hexadecimal or in base64."""
    texts = [parts.path.encode(), unquote_to_bytes(parts.path), unquote_to_bytes(unquote_to_bytes(parts.path))]
    for name, value in parts.fields:
        texts += [name, value, unquote_to_bytes(value), _decoded(value)[1] if name.endswith(AUTHORIZATION) else b""]
    every = b"\n".join(texts)
    folded = every.lower()  # names of fields were made lower case
    return next((credential for credential in known if _in(credential, every, folded)), None)


def _in(credential: Credential, text: bytes, folded: bytes) -> bool:
    return any(mark in text for mark in marks(credential)) or (
        bool(credential.placeholder) and credential.placeholder.lower().encode() in folded
    )


def marks(credential: Credential) -> tuple[bytes, ...]:
    """Its placeholder as programs write it, none where it has none."""
    return _marks(credential.placeholder) if credential.placeholder else ()


@functools.lru_cache(2 * MOST_CREDENTIALS)
def _marks(placeholder: str) -> tuple[bytes, ...]:
    return tuple(text.encode() for text in spellings(placeholder))


def in_name(host: str, known: Iterable[Credential]) -> Credential | None:
    """The credential whose placeholder is in the name of a host, which a resolver of somebody's would hear."""
    joined = host.replace(".", "").encode()
    return next((credential for credential in known if _in(credential, host.encode(), joined)), None)


def _field(credential: Credential) -> bytes:
    """The field it goes into; for a query none."""
    return {"header": credential.field.encode(), "query": b""}.get(credential.place, AUTHORIZATION)


def _written(credential: Credential, value: str) -> bytes:
    match credential.place:
        case "bearer":
            return b"Bearer " + value.encode()
        case "basic":
            return b"Basic " + base64.b64encode(f"{credential.field}:{value}".encode())
    return value.encode()


def _set(parts: Parts, credential: Credential, value: str) -> Parts:
    """With `value` where its placeholder is in the declared place."""
    if credential.place == "query":
        return Parts(_query(parts.path, credential, value), parts.fields)
    name = _field(credential)
    fields = [(key, _one(credential, text, value) if key == name else text) for key, text in parts.fields]
    return Parts(parts.path, fields)


def _one(credential: Credential, text: bytes, value: str) -> bytes:
    """The value of its field, if the placeholder is all there is, beside the scheme."""
    mark = credential.placeholder.encode()
    if credential.place == "header":
        scheme, _, rest = text.rpartition(b" ")
        return (scheme + b" " if scheme else b"") + value.encode() if rest == mark else text
    scheme, rest = _decoded(text) if credential.place == "basic" else (text[:7].lower(), text[7:])
    if credential.place == "bearer":
        return text[:7] + value.encode() if (scheme, rest) == (b"bearer ", mark) else text
    user, _, password = rest.partition(b":")
    if password != mark or (credential.field and user != credential.field.encode()):
        return text
    return b"Basic " + base64.b64encode(user + b":" + value.encode())


def _decoded(text: bytes) -> tuple[bytes, bytes]:
    """The scheme of an Authorization field, and what the base64 in it says."""
    scheme, _, rest = text.partition(b" ")
    try:
        rest = rest.strip()
        return scheme.lower(), base64.b64decode(rest + b"=" * (-len(rest) % 4))
    except (binascii.Error, ValueError):
        return scheme.lower(), b""


def _query(path: str, credential: Credential, value: str) -> str:
    before, mark, query = path.partition("?")
    placeholder = f"{credential.field}={credential.placeholder}"
    new = f"{credential.field}={quote(value, safe='')}"
    return before + mark + "&".join(new if word == placeholder else word for word in query.split("&"))


def _without(path: str, name: str) -> str:
    before, _, query = path.partition("?")
    rest = [word for word in query.split("&") if word and word.partition("=")[0] != name]
    return f"{before}?{'&'.join(rest)}" if rest else before


def forms(value: str, real: Parts) -> tuple[str, ...]:
    """How a value is written in a request: what an answer that repeats it would have in it."""
    pairs = (_decoded(text) for name, text in real.fields if name == AUTHORIZATION and text[:6].lower() == b"basic ")
    written = [text for _, text in pairs if value.encode() in text]
    return (*spellings(value), *(base64.b64encode(text).decode() for text in written))


def spellings(value: str) -> tuple[str, ...]:
    """A value as programs write it that repeat it: in a URL, JSON, HTML, hexadecimal, base64, in whatever text"""
    slashed = json.dumps(value)[1:-1]
    coded = {slashed, slashed.replace("/", "\\/")}
    coded |= {value.translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&'"}) for value in coded}
    quoted = {quote(value, safe=safe) for safe in ("", "/", "!*'()", "!*'();:@&=+$,/?#")}
    lower = {re.sub("%..", lambda escape: escape[0].lower(), text) for text in quoted}
    hexadecimal = value.encode().hex()
    every = {value, value.lower(), value.upper(), html.escape(value), html.escape(value).replace("x27", "39")}
    every |= coded | quoted | lower | {hexadecimal, hexadecimal.upper(), *_within(value.encode())}
    return tuple(sorted(every))


def _within(value: bytes) -> set[str]:
    """The characters of base64 that tell nothing but the value, wherever it is in the text that was encoded."""
    forms = set()
    for before in range(3):
        text = base64.b64encode(bytes(before) + value).decode()[-(-before * 8 // 6) : (before + len(value)) * 8 // 6]
        forms |= {text, text.translate({ord("+"): "-", ord("/"): "_"})}
    return forms


class Scan:
    """A body that goes out, looked through as it passes. A placeholder in it ends the request; or, where `hides`, has
    stars in its place: an agent that has looked at its environment repeats that to the host of its key for ever.
    """

    def __init__(self, known: Sequence[Credential], *, hides: bool = False) -> None:
        self.marks = [(credential, mark) for credential in known for mark in marks(credential)]
        self.kept = max((len(mark) for _, mark in self.marks), default=1) - 1
        self.tail = b""
        self.scrub = Scrub(mark.decode() for _, mark in self.marks) if hides else None

    def look(self, data: bytes) -> bytes:
        """What of it can go now; an empty piece is the end. Raises Refused."""
        if self.scrub is not None:
            return self.scrub.change(data)
        text = self.tail + data
        for credential, mark in self.marks:
            if mark in text:
                raise misplaced(credential)
        self.tail = text[-self.kept :] if self.kept else b""
        return data

    @property
    def hidden(self) -> bool:
        """Whether a placeholder was in it, and has not gone."""
        return self.scrub is not None and self.scrub.found


class Scrub:
    """What comes back, with stars in the place of real values: a server that repeats one does not tell the guest.

    Lengths stay, so the framing does. Only what can be the beginning of a value is held back, and nothing else waits.
    """

    def __init__(self, values: Iterable[str]) -> None:
        self.values = sorted({value.encode() for value in values if value}, key=len, reverse=True)
        self.held = b""
        self.found = False

    def fields(self, fields: FieldList) -> FieldList:
        return [(self._all(name), self._all(value)) for name, value in fields]

    def _all(self, text: bytes) -> bytes:
        for value in self.values:
            text = text.replace(value, b"*" * len(value))
        return text

    def change(self, data: bytes) -> bytes:
        """The next piece; an empty one is the end."""
        before = self.held + data
        text = self._all(before)
        self.found |= text != before
        kept = self._begun(text) if data else 0
        self.held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def _begun(self, text: bytes) -> int:
        """How many bytes at the end may be the beginning of a value."""
        longest = 0
        for value in self.values:
            at = text.find(value[:1], max(0, len(text) - len(value) + 1))
            while at >= 0 and not value.startswith(text[at:]):
                at = text.find(value[:1], at + 1)
            longest = max(longest, len(text) - at if at >= 0 else 0)
        return longest
