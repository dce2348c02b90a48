"""The guest's way to the proxy: what of it is pure, and all of it in a network namespace of this host's."""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.guest import destination, netlink, synthetic
from support.egress_guest import query
from support.examples import examples

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=1, max_size=5).map(lambda labels: ".".join([*labels, "example"]))


def client_hello(name: str) -> bytes:
    """As this host's OpenSSL writes it."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


HELLO = client_hello("some.example")


@given(NAME)
@settings(max_examples=examples(8))
def test_a_server_name_is_found_in_what_openssl_says(name: str) -> None:
    hello = client_hello(name)
    assert destination.name(hello) == name
    assert destination.complete(hello)
    assert not destination.complete(hello[:-1])


@given(st.binary(max_size=400) | st.tuples(st.integers(0, 500), st.integers(0, 255)))
@settings(max_examples=examples(100))
def test_any_bytes_have_a_name_that_can_be_a_hosts_or_none(mutation: bytes | tuple[int, int]) -> None:
    raw = bytearray(HELLO)
    if isinstance(mutation, bytes):
        raw = bytearray(mutation)
    else:
        raw[mutation[0] % len(raw)] = mutation[1]
    found = destination.name(bytes(raw))
    assert not found or destination.NAME.fullmatch(found)
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (b"GET / HTTP/1.1\r\nHost: A.example:8080\r\n\r\n", "a.example"),
        (b"GET / HTTP/1.0\r\nAccept: x\r\nhost:b.example.\r\n\r\nHost: c.example\r\n", "b.example"),
        (b"GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\n\r\n", ""),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", ""),
        (b"SSH-2.0-x\r\nHost: a.example\r\n", ""),
    ],
)
def test_host_of_a_request(request_: bytes, name: str) -> None:
    assert destination.name(request_) == name


def parsed(said: bytes) -> tuple[int, int, int, list[str]]:
    """(id, rcode, questions, addresses) of an answer, by an own reading of RFC 1035."""
    ident, flags, questions, answers = struct.unpack_from(">HHHH", said)
    found = [socket.inet_ntoa(said[len(said) - 16 * n + 12 : len(said) - 16 * n + 16]) for n in range(answers, 0, -1)]
    return ident, flags & 15, questions, found


@given(st.lists(NAME, min_size=1, max_size=10))
@settings(max_examples=examples(20))
def test_every_name_has_an_address_of_its_own_that_leads_back_to_it(names: list[str]) -> None:
    table = synthetic.Names()
    found = {name: parsed(synthetic.answer(query(name.upper()), table)) for name in names}
    for name, (ident, code, questions, addresses) in found.items():
        assert (ident, code, questions, len(addresses)) == (7, 0, 1, 1)
        assert table.name(addresses[0]) == name
        assert synthetic.ours(addresses[0])
    assert len({each[3][0] for each in found.values()}) == len(set(names))


def test_names_that_nobody_asked_for_make_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "MOST", 3)
    table = synthetic.Names()
    first = [table.address(name) for name in ("a", "b", "c")]
    assert table.address("a") == first[0]
    assert table.address("d") == first[1]  # of b, which was asked for longest ago
    assert [table.name(each) for each in first] == ["a", "d", "c"]
    assert table.name("192.0.2.1") is None


@given(st.binary(max_size=120))
@settings(max_examples=examples(100))
def test_any_datagram_has_an_answer_or_none(raw: bytes) -> None:
    said = synthetic.answer(raw, synthetic.Names())
    assert not said or said[:2] == raw[:2]
    assert len(said) <= len(raw) + 16


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("some.example", 28, 0), ("some.example", 16, 0), ("x.localhost", 1, 3), ("1.0.0.127.in-addr.arpa", 12, 3),
        ("printer.local", 1, 3), ("a b.example", 1, 3), ("-a.example", 1, 3),
    ],
)  # fmt: skip
def test_other_questions_have_no_address(name: str, kind: int, code: int) -> None:
    assert parsed(synthetic.answer(query(name, kind), synthetic.Names())) == (7, code, 1, [])


def test_damaged_answers_of_the_kernel_end() -> None:
    assert list(netlink.errors(bytes(40))) == []
    assert list(netlink.errors(struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -17))) == [17]


def test_programs_that_know_of_no_proxy_reach_it_by_name() -> None:
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    apart = ["unshare", *own, "--net", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no network namespace of one's own here")
    root = Path(__file__).parents[2]
    argv = [*apart, sys.executable, "-m", "support.egress_guest"]
    done = subprocess.run(argv, check=False, capture_output=True, cwd=root / "tests", timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    said = json.loads(done.stdout)
    if "lacking" in said:
        pytest.skip(f"this host's kernel has no ifb or no nftables for us: {said['lacking']}")
    assert (said["undone"], said["began"], said["same"]) == (True, True, True)
    assert said["by_name"] == "hello WORDS\n"
    assert said["refused_http"].startswith("HTTP/1.1 403")
    assert said["refused"] == said["literal"] == said["unknown"] == "ConnectionResetError"
    assert said["datagram"] == "PermissionError"
    assert said["asked"] == [
        "allowed.example.org:8443", "other.example.org:22", "web.example.org:80", "192.0.2.7:5432",
        "allowed.tls.example.org:443",
    ]  # fmt: skip
