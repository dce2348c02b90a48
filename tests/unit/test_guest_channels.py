"""What the guest's control channel says when something goes wrong behind it."""

from __future__ import annotations

import json
import socket

import pytest

from git_sandbox.guest import channels

REQUEST = json.dumps({"op": "export", "nonce": "ab12", "known": []}).encode() + b"\n"


def test_an_exporter_that_dies_without_a_word_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory, for one. The host would wait for its answer until the deadline."""
    monkeypatch.setattr(channels, "fork_task", lambda _task: 0)  # its end of the pipe closes with ours
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            channels.export(theirs.fileno(), REQUEST, {"user": {"uid": 1000, "gid": 1000}})
        said = b"".join(iter(lambda: ours.recv(65536), b""))
    life, header, rest = said.split(b"\n", 2)
    length = int(header.removeprefix(b"git-sandbox ab12 "))
    assert life == b""
    assert "out of memory" in json.loads(rest[:length])["error"]
