"""`--net allow` from a program in the guest to a server on the host's loopback, and nowhere else. One machine."""

from __future__ import annotations

import contextlib
import os
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from git_sandbox.egress import policyfile
from support.egress import certificate
from support.vm import Sandboxes, wait_for

DIRECT = "env -u http_proxy -u https_proxy -u all_proxy -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY"
# Each line says one thing; what it should say is in SAID.
SCRIPT = f"""
try() {{ name=$1; shift; echo "$name: $("$@" 2>&1 | tail -n 1)"; }}
code() {{ "$@" -s -o /dev/null -w '%{{http_connect}} %{{http_code}} %{{exitcode}}\\n'; }}
try proxied curl -s https://a.test/hello
try plain curl -s http://a.test/hello
try direct {DIRECT} curl -s https://a.test/hello
try direct-plain {DIRECT} curl -s http://a.test/hello
try python {DIRECT} python3 -c '
import urllib.request
print(urllib.request.urlopen("https://a.test/hello").read().decode())'
try raw {DIRECT} python3 -c '
import socket
with socket.create_connection(("a.test", 80), 60) as s:
    s.sendall(b"GET /hello HTTP/1.0\\r\\nHost: a.test\\r\\n\\r\\n")
    print(s.makefile("rb").read().decode().split("\\n")[-1])'
try clone git clone -q https://a.test/repo.git /tmp/proxied
try clone-direct {DIRECT} git clone -q https://a.test/repo.git /tmp/direct
try commits sh -c '(git -C /tmp/proxied rev-parse HEAD; git -C /tmp/direct rev-parse HEAD) | uniq | xargs'
try ssh {DIRECT} sh -c 'ssh -v -o BatchMode=yes git@a.test 2>&1 | grep -o "remote software version.*"'
try refused code curl https://b.test/hello
try refused-direct code {DIRECT} curl https://b.test/hello
try loopback code curl --noproxy '' http://127.0.0.1:$SECRET/
try address code {DIRECT} curl --max-time 60 http://192.0.2.1/
try datagram python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    s.connect(("192.0.2.1", 123)); s.send(b"x"); s.send(b"x"); print("sent")
except OSError as error:
    print(type(error).__name__)'
try sudo sudo sh -c 'echo $https_proxy'
sudo ip link del sandbox0
try removed {DIRECT} python3 -c '
import socket
try:
    socket.create_connection(("192.0.2.1", 80), 5); print("connected")
except OSError as error:
    print("no way")'
try removed-refused code curl https://b.test/hello
try removed-proxied curl -s https://a.test/hello
"""
SAID = {
    "proxied": "hello", "plain": "hello", "direct": "hello", "direct-plain": "hello", "python": "hello",
    "raw": "hello", "ssh": "remote software version forge", "clone": "", "clone-direct": "", "refused": "403 000 56",
    "refused-direct": "000 000 35", "loopback": "000 403 0", "address": "000 403 0", "datagram": "PermissionError",
    "sudo": "http://127.0.0.1:3128", "removed": "no way", "removed-refused": "403 000 56", "removed-proxied": "hello",
}  # fmt: skip


@contextlib.contextmanager
def served(root: Path, tls: Path | None = None) -> Iterator[tuple[int, list[str]]]:
    """The files of a directory over HTTP on the loopback; the port, and what was asked for."""
    seen: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            seen.append(format % args)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=os.fspath(root))) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port, seen
        finally:
            server.shutdown()


@contextlib.contextmanager
def forge() -> Iterator[int]:
    """Something that speaks first, as sshd does; its port."""

    class Banner(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"SSH-2.0-forge\r\n")
            self.request.recv(1024)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Banner) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def outside(boxes: Sandboxes, root: Path) -> str:
    """What can be fetched: a file, and a repository for clients that know HTTP only; its commit."""
    root.mkdir()
    (root / "hello").write_text("hello")
    subprocess.run(["git", "clone", "-q", "--bare", boxes.repo.path, root / "repo.git"], check=True)
    subprocess.run(["git", "-C", root / "repo.git", "update-server-info"], check=True)
    return boxes.repo.git("rev-parse", "HEAD").strip()


@pytest.mark.contract
def test_names_that_are_allowed_and_nothing_else(boxes: Sandboxes, tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    commit = outside(boxes, tmp_path / "outside")
    with (
        served(tmp_path / "outside", tls) as (https, _),
        served(tmp_path / "outside") as (http, _),
        served(tmp_path / "outside") as (secret, not_asked),
        forge() as ssh,
    ):
        options = (
            "--name",
            "net",
            "--allow",
            "a.test",
            "--allow",
            "a.test:22",
            "--ca",
            f"{tls}.crt",
            "--memory",
            "512M",
        )
        boxes.ok("spawn", "--detach", *options, "--env", f"SECRET={secret}")
        policy = boxes.directory("net") / "egress/policy.json"
        places = {"a.test:443": https, "b.test:443": https, "a.test:80": http, "a.test:22": ssh}
        routes = tuple((name, f"127.0.0.1:{port}") for name, port in places.items())
        policyfile.save(policy, replace(policyfile.load(policy), routes=routes))
        boxes.ok("exec", "net", "--", "sh", "-c", "until curl -sf http://a.test/hello; do sleep 0.1; done")
        done = boxes.ok("exec", "net", "--", "sh", "-c", SCRIPT)
        said = dict(line.split(": ", 1) for line in done.text.splitlines() if ": " in line)
        assert said.pop("commits") == commit, done.text
        assert said == SAID, done.text
        assert not_asked == []
        boxes.ok("net", "net", "--allow", "b.test")
        again = "until curl -sf https://b.test/hello; do sleep 0.1; done"
        assert boxes.ok("exec", "net", "--", "sh", "-c", again).text.endswith("hello")
    wait_for("the last one in the ledger", lambda: ledger(boxes)["b.test", 443]["allowed"])
    rows = ledger(boxes)
    assert rows["a.test", 443]["allowed"] >= 5
    assert rows["b.test", 443]["refused"] >= 3
    assert rows["b.test", 443]["allowed"] >= 1
    assert rows["127.0.0.1", secret]["refused"] == rows["192.0.2.1", 80]["refused"] == 1
    proxies = [pid for pid, name in boxes.processes().items() if b"git_sandbox.egress" in _command(pid) and name]
    assert len(proxies) == 1
    boxes.ok("stop", "net")
    wait_for("the proxy's end", lambda: not set(proxies) & boxes.processes().keys())
    assert boxes.sockets() == []


def ledger(boxes: Sandboxes) -> dict[tuple[str, int], dict[str, int]]:
    return {(row["host"], row["port"]): row for row in boxes.ok("net", "net", "--json").envelope["data"]["asked"]}


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
