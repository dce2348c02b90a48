"""Every parser of a guest's bytes, with anything: an answer or a refusal, and never another meaning."""

from __future__ import annotations

import asyncio
import http.client
import io
from http.server import BaseHTTPRequestHandler

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.egress import credentials, gitaccess, head, hello, names, policyfile, service, socks
from git_sandbox.egress.flow import Flow, body
from git_sandbox.egress.head import Body
from git_sandbox.egress.hello import NotReadable
from git_sandbox.egress.refusal import Refused
from git_sandbox.errors import SandboxError
from support.egress import client_hello
from support.examples import examples

PIECES = st.sampled_from([
    b"GET", b"POST", b" ", b"  ", b"\t", b"http://a.test/", b"/", b"*", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r",
    b"Host: a.test", b"host: b.test", b"Content-Length: 4", b"content-length: 0", b"Transfer-Encoding: chunked",
    b"X: y", b" folded", b":", b"\0", b"\x0b", b"\xff", b"abcd", b"Connection: close",
    b"GET http://a.test/ HTTP/1.1\r\nHost: a.test",
])  # fmt: skip
HEADS = st.lists(PIECES, max_size=14).map(b"".join).map(lambda text: text + b"\r\n\r\n")
GOOD = st.lists(
    st.sampled_from([b"Host: a.test\r\n", b"X: y\r\n", b"Content-Length: 4\r\n", b"Content-Length: 5\r\n", b"X : y\r\n",
                     b"Transfer-Encoding: chunked\r\n", b"Y:\tz \r\n", b" z\r\n", b"Content-Length: 0x4\r\n"]),
    max_size=5,
).map(lambda fields: b"POST /path HTTP/1.1\r\n" + b"".join(fields) + b"\r\n")  # fmt: skip


class Oracle(BaseHTTPRequestHandler):
    """The standard library's reader of requests."""

    def __init__(self, data: bytes) -> None:
        self.rfile = io.BytesIO(data)
        self.failed = False
        self.raw_requestline = self.rfile.readline()
        self.requestline = ""
        self.failed = not self.parse_request()

    def send_error(self, *_args: object, **_named: object) -> None:
        self.failed = True


@settings(max_examples=examples(150))
@given(st.one_of(HEADS, GOOD))
def test_a_request_that_is_read_is_read_alike_by_another_program(data: bytes) -> None:
    try:
        request = head.request(data)
    except Refused as refused:
        assert refused.status == 400  # noqa: PT017 - one of two ends
        return
    other = Oracle(data)
    assert not other.failed
    assert (other.command, other.path) == (request.method, request.target)
    assert [each.strip(" \t") for each in other.headers.get_all("Host", [])] == [
        each.decode("latin-1") for each in request.all(b"host")
    ]
    lengths = other.headers.get_all("Content-Length", [])
    assert len(lengths) <= 1
    assert not (lengths and other.headers.get("Transfer-Encoding"))
    assert (request.body.kind == "length") == bool(lengths)
    assert (request.body.kind == "chunked") == bool(other.headers.get("Transfer-Encoding"))
    written = head.encode(f"{request.method} {request.target} HTTP/1.1", head.passed(request.fields))
    assert written.count(b"\r\n") == written.count(b"\n") == written.count(b"\r")
    assert other.rfile.read() == b"", "nothing is left for a second request"


@settings(max_examples=examples(100))
@given(st.one_of(st.binary(max_size=200), HEADS.map(lambda text: b"HTTP/1.1 200 OK\r\n" + text)))
def test_any_answer_of_a_server_is_read_or_refused(data: bytes) -> None:
    try:
        answer = head.response(data)
        answer.body("GET")
    except Refused as refused:
        assert refused.status == 502  # noqa: PT017 - one of two ends
        return
    parsed = http.client.parse_headers(io.BytesIO(data.split(b"\r\n", 1)[1]))
    assert len(parsed.get_all("Content-Length", [])) <= 1


class Cut:
    """A reader that gives what there is in pieces of these sizes."""

    def __init__(self, data: bytes, cuts: list[int]) -> None:
        self.pieces = []
        for size in [*cuts, len(data)]:
            piece, data = data[:size], data[size:]
            self.pieces += [piece] if piece else []

    async def read(self, most: int) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if piece[most:]:
            self.pieces.insert(0, piece[most:])
        return piece[:most]


