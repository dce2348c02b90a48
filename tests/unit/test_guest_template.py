"""How the host's requests reach a template's guest over vsock; `tests/vm/test_warm` has the machines."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_sandbox.guest import boot, template
from git_sandbox.guest.template import Prewarming, RequestListener


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "s"


@pytest.fixture
def listener(place: Path) -> Iterator[RequestListener]:
    """A unix socket stands for vsock's."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    listener.listen(8)
    with RequestListener(listener, -1) as made:
        yield made
    assert made.current == -1
    assert listener.fileno() == -1


def call(place: Path, *pieces: bytes) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(20)
    made.connect(str(place))
    for each in pieces:
        made.sendall(each)
    return made


def test_one_caller_after_the_other_and_the_last_one_is_hung_up(listener: RequestListener, place: Path) -> None:
    with call(place, b'{"op": ', b'"status"}\n') as first, call(place, b'{"op": "personalize"}\n') as second:
        for caller, op in ((first, "status"), (second, "personalize")):
            descriptor, request = listener.next_request()
            assert request == {"op": op}
            os.write(descriptor, b"answer")
            assert caller.recv(100) == b"answer"
        assert first.recv(100) == b""


def test_callers_that_are_gone_or_were_forgotten_are_passed_over(listener: RequestListener, place: Path) -> None:
    call(place).close()
    call(place, b'{"op": "half').close()
    reset = call(place, b'{"op": "never')
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    with call(place, b'{"op": "personalize"}\n'):
        assert listener.next_request()[1] == {"op": "personalize"}


def test_a_port_without_a_host_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifo stands for the port: without a writer, too, reading it gives nothing."""
    fifo = tmp_path / "port"
    os.mkfifo(fifo)
    monkeypatch.setattr(template, "control_port", lambda: fifo)
    written = threading.Thread(target=lambda: fifo.write_bytes(b'{"op": "personalize"}\n'))
    with RequestListener.on_port() as listener:
        written.start()
        assert listener.next_request()[1] == {"op": "personalize"}
        written.join()


def test_the_disks_that_wait_are_those_without_a_driver_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot, "VIRTIO", tmp_path)
    for number, kind, bound in (
        (0, 2, True),
        (1, 2, False),
        (2, 4, True),
        (3, 3, False),
        (10, 2, False),
        (9, 2, False),
    ):
        device = tmp_path / f"devices/virtio{number}"
        device.mkdir(parents=True)
        (device / "device").write_text(f"0x{kind:04x}\n")
        if bound:
            (device / "driver").mkdir()
    assert boot.disks_without_driver() == ["virtio1", "virtio9", "virtio10"]


def test_a_rehearsal_ends_with_all_it_started_and_is_reaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = tmp_path / "began"
    script = f"echo $$ > {began}.new; mv {began}.new {began}; sleep 600; : > {tmp_path}/never"
    monkeypatch.setattr(template, "PATH", os.environ["PATH"])
    monkeypatch.setattr(template, "prewarmed", lambda: iter([("no such program",), ("sh", "-c", script)]))
    prewarming = Prewarming()
    prewarming.begin()
    first = prewarming.child
    prewarming.begin()
    assert prewarming.child == first, "once is enough"
    while not began.exists():
        time.sleep(0.01)
    prewarming.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(first, 0)
    pid = int(began.read_text())
    deadline = time.monotonic() + 20
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    prewarming.end()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_nothing_that_is_rehearsed_is_given_a_key() -> None:
    assert not any("-h" in argv or "host_key" in " ".join(argv) for argv in template.prewarmed())
