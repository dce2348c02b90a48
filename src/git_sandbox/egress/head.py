"""The head of an HTTP/1 message, parsed so that no two programs can read it differently (RFC 9112).

Lines end with CR LF, nothing is folded, a name is followed by its colon at once, there is one way to tell how long the
body is. What is not so is refused and not repaired: that is what request smuggling lives from.
"""

from __future__ import annotations

import re

from git_sandbox.egress import names
from git_sandbox.egress.refusal import Refused
from git_sandbox.later import dataclass

MOST_HEAD = 64 << 10  # bytes
MOST_FIELDS = 128
MOST_TARGET = 16 << 10  # bytes
MOST_LENGTH = 1 << 50  # bytes of a body that says how long it is
NONE, LENGTH, CHUNKED, UNTIL_END = "none", "length", "chunked", "until end"
END = b"\r\n\r\n"
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_REQUEST = re.compile(rb"([A-Z][A-Z-]{0,19}) ([!-~]+) HTTP/1\.([01])")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_ABSOLUTE = re.compile(r"http://([^/?#@\\]+)((?:[/?][^#\\]*)?)", re.IGNORECASE)
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_DIGITS = re.compile(rb"[0-9]{1,16}")
# Fields between neighbours; what they say is said anew on each side.
HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"content-length",
})  # fmt: skip
_KEPT = HOP | {b"host", b"authorization", b"expect"}  # what `Connection` may not take away

Fields = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Body:
    """How long it is: `kind` and, for LENGTH, bytes."""

    kind: str = NONE
    length: int = 0


@dataclass(frozen=True)
class Request:
    """`minor`: of HTTP/1.x. `fields`: as they came, names in lower case."""

    method: str
    target: str
    minor: int
    fields: Fields
    body: Body

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]

    @property
    def keeps(self) -> bool:
        """Whether the connection goes on afterwards."""
        return self.minor == 1 and b"close" not in tokens(self.all(b"connection"))

    @property
    def websocket(self) -> bool:
        upgrade = tokens(self.all(b"upgrade"))
        return upgrade == [b"websocket"] and b"upgrade" in tokens(self.all(b"connection")) and self.method == "GET"


@dataclass(frozen=True)
class Response:
    minor: int
    status: int
    reason: bytes
    fields: Fields

    def body(self, method: str) -> Body:
        """Raises Refused for one that says two things about its length."""
        if method == "HEAD" or self.status < 200 or self.status in (204, 304):  # noqa: PLR2004 - RFC 9112, 6.3
            return Body()
        return framing(self.fields, 502, self.minor) or Body(UNTIL_END)

    @property
    def keeps(self) -> bool:
        data = tokens([value for key, value in self.fields if key == b"connection"])
        return self.minor == 1 and b"close" not in data


def bare(data: bytes | bytearray, begin: int = 0) -> bool:
    """Whether a CR or LF stands alone in it, from `begin` on."""
    return _BARE.search(data, begin) is not None


def tokens(values: list[bytes]) -> list[bytes]:
    """The words of a field that is a list, in lower case."""
    return [word.strip(b" \t").lower() for value in values for word in value.split(b",") if word.strip(b" \t")]


def request(data: bytes) -> Request:
    """`data`: up to and with the empty line. Raises Refused."""
    first, fields = _split(data, 400)
    match = _REQUEST.fullmatch(first)
    if match is None or len(match[2]) > MOST_TARGET:
        raise Refused(400, "the first line of the request is not one of HTTP/1")
    minor = int(match[3])
    body = framing(fields, 400, minor) or Body()
    return Request(match[1].decode(), match[2].decode(), minor, fields, body)


def response(data: bytes) -> Response:
    """Raises Refused."""
    first, fields = _split(data, 502)
    match = _STATUS.fullmatch(first)
    if match is None:
        raise Refused(502, "the server's answer is not one of HTTP/1")
    return Response(int(match[1]), int(match[2]), match[3] or b"", fields)


def _split(data: bytes, status: int) -> tuple[bytes, Fields]:
    if len(data) > MOST_HEAD or not data.endswith(END) or bare(data) or b"\0" in data:
        raise Refused(status, "the head of the message is not valid HTTP/1")
    first, *lines = data[: -len(END)].split(b"\r\n")
    if len(lines) > MOST_FIELDS:
        raise Refused(status, "the message has too many header fields")
    return first, tuple(_field(line, status) for line in lines)


def _field(line: bytes, status: int) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise Refused(status, "a header field of the message is not valid HTTP/1")
    return name.lower(), value.strip(b" \t")


def framing(fields: Fields, status: int, minor: int) -> Body | None:
    """How long the body is, None when nothing is said. Raises Refused where two programs could differ."""
    coded = [value for name, value in fields if name == b"transfer-encoding"]
    lengths = [value for name, value in fields if name == b"content-length"]
    if coded:
        if lengths or minor == 0 or len(coded) > 1 or coded[0].lower() != b"chunked":
            raise Refused(status, "the message has more than one length")
        return Body(CHUNKED)
    if not lengths:
        return None
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]) or int(lengths[0]) > MOST_LENGTH:
        raise Refused(status, "the message has more than one length")
    return Body(LENGTH, int(lengths[0]))


@dataclass(frozen=True)
class Target:
    """Where a request goes: host and port, and the path with its query."""

    host: str
    port: int
    path: str


def absolute(request: Request) -> Target | None:
    """Of `http://…`, None for another form. Raises Refused for a URL with more in it than host, port and path."""
    if request.target.startswith("/") or request.target == "*":
        return None
    match = _ABSOLUTE.fullmatch(request.target)
    if match is None:
        raise Refused(400, "the target of the request is not a plain `http://` URL", "use CONNECT for https")
    path = match[2] if match[2].startswith("/") else f"/{match[2]}"
    return Target(*place(match[1], 80), path)


def place(text: str, default: int | None) -> tuple[str, int]:
    """Raises Refused."""
    try:
        return names.authority(text, default)
    except ValueError as error:
        raise Refused(400, f"the request names no host: {error}") from None


def same_host(request: Request, host: str, port: int, default: int) -> None:
    """Raises Refused unless the one Host field names that place. HTTP/1.0 may leave it away."""
    given = request.all(b"host")
    if not given and request.minor == 0:
        return
    if len(given) != 1:
        raise Refused(400, "the request does not have exactly one Host field")
    if place(given[0].decode("latin-1"), default) != (host, port):
        raise Refused(403, f"the Host field does not match {names.joined(host, port)}")


def passed(fields: Fields) -> list[tuple[bytes, bytes]]:
    """Those that are not between neighbours."""
    named = set(tokens([value for name, value in fields if name == b"connection"])) - _KEPT
    return [(name, value) for name, value in fields if name not in HOP and name not in named]


def encode(first: str, fields: list[tuple[bytes, bytes]]) -> bytes:
    lines = [first.encode("latin-1"), *(name + b": " + value for name, value in fields)]
    return b"\r\n".join(lines) + END