class Nowhere:
    """A writer that takes everything."""

    class Transport:
        def set_write_buffer_limits(self, _high: int, _low: int) -> None:
            pass

    transport = Transport()

    def write(self, _data: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass


def flow(data: bytes, cuts: list[int]) -> Flow:
    return Flow(Cut(data, cuts), Nowhere())  # type: ignore[arg-type]


async def whole(data: bytes, cuts: list[int], kind: Body) -> tuple[bytes, bytes]:
    source, found = flow(data, cuts), b""
    async for piece in body(source, kind):
        found += piece
    while await source.more():
        pass
    return found, bytes(source.buffer)


@settings(max_examples=examples(60))
@given(st.lists(PIECES, max_size=8).map(b"".join), st.lists(st.integers(1, 9), max_size=60), st.binary(max_size=9))
def test_a_head_is_the_same_however_it_is_cut(text: bytes, cuts: list[int], rest: bytes) -> None:
    async def read(cuts: list[int]) -> tuple[bytes, bytes] | int:
        source = flow(text + head.END + rest, cuts)
        try:
            found = await source.until(head.END, head.MOST_HEAD)
        except Refused as refused:
            return refused.status
        while await source.more():
            pass
        return found, bytes(source.buffer)

    whole, cut = asyncio.run(read([])), asyncio.run(read(cuts))
    expected = text + head.END + rest
    at = expected.index(head.END) + 4
    assert whole == (expected[:at], expected[at:])
    assert cut == whole or (cut == 400 and head.bare(expected[:at])), "what is wrong is seen before the end"


@settings(max_examples=examples(100))
@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    st.lists(st.integers(1, 9), max_size=9),
    st.binary(max_size=9),
)
def test_a_body_in_pieces_is_itself_and_what_follows_stays(pieces: list[bytes], cuts: list[int], rest: bytes) -> None:
    data = b"".join(b"%X\r\n%s\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"
    assert asyncio.run(whole(data + rest, cuts, Body("chunked"))) == (b"".join(pieces), rest)
    plain = b"".join(pieces)
    assert asyncio.run(whole(plain + rest, cuts, Body("length", len(plain)))) == (plain, rest)


@settings(max_examples=examples(100))
@given(
    st.lists(
        st.sampled_from([b"1", b"5", b"a", b"\r\n", b"\n", b";", b"x", b"0\r\n\r\n", b"-", b" ", b"\0"]), max_size=12
    )
)
def test_any_pieces_end_or_are_refused(pieces: list[bytes]) -> None:
    async def work() -> None:
        try:
            await whole(b"".join(pieces), [], Body("chunked"))
        except Refused as refused:
            assert refused.status in (400, 431, 502)  # noqa: PT017 - one of two ends

    asyncio.run(work())


def split(record: bytes, size: int) -> bytes:
    """The same handshake in smaller records."""
    content = record[5:]
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    return b"".join(record[:3] + len(each).to_bytes(2, "big") + each for each in pieces)


def read_name(data: bytes) -> str | None:
    found = hello.message(data)
    return None if found is None else hello.server_name(found[0])


@pytest.mark.parametrize("name", ["a.test", "xn--bcher-kva.test", None])
def test_the_name_of_a_real_hello_is_found_however_it_is_cut(name: str | None) -> None:
    record = client_hello(name)
    for data in (record, split(record, len(record) // 20), split(record, 100), record + b"more"):
        assert read_name(data) == (name or "")
    for size in range(len(record)):
        assert read_name(record[:size]) is None


def test_a_hello_in_very_many_pieces_is_refused_before_it_is_whole() -> None:
    pieces = split(client_hello("a.test"), 1)
    with pytest.raises(NotReadable, match="fragments"):
        hello.message(pieces)
    assert hello.message(pieces[: 6 * hello.MOST_RECORDS - 1]) is None
    with pytest.raises(NotReadable):
        hello.message(pieces[: 6 * hello.MOST_RECORDS])
    answer = split(b"\x16\x03\x03\x00\x2a\x02\x00\x00\x26" + bytes(38), 1)
    with pytest.raises(NotReadable):
        hello.message(answer, hello.SERVER_HELLO)


def with_extension(record: bytes, kind: int, content: bytes) -> bytes:
    """The same hello with one more extension."""
    extension = kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
    message = record[9:]
    at = 34
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at]
    listed = message[at + 2 :] + extension
    message = message[:at] + len(listed).to_bytes(2, "big") + listed
    handshake = b"\x01" + len(message).to_bytes(3, "big") + message
    return record[:3] + len(handshake).to_bytes(2, "big") + handshake


def test_a_hello_that_hides_or_doubles_its_name_is_refused() -> None:
    record = client_hello("a.test")
    assert read_name(with_extension(record, 0x1234, b"x")) == "a.test"
    second = b"\x00\x09\x00\x00\x06b.test"
    for kind, content in ((hello.ENCRYPTED_HELLO, b"\0" * 40), (hello.SERVER_NAME, second)):
        with pytest.raises(NotReadable):
            read_name(with_extension(record, kind, content))
    bare = client_hello(None)
    assert read_name(with_extension(bare, hello.SERVER_NAME, second)) == "b.test"
    bad = [
        b"", b"\x00\x00", second + b"x", b"\x00\x09\x01\x00\x06b.test", b"\x00\x12" + second[2:] * 2,
        b"\x00\x08\x00\x00\x05b.te\xff", b"\x00\x0c\x00\x00\x09127.0.0.1"[:-1], b"\x00\x0a\x00\x00\x07b.test\0",
    ]  # fmt: skip
    for content in bad:
        with pytest.raises(NotReadable):
            read_name(with_extension(bare, hello.SERVER_NAME, content))


@settings(max_examples=examples(200))
@given(st.data())
def test_a_changed_hello_has_its_name_or_is_refused(data: st.DataObject) -> None:
    record = bytearray(HELLO)
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    try:
        name = read_name(bytes(record))
    except NotReadable:
        return
    assert name is None or name == "" or names.host(name) == name


HELLO = client_hello("a.test")


@settings(max_examples=examples(100))
@given(st.binary(max_size=60))
def test_any_socks_is_a_place_or_refused(data: bytes) -> None:
    async def work() -> None:
        try:
            host, port = await socks.request(flow(b"\x05\x01\x00\x05" + data, []))
        except Refused as refused:
            assert refused.status == 400  # noqa: PT017 - one of two ends
        else:
            assert names.host(host) == host
            assert 0 < port < 65536

    asyncio.run(work())


@settings(max_examples=examples(100))
@given(st.binary(max_size=60) | st.sampled_from([b"null", b"[]", b'{"schema":1}', b'"x"', b"[" * 5000]))
def test_any_file_is_a_policy_or_an_error(data: bytes) -> None:
    for reader in (policyfile.decode, service.decode, service.ready):
        with pytest.raises((ValueError, KeyError, TypeError, AttributeError, SandboxError, RecursionError)):
            reader(data)


@settings(max_examples=examples(60))
@given(
    st.dictionaries(
        st.sampled_from([*credentials.PLACES, *credentials.SOURCES, "hosts", "expiry", "x"]),
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.lists(st.text(max_size=8), max_size=3)
        ),
    )
)
def test_any_table_is_a_credential_or_an_error(table: dict[str, object]) -> None:  # fmt: skip
    try:
        found = credentials.declared("key", table)
    except SandboxError:
        return
    assert found.hosts
    assert found.source.words


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/a/b.git/info/refs?service=git-upload-pack", "fetch"),
        ("GET", "/a/b.git/info/refs?service=git-receive-pack", "push"),
        ("POST", "/a/b.git/git-receive-pack", "push"),
        ("POST", "/a/b.git/git%2Dreceive-pack", "push"),
        ("POST", "/a/b.git/GIT-RECEIVE-PACK", "push"),
        ("GET", "/a/b.git/info/refs?a=b&service=git-receive-pack", "push"),
        ("GET", "/a/b.git/info/refs?service=git-upload-pack&x", "other"),
        ("GET", "/a/../b.git/info/refs?service=git-upload-pack", "other"),
        ("GET", "/a/%2e%2e/b.git/info/refs?service=git-upload-pack", "other"),
        ("POST", "/a/b.git/git-upload-pack", "other"),
        ("GET", "/", "other"),
    ],
)
def test_what_git_wants(method: str, path: str, kind: str) -> None:
    request = head.request(f"{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
    assert gitaccess.wish(request, path).kind == kind


@pytest.mark.parametrize(
    "path",
    [
        "/a/b;/git-upload-pack", "/a/..;/b/git-upload-pack", "/a/./git-upload-pack", "/a/../git-upload-pack",
        "/../a/git-upload-pack",
        "/a/%2e/git-upload-pack", "/a/%2E%2e/git-upload-pack", "/a/..%2fb/git-upload-pack", "/a%3b/git-upload-pack",
        "/a/%252e%252e/b/git-upload-pack", "/a/%25252e/git-upload-pack", "//a/git-upload-pack", "/a//git-upload-pack",
        "/a/..\\b/git-upload-pack", "/a%zz/git-upload-pack",
    ],
)  # fmt: skip
def test_a_fetch_of_git_has_a_path_that_all_servers_read_alike(path: str) -> None:
    fields = "Content-Type: application/x-git-upload-pack-request\r\nContent-Length: 4\r\n"
    for each, kind in ((path, "other"), ("/a/b.git/git-upload-pack", "fetch"), ("/a/..b/git-upload-pack", "fetch")):
        request = head.request(f"POST {each} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n".encode())
        assert gitaccess.wish(request, each).kind == kind
    listed = path.replace("/git-upload-pack", "/info/refs?service=git-upload-pack")
    request = head.request(f"GET {listed} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
    assert gitaccess.wish(request, listed).kind == "other"
