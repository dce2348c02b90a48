"""The relay between sshd and a port: a pipe that does not block stands for the port."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

RELAY = [sys.executable, "-c", "from git_sandbox.guest.relay import relay; relay(0, 1)"]
SSHD = f"""
import subprocess, sys, time
child = subprocess.Popen({RELAY!r})
print(flush=True, file=sys.stderr)
time.sleep(60)
"""


def port() -> tuple[int, int]:
    host, guest = os.pipe()
    os.set_blocking(guest, False)
    return host, guest


def test_everything_arrives_though_the_port_is_full_most_of_the_time(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(1 << 20)
    (tmp_path / "data").write_bytes(data)
    host, guest = port()
    with (tmp_path / "data").open("rb") as given, subprocess.Popen(RELAY, stdin=given, stdout=guest) as copier:
        os.close(guest)
        with os.fdopen(host, "rb", 0) as out:
            assert b"".join(iter(lambda: out.read(3000), b"")) == data
    assert copier.returncode == 0


def test_it_ends_with_sshd_when_the_host_takes_nothing() -> None:
    host, guest = port()
    source, writing = os.pipe()
    os.set_blocking(writing, False)
    with subprocess.Popen([sys.executable, "-c", SSHD], stdin=source, stdout=guest, stderr=subprocess.PIPE) as sshd:
        for each in (source, guest):
            os.close(each)
        assert sshd.stderr is not None
        sshd.stderr.readline()
        deadline = time.monotonic() + 30
        written = 0
        while written < 150_000:  # more than the port holds: the relay waits for room
            assert time.monotonic() < deadline
            try:
                written += os.write(writing, bytes(4096))
            except BlockingIOError:
                time.sleep(0.01)
        sshd.kill()
        sshd.wait()
        started = time.monotonic()
        assert sshd.stderr.read() == b""  # its last holder, the relay, has ended
        assert time.monotonic() - started < 10
    for each in (writing, host):
        os.close(each)
