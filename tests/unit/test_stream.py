"""The conversation with the guest's agent over a real socket, with a guest that does what it should not."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox.errors import CollectError
from git_sandbox.protocol import stream
from git_sandbox.protocol.stream import StreamLimits
from support.examples import examples

OK = b'{"ok": true}'
QUICK = StreamLimits(stale=100_000, header=1000, chunk=1000, total=5000, pieces=20, idle=0.3, overall=2.0)


def header(nonce: str, data: bytes = b"{}", length: int | None = None) -> bytes:
    return b"git-sandbox %s %d\n" % (nonce.encode(), len(data) if length is None else length) + data


def pieces(*chunks: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(chunk)) + chunk for chunk in chunks)


def end(data: bytes = OK) -> bytes:
    return struct.pack(">II", 0, len(data)) + data


@contextlib.contextmanager
def agent(answer: Callable[[socket.socket, str], None]) -> Iterator[socket.socket]:
    """The host's end of a connection to a guest that reads one request and then does `answer`, and closes."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, contextlib.suppress(OSError):
            line = theirs.makefile("rb").readline()
            answer(theirs, json.loads(line)["nonce"])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours:
            yield ours
    finally:
        thread.join(10)
        assert not thread.is_alive()


def replies(make: Callable[[str], bytes]) -> Callable[[socket.socket, str], None]:
    return lambda sock, nonce: sock.sendall(make(nonce))


def talk(answer: Callable[[socket.socket, str], None], limits: StreamLimits = QUICK) -> tuple[bytes, list[bytes]]:
    with agent(answer) as sock:
        reply = stream.request(sock, "export", known=["a" * 40], limits=limits)
        return reply.header, list(reply.chunks)


def refused(answer: Callable[[socket.socket, str], None], match: str = "", limits: StreamLimits = QUICK) -> None:
    start = time.monotonic()
    with pytest.raises(CollectError) as caught:
        talk(answer, limits)
    assert time.monotonic() - start < limits.overall + 3
    assert match in f"{caught.value.message}: {caught.value.cause}"


def test_a_reply() -> None:
    got = talk(replies(lambda nonce: header(nonce, b'{"a": 1}') + pieces(b"one", b"two") + end()))
    assert got == (b'{"a": 1}', [b"one", b"two"])


def test_a_reply_in_single_bytes() -> None:
    def answer(sock: socket.socket, nonce: str) -> None:
        for byte in header(nonce) + pieces(b"one") + end():
            sock.sendall(bytes([byte]))

    assert talk(answer) == (b"{}", [b"one"])


def test_the_request_is_one_line_of_json() -> None:
    seen: list[bytes] = []
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            seen.append(theirs.makefile("rb").readline())
            theirs.sendall(header(json.loads(seen[0])["nonce"]) + end())

    thread = threading.Thread(target=serve)
    thread.start()
    with ours:
        assert stream.call(ours, "status", extra={"verbose": True}, limits=QUICK) == b"{}"
    thread.join()
    request = json.loads(seen[0])
    assert (request["op"], request["verbose"], request["known"]) == ("status", True, [])
    assert len(request["nonce"]) == 32


@pytest.mark.parametrize(
    "stale",
    [b"", b"\n", b"boot messages\n", b"git-sandbox 0123 2\n{}", b"git-sandbox ", b"git-sandbox git-sandbox ",
     bytes(range(256)) * 300],
    ids=len,
)  # fmt: skip
def test_what_an_earlier_conversation_left_is_skipped(stale: bytes) -> None:
    assert talk(replies(lambda nonce: stale + header(nonce) + end())) == (b"{}", [])


def test_a_sign_of_life_is_waited_for_not_as_long_as_the_reply() -> None:
    with agent(replies(lambda nonce: b"\n" + header(nonce) + end())) as sock:
        assert stream.request(sock, "export", limits=QUICK, alive=20).header == b"{}"
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(CollectError) as silent:
        stream.request(ours, "export", alive=0.1)
    assert silent.value.cause == "no byte arrived for 0.1 s"


def test_a_guest_that_trickles_holds_nobody_up() -> None:
    """Something comes all the time, but neither a reply before its time, nor one at a pace."""
    limits = StreamLimits(idle=0.3, begin=0.5, pace=1000, overall=60.0)

    def trickle(sock: socket.socket, begin: bytes, each: bytes) -> None:
        sock.sendall(begin)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            sock.sendall(each)
            time.sleep(0.02)

    for begin, each in ((b"", b"\n"), (b"%s", b"\n"), (b"%s", pieces(b"x"))):

        def answer(sock: socket.socket, nonce: str, begin: bytes = begin, each: bytes = each) -> None:
            trickle(sock, header(nonce) if begin else b"", each)

        started = time.monotonic()
        with pytest.raises(CollectError) as caught:
            talk(answer, limits)
        assert time.monotonic() - started < 10
        assert "took longer than" in caught.value.cause or "was announced" in caught.value.cause


