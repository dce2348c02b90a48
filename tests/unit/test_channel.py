from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_sandbox.protocol import channel
from git_sandbox.protocol.channel import HYBRID_VSOCK, UNIX
from support.peers import Talk, line, peer

PROXY = Path(channel.__file__).parent / "ssh_proxy.py"


def hang_up(_connection: socket.socket) -> None:
    """As VMMs do while the guest does not listen."""


def echo(connection: socket.socket) -> None:
    connection.sendall(line(connection))


def vmm(answer: bytes) -> tuple[list[bytes], Talk]:
    """A VMM that answers every request with `answer` and echoes one line afterwards."""
    asked: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        asked.append(line(connection))
        connection.sendall(answer)
        connection.sendall(line(connection))

    return asked, talk


def test_hybrid_vsock_asks_for_the_port_and_leaves_every_byte_of_the_conversation() -> None:
    asked, talk = vmm(b"OK 1073741824\nSSH-2.0-first words\n")
    with peer(talk) as other, channel.connect(HYBRID_VSOCK, str(other.path), 22, timeout=5) as made:
        assert made.gettimeout() == 5
        made.sendall(b"hello\n")
        assert (line(made), line(made)) == (b"SSH-2.0-first words\n", b"hello\n")
    assert asked == [b"CONNECT 22\n"]


def test_request_arrives_in_one_piece() -> None:
    pieces: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        pieces.append(connection.recv(100))  # Firecracker: whatever the first read gives is all there is
        connection.sendall(b"OK 1\n")

    with peer(talk) as other:
        channel.connect(HYBRID_VSOCK, str(other.path), 1024).close()
    assert pieces == [b"CONNECT 1024\n"]


def test_unix_is_the_channel_itself() -> None:
    with peer(echo) as other, channel.connect(UNIX, str(other.path), timeout=5) as made:
        made.sendall(b"CONNECT 1\n")
        assert line(made) == b"CONNECT 1\n"


def test_guest_that_does_not_listen_yet_is_tried_again() -> None:
    refusals = [b"", b"", b""]

    def talk(connection: socket.socket) -> None:
        line(connection)
        connection.sendall(refusals.pop() if refusals else b"OK 7\nready\n")

    with peer(talk) as other, channel.connect(HYBRID_VSOCK, str(other.path), 22, patience=30) as made:
        assert line(made) == b"ready\n"
        assert other.met == 4


def test_guest_that_never_listens_is_told_from_a_vmm_that_is_not_there(tmp_path: Path) -> None:
    with peer(hang_up) as other:
        with pytest.raises(channel.NotListeningError):
            channel.connect(HYBRID_VSOCK, str(other.path), 22, patience=0.2)
        assert other.met > 1
    started = time.monotonic()
    for gone in (tmp_path / "never", other.path):
        with pytest.raises(FileNotFoundError):
            channel.connect(HYBRID_VSOCK, str(gone), 22, patience=3600)
    assert time.monotonic() - started < 60


def test_socket_of_a_dead_vmm_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
    with pytest.raises(ConnectionRefusedError):
        channel.connect(HYBRID_VSOCK, str(tmp_path / "s"), 22, patience=3600)


def test_who_is_not_wanted_any_more_stops_trying() -> None:
    with peer(hang_up) as other, pytest.raises(channel.NotListeningError):
        channel.connect(HYBRID_VSOCK, str(other.path), 22, patience=3600, needed=lambda: other.met < 3)
    assert other.met == 3


@given(st.binary(max_size=60))
def test_no_other_answer_is_taken_for_a_connection(answer: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.sendall(answer)
        theirs.shutdown(socket.SHUT_WR)
        first, newline, rest = answer.partition(b"\n")
        good = newline and len(first) < channel.MAX_OK and first[:3] == b"OK " and first[3:].isdigit()
        if good:
            channel.handshake(ours, 22)
            assert ours.recv(100) == rest
        else:
            with pytest.raises(OSError, match=r"refused|answer"):
                channel.handshake(ours, 22)


@given(st.integers(0, 10**25))
def test_every_ok_within_the_limit_is_taken(number: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.sendall(b"OK %d\nrest" % number)
        channel.handshake(ours, 22)
        assert ours.recv(100) == b"rest"


def test_answer_without_end_and_answer_that_trickles_are_given_up() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.sendall(b"OK " + b"1" * 1000)
        with pytest.raises(ConnectionError):
            channel.handshake(ours, 22)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.2)
        theirs.sendall(b"O")
        with pytest.raises(OSError, match=r"timed out|no end"):
            channel.handshake(ours, 22)


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="smoke"):
        channel.connect("smoke", "/nowhere")


def proxy(*words: str) -> tuple[int, bytes, list[int]]:
    """What ssh sees of its proxy: the exit status, its complaint, the descriptors it hands over."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(PROXY), *words],
            stdin=subprocess.DEVNULL,
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
        )
        theirs.close()
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        complaint = child.communicate(timeout=60)[1]
    return child.returncode, complaint, descriptors


@pytest.mark.parametrize("kind", [UNIX, HYBRID_VSOCK])
def test_proxy_hands_ssh_the_connected_channel(kind: str) -> None:
    def talk(connection: socket.socket) -> None:
        if kind == HYBRID_VSOCK:
            assert line(connection) == b"CONNECT 22\n"
            connection.sendall(b"OK 5\n")
        connection.sendall(b"SSH-2.0\n")

    with peer(talk) as other:
        code, complaint, descriptors = proxy(kind, str(other.path), "22")
        assert (code, complaint, len(descriptors)) == (0, b"", 1)
        with socket.socket(fileno=descriptors[0]) as handed:
            assert line(handed) == b"SSH-2.0\n"


def test_proxy_says_why_there_is_no_channel(tmp_path: Path) -> None:
    code, complaint, descriptors = proxy(UNIX, str(tmp_path / "none"), "0")
    assert (code, descriptors) == (2, [])
    assert b"cannot be reached" in complaint
    assert proxy("smoke", "/nowhere", "0")[0] == 2


def test_proxy_ends_with_its_ssh() -> None:
    """A parent that is killed leaves nobody behind who tries for ever."""
    with peer(hang_up) as other:
        command = [sys.executable, "-I", "-S", str(PROXY), HYBRID_VSOCK, str(other.path), "22"]
        script = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:], stdout=0).pid, flush=True); input()"
        with subprocess.Popen(
            [sys.executable, "-c", script, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as ssh:
            assert ssh.stdout is not None
            pid = int(ssh.stdout.readline())
            deadline = time.monotonic() + 60
            while not other.met:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            ssh.kill()
            ssh.wait()
            while _lives(pid):
                assert time.monotonic() < deadline
                time.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
