"""Whatever a guest asks for is answered with one line, and the next request is served."""

from __future__ import annotations

import socket
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.errors import CollectError
from git_sandbox.sandbox import guest_requests

REFUSED = ("malformed request", "unknown request")


def fail(_request: guest_requests.Request) -> list[str]:
    raise CollectError("refused \x1b[31m", cause="because")


VERBS: dict[str, guest_requests.Verb] = {"push": lambda _request: ["done"], "pull": fail}


@pytest.mark.parametrize(
    "line",
    [b"", b"\n", b"\xff", b"{}", b'{"op":1}', b'{"op":"' + b"x" * 4000, b'{"op":"push","x":' + b"[" * 4000,
     b'{"op":"push","x":' + b"[" * 1900 + b"]" * 1900 + b"}", b'{"op":"\\ud800"}', b'{"op":"shutdown"}'],
    ids=range(10),
)  # fmt: skip
def test_a_malformed_request_is_refused(line: bytes) -> None:
    answer = guest_requests._answer(line, VERBS)
    assert answer["ok"] is False
    assert answer["lines"][0] in REFUSED  # type: ignore[index]


@given(st.binary(max_size=300))
def test_any_bytes_get_an_answer_that_can_be_sent(line: bytes) -> None:
    assert msgspec.json.encode(guest_requests._answer(line, VERBS))


def test_the_one_after_a_malformed_request_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest_requests, "PAUSE", 0.0)
    monkeypatch.setattr(guest_requests, "_push", lambda _box, _record: ["pushed"])
    ours, theirs = socket.socketpair()
    with ours:
        thread = threading.Thread(target=guest_requests._serve, args=(None, None, None, [theirs]), daemon=True)
        thread.start()
        ours.settimeout(20)
        with ours.makefile("rb") as answers:
            for line in (b"[" * 4000, b'{"op":"push","x":' + b"[" * 1900 + b"]" * 1900 + b"}", b'{"op":"push"}'):
                ours.sendall(line + b"\n")
            said = [msgspec.json.decode(answers.readline())["ok"] for _ in range(3)]
        ours.shutdown(socket.SHUT_RDWR)
    thread.join(20)
    theirs.close()
    assert said == [False, False, True]


def test_the_cause_of_a_failure_is_safe_to_send() -> None:
    answer = guest_requests._answer(b'{"op":"pull"}', VERBS)
    assert "\x1b" not in str(answer)