def test_too_much_of_it_is_refused() -> None:
    refused(replies(lambda nonce: b"x" * 200_000 + header(nonce) + end()), "of other data")


def test_a_small_request_with_data_is_refused() -> None:
    with agent(replies(lambda nonce: header(nonce) + pieces(b"x") + end())) as sock, pytest.raises(CollectError):
        stream.call(sock, "status", limits=QUICK)


def test_a_failure_the_guest_reports() -> None:
    refused(
        replies(lambda nonce: header(nonce) + end(b'{"ok": false, "error": "no space \\udcff\\u001b[31m"}')), "no space"
    )


BROKEN: dict[str, Callable[[str], bytes]] = {
    "nothing": lambda _nonce: b"",
    "wrong nonce": lambda _nonce: header("0" * 32) + end(),
    "no length": lambda nonce: f"git-sandbox {nonce} \n".encode(),
    "negative length": lambda nonce: header(nonce, length=-1),
    "long length": lambda nonce: f"git-sandbox {nonce} {'1' * 50}\n".encode(),
    "endless length": lambda nonce: f"git-sandbox {nonce} {'1' * 5000}".encode(),
    "unicode digits": lambda nonce: f"git-sandbox {nonce} \u0663\n".encode(),
    "big header": lambda nonce: header(nonce, length=1001),
    "header cut": lambda nonce: header(nonce, length=3),
    "no end": header,
    "big chunk": lambda nonce: header(nonce) + pieces(b"x" * 1001) + end(),
    "huge chunk": lambda nonce: header(nonce) + b"\xff\xff\xff\xff",
    "chunk cut": lambda nonce: header(nonce) + pieces(b"xyz")[:-1],
    "too much": lambda nonce: header(nonce) + pieces(*[b"x" * 1000] * 6) + end(),
    "too many": lambda nonce: header(nonce) + pieces(*[b"x"] * 21) + end(),
    "trailer cut": lambda nonce: header(nonce) + end()[:-1],
    "trailer huge": lambda nonce: header(nonce) + struct.pack(">II", 0, 1 << 31),
    "trailer no json": lambda nonce: header(nonce) + end(b"nope"),
    "trailer deep": lambda nonce: header(nonce) + end(b"[" * 60_000),
    "trailer list": lambda nonce: header(nonce) + end(b"[true]"),
    "trailer without ok": lambda nonce: header(nonce) + end(b"{}"),
    "trailer ok is text": lambda nonce: header(nonce) + end(b'{"ok": "true"}'),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_replies(name: str) -> None:
    refused(replies(BROKEN[name]))


@pytest.mark.parametrize("sent", [0, 5, 48, 52, 58])
def test_a_stall(sent: int) -> None:
    def answer(sock: socket.socket, nonce: str) -> None:
        sock.sendall((header(nonce) + pieces(b"one") + end())[:sent])
        sock.recv(1)  # until the host hangs up

    refused(answer, "no byte arrived")


def test_a_trickle_ends_at_the_deadline() -> None:
    def answer(sock: socket.socket, _nonce: str) -> None:
        while True:
            sock.sendall(b"x")
            time.sleep(0.05)

    refused(answer, "took longer", StreamLimits(idle=1.0, overall=0.5))


@pytest.mark.parametrize("start", [b"", None], ids=["garbage", "chunks"])
def test_an_endless_reply(start: bytes | None) -> None:
    def answer(sock: socket.socket, nonce: str) -> None:
        if start is None:
            sock.sendall(header(nonce))
        while True:
            sock.sendall(pieces(b"x" * 1000))

    refused(answer)


def test_a_guest_that_does_not_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(CollectError, match="incomplete") as caught:
        stream.request(ours, "export", known=["a" * 40] * 50_000, limits=QUICK)
    assert "does not read" in caught.value.cause


def test_a_guest_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(CollectError):
        stream.request(ours, "export", limits=QUICK)


FUZZ = settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])


def only_refuses(make: Callable[[str], bytes]) -> None:
    with contextlib.suppress(CollectError):
        talk(replies(make))


@FUZZ
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes(noise: bytes, after_header: bool) -> None:
    only_refuses(lambda nonce: (header(nonce) if after_header else b"") + noise)


@FUZZ
@given(st.integers(0, 200), st.integers(0, 4), st.binary(max_size=5))
def test_mutated_replies(at: int, drop: int, insert: bytes) -> None:
    def make(nonce: str) -> bytes:
        whole = header(nonce, b'{"version": 1}') + pieces(b"one", b"two") + end()
        return whole[:at] + insert + whole[at + drop :]

    only_refuses(make)


@FUZZ
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=15), st.lists(st.integers(1, 60), max_size=20))
def test_any_chunks_arrive_however_they_are_cut(chunks: list[bytes], cuts: list[int]) -> None:
    def answer(sock: socket.socket, nonce: str) -> None:
        data = header(nonce) + pieces(*chunks) + end()
        for cut in cuts:
            sock.sendall(data[:cut])
            data = data[cut:]
        sock.sendall(data)

    assert talk(answer) == (b"{}", chunks)
