from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.errors import MachineError
from git_sandbox.text import printable
from git_sandbox.vmm import http as over_http
from git_sandbox.vmm import rest
from git_sandbox.vmm.rest import Api, Call
from support.peers import Talk, line, peer


def http(status: str, body: bytes = b"", *more: str) -> bytes:
    head = "\r\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *more))
    return head.encode() + b"\r\n\r\n" + body


def answering(reply: bytes, seen: list[bytes] | None = None) -> Talk:
    def talk(connection: socket.socket) -> None:
        length, head = 0, b""
        while (got := line(connection)) not in (b"\r\n", b""):
            head += got
            if got.lower().startswith(b"content-length:"):
                length = int(got.split(b":")[1])
        body = b""
        while len(body) < length:
            body += connection.recv(length - len(body))
        if seen is not None:
            seen.append(head + b"\r\n" + body)
        connection.sendall(reply)

    return talk


def test_call_is_one_request_with_a_length_and_json() -> None:
    seen: list[bytes] = []
    with peer(answering(http("204 No Content"), seen)) as vmm:
        api = Api("Firecracker", vmm.path)
        assert api.send(Call("PUT", "/vsock", {"guest_cid": 3})) == b""
        assert api.send(Call("PUT", "/vm.boot")) == b""
        assert api.send(Call("PUT", "/entropy", {})) == b""
    first, second, third = seen
    assert first.startswith(b"PUT /vsock HTTP/1.1\r\n")
    assert first.endswith(b'\r\n{"guest_cid":3}')
    assert b"chunked" not in first
    assert b"Content-Type" not in second
    assert second.endswith(b"\r\n\r\n")
    assert third.endswith(b"\r\n{}")  # an empty object is a body, too


def test_answer_is_given_back() -> None:
    with peer(answering(http("200 OK", b'{"state":"Running"}'))) as vmm:
        assert Api("Cloud Hypervisor", vmm.path).send(Call("GET", "/vm.info")) == b'{"state":"Running"}'


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (
            "400 Bad Request",
            b'{"fault_message":"The kernel file cannot be opened"}',
            "The kernel file cannot be opened",
        ),
        ("500 Internal Server Error", b'["Error from API","Disk: locked"]', "Error from API\nDisk: locked"),
        ("404 Not Found", b"no such thing", "no such thing"),
        ("503 Service Unavailable", b"", "HTTP status 503"),
        ("400 Bad Request", b'{"other":1}', '{"other":1}'),
        ("400 Bad Request", b"\xff\xfe\x1b[31m", "?"),
    ],
)
def test_error_says_what_was_asked_and_what_the_vmm_answered(status: str, body: bytes, cause: str) -> None:
    with peer(answering(http(status, body))) as vmm, pytest.raises(MachineError) as failed:
        Api("Firecracker", vmm.path).send(Call("PUT", "/boot-source", {}))
    assert failed.value.message == "Firecracker refused `PUT /boot-source`"
    assert "\x1b" not in failed.value.cause
    assert failed.value.hint
    if cause != "?":
        assert failed.value.cause == cause


@pytest.mark.parametrize(
    ("cause", "hint"),
    [
        ("Error creating KVM object: open /dev/kvm: Permission denied", "group `kvm`"),
        ("No space left on device", "disk is full"),
        ("Failed to lock disk image", "still running"),
        ("something new", "log"),
    ],
)
def test_causes_outside_of_us_come_with_what_to_do(cause: str, hint: str) -> None:
    assert hint in rest.meaning(cause)


@pytest.mark.parametrize(
    "reply",
    [
        b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        http("200 OK", b"x" * (over_http.MAX_REPLY + 1)),
    ],
    ids=["nothing", "garbage", "half", "many headers", "long header", "long body"],
)  # fmt: skip
def test_hostile_answers_are_errors_and_not_read_to_their_end(reply: bytes) -> None:
    with peer(answering(reply)) as vmm, pytest.raises(MachineError, match="does not respond"):
        Api("Firecracker", vmm.path, overall=20).send(Call("GET", "/"))


def test_answer_that_trickles_ends_with_the_clock() -> None:
    def talk(connection: socket.socket) -> None:
        connection.settimeout(0.02)
        while True:
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                connection.sendall(b"H")

    with peer(talk) as vmm, pytest.raises(MachineError, match="does not respond"):
        Api("Firecracker", vmm.path, overall=0.5).send(Call("GET", "/"))


def test_vmm_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="does not respond") as failed:
        Api("Firecracker", tmp_path / "none").send(Call("GET", "/"))
    assert "No such file" in failed.value.cause


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(st.integers(400, 599), st.binary(max_size=200) | JSON.map(msgspec.json.encode))
def test_every_error_has_a_cause_that_can_be_printed(status: int, body: bytes) -> None:
    said = rest.explain(status, body)
    assert said
    assert len(said) < 2100
    assert said == printable(said)
