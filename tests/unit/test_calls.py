from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest

from git_sandbox.protocol.channel import UNIX
from git_sandbox.vmm.calls import Calls
from git_sandbox.vmm.machine import CALLS, Attachment
from support.peers import line, peer


def answering(calls: Calls) -> threading.Thread:
    def serve() -> None:
        for connection in calls:
            with contextlib.suppress(OSError):
                while said := line(connection):
                    connection.sendall(said.upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


def test_guest_calls_again_and_again_over_vsock(tmp_path: Path) -> None:
    calls = Calls(Attachment(CALLS, str(tmp_path / "vsock_1025"), 1025))
    thread = answering(calls)
    for word in (b"push\n", b"pull\n", b"push\n"):
        with socket.socket(socket.AF_UNIX) as guest:
            guest.connect(str(tmp_path / "vsock_1025"))
            guest.sendall(word)
            assert line(guest) == word.upper()
    calls.close()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize("caller", [False, True])
def test_close_ends_it_while_nobody_calls_and_while_somebody_says_nothing(tmp_path: Path, caller: bool) -> None:
    path = str(tmp_path / "vsock_1025")
    calls = Calls(Attachment(CALLS, path, 1025))
    thread = answering(calls)
    with socket.socket(socket.AF_UNIX) as guest:
        if caller:
            guest.connect(path)
            guest.sendall(b"once\n")
            assert line(guest) == b"ONCE\n"
        calls.close()
        thread.join(10)
        assert not thread.is_alive()


def test_caller_that_says_nothing_keeps_the_next_one_waiting_for_a_while_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("git_sandbox.vmm.calls.SILENCE", 0.2)
    path = str(tmp_path / "vsock_1025")
    calls = Calls(Attachment(CALLS, path, 1025))
    thread = answering(calls)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as other:
        silent.connect(path)
        other.connect(path)
        other.settimeout(60)
        other.sendall(b"push\n")
        assert line(other) == b"PUSH\n"
        assert silent.recv(1) == b""
    calls.close()
    thread.join(10)


def test_port_is_one_conversation_for_everything() -> None:
    said: list[bytes] = []

    def guest(connection: socket.socket) -> None:
        for word in (b"push\n", b"pull\n"):
            connection.sendall(word)
            said.append(line(connection))

    with peer(guest) as other:
        calls = Calls(Attachment(UNIX, str(other.path)))
        thread = answering(calls)
        thread.join(10)
        calls.close()
    assert not thread.is_alive()
    assert said == [b"PUSH\n", b"PULL\n"]


def test_machine_that_is_gone_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Calls(Attachment(UNIX, str(tmp_path / "none")))
    with pytest.raises(OSError, match="No such file"):
        Calls(Attachment(CALLS, str(tmp_path / "none" / "s")))
