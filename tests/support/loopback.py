"""The real ssh to this machine: an sshd on the loopback with a host key, a user key and a configuration of its own."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support import standin

SSH = shutil.which("ssh", path="/usr/bin:/usr/local/bin:" + os.environ["PATH"])
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ["PATH"])
SUPPORT = Path(standin.__file__).parents[1]


def _key(place: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place], check=True)
    return place.with_suffix(".pub").read_text()


@contextlib.contextmanager
def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enter: Sequence[str] = (), worker: str = ""
) -> Iterator[None]:
    """`ssh:there` reaches a stand-in's worker below `tmp_path` through it, or the command `worker`, and nothing else.
    `enter`: what ssh and its server begin with, in a network of their own (`Net`).
    """
    assert SSHD, "install openssh-server: scripts/test does"
    public, host = _key(tmp_path / "user"), _key(tmp_path / "host")
    command = f"exec env STANDIN_ROOT={tmp_path}/there PYTHONPATH={SUPPORT} {sys.executable} -m support.standin"
    (tmp_path / "authorized").write_text(f'restrict,command="{worker or command}" {public}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n"
        "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n"
    )
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    (tmp_path / "ssh_config").write_text(
        f"Host there\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n IdentityFile {tmp_path}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {tmp_path}/known_hosts\n"
    )
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {shlex.join(enter)} {SSH} -F {tmp_path}/ssh_config "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with subprocess.Popen(
        [*enter, SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            assert b"listening" in line.lower(), line
            yield
        finally:
            process.send_signal(signal.SIGTERM)


class Net:
    """A network namespace with a loopback only, which is up or down: a connection through one that is down is not
    closed, its packets are lost.
    """

    def __init__(self, holder: int) -> None:
        self.enter = ("nsenter", f"--net=/proc/{holder}/ns/net")

    def set(self, state: str) -> None:
        subprocess.run([*self.enter, "ip", "link", "set", "lo", state], check=True)


@contextlib.contextmanager
def network() -> Iterator[Net]:
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == b"\n", "root can make one"
        try:
            net = Net(holder.pid)
            net.set("up")
            yield net
        finally:
            holder.stdin.close()
