"""`--net allow` from a program in the guest to a server on the host's loopback, and nowhere else. One machine.

With a key that the guest may use and that is nowhere in it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from git_sandbox.egress import policyfile
from support.egress import certificate
from support.vm import Sandboxes, wait_for

DIRECT = "env -u http_proxy -u https_proxy -u all_proxy -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY"
PROXY = b"git_sandbox.egress"
KEY = "sk-ant-api03-only-the-host-has-this-real-value"
# The key of an API, in TLS that is opened, and by an address of its own.
KEYS = """
[api]
hosts = ["api.test"]
bearer = true
env = "KEY_OF_THE_HOST"
variable = "API_KEY"
base_url = "API_URL"
"""
# The extra `inspect` opens TLS. The lab does without: what it is about is the machine, and that part is the same there.
OPENED = importlib.util.find_spec("cryptography") is not None
# Each line says one thing; what it should say is in SAID.
DEFINED = """
try() { name=$1; shift; echo "$name: $("$@" 2>&1 | tail -n 1)"; }
code() { "$@" -s -o /dev/null -w '%{http_connect} %{http_code} %{exitcode}\\n'; }
"""
# By root, without what the relay has set up: streams, datagrams, raw packets, the host and other guests over vsock.
AROUND = """
import fcntl, socket, struct
def stream(family, address): socket.socket(family).connect(address)
def datagram(family, address): socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", address)
def raw(family, address, protocol): socket.socket(family, socket.SOCK_RAW, protocol).sendto(b"x" * 28, address)
socket.setdefaulttimeout(5)
V4, V6, VSOCK, own = socket.AF_INET, socket.AF_INET6, 40, 3
try:
    own, = struct.unpack("I", fcntl.ioctl(open("/dev/vsock", "rb"), 0x7b9, bytes(4)))
except OSError:
    pass
ways = [
    (stream, V4, ("192.0.2.1", 80)), (stream, V6, ("2001:db8::1", 80)), (stream, V6, ("::ffff:192.0.2.1", 80)),
    (datagram, V4, ("198.51.100.53", 53)), (datagram, V6, ("2001:db8::1", 53)),
    (raw, V4, ("192.0.2.1", 0), 1), (raw, V6, ("2001:db8::1", 0), 58),
    *((stream, VSOCK, (cid, port)) for cid in (2, own + 1) for port in (22, 1024)),
]
for way, *words in ways:
    try:
        way(*words)
        print("a way out:", words)
        break
    except OSError:
        pass
else:
    print("no way")
"""
SCRIPT = f"""{DEFINED}
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
try devices sh -c 'ls /sys/class/net | xargs'
try removed sudo {DIRECT} python3 -c '{AROUND}'
try removed-refused code curl https://b.test/hello
try removed-proxied curl -s https://a.test/hello
"""
INSPECTED = f"""{DEFINED}
try read curl -s https://forge.test/hello
try read-direct {DIRECT} curl -s https://forge.test/hello
try read-by sh -c 'curl -sv https://forge.test/hello 2>&1 | grep -o "issuer: CN=git-sandbox"'
try read-clone git clone -q https://forge.test/repo.git /tmp/read
try written code curl -X POST -d x https://forge.test/hello
try keyed curl -s -H "Authorization: Bearer $API_KEY" https://api.test/hello
try keyed-direct {DIRECT} curl -s -H "Authorization: Bearer $API_KEY" https://api.test/hello
try keyed-url curl -s $API_URL/hello
try elsewhere code curl -H "X-Else: $API_KEY" https://api.test/hello
try other-host code curl -H "Authorization: Bearer $API_KEY" http://a.test/hello
"""
INSPECTED_SAID = {
    "read": "hello", "read-direct": "hello", "read-by": "issuer: CN=git-sandbox", "read-clone": "",
    "written": "200 403 0", "keyed": "hello", "keyed-direct": "hello", "keyed-url": "hello",
    "elsewhere": "200 403 0", "other-host": "000 403 0",
}  # fmt: skip
SAID = {
    "proxied": "hello", "plain": "hello", "direct": "hello", "direct-plain": "hello", "python": "hello",
    "raw": "hello", "ssh": "remote software version forge", "clone": "", "clone-direct": "", "refused": "403 000 56",
    "refused-direct": "000 000 35", "loopback": "000 403 0", "address": "000 403 0", "datagram": "PermissionError",
    "sudo": "http://127.0.0.1:3128", "devices": "lo", "removed": "no way",
    "removed-refused": "403 000 56", "removed-proxied": "hello",
}  # fmt: skip


@contextlib.contextmanager
def served(root: Path, tls: Path | None = None) -> Iterator[tuple[int, list[str]]]:
    """The files of a directory over HTTP on the loopback; the port, and with which key something was asked for."""
    seen: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            seen.append(self.headers["authorization"] or "")

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


def keyed(boxes: Sandboxes, tls: Path) -> tuple[str, ...]:
    """A key of the host's, and the options that lend it; none where nothing can open TLS."""
    if not OPENED:
        return ()
    place = Path(boxes.env["XDG_CONFIG_HOME"]) / "git-sandbox/keys.toml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(KEYS)
    boxes.env |= {"KEY_OF_THE_HOST": KEY, "SSL_CERT_FILE": f"{tls}.crt"}
    return ("--key", "api", "--allow", "get:forge.test")


@pytest.mark.contract
def test_names_that_are_allowed_and_nothing_else(boxes: Sandboxes, tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    commit = outside(boxes, tmp_path / "outside")
    with (
        served(tmp_path / "outside", tls) as (https, keys),
        served(tmp_path / "outside") as (http, _),
        served(tmp_path / "outside") as (secret, not_asked),
        forge() as ssh,
    ):
        options = (
            "--allow",
            "a.test",
            "--allow",
            "a.test:22",
            "--ca",
            f"{tls}.crt",
            "--memory",
            "512M",
            *keyed(boxes, tls),
        )
        boxes.ok("spawn", "--detach", "--name", "net", *options, "--env", f"SECRET={secret}")
        policy = boxes.directory("net") / "egress/policy.json"
        places = {f"{name}.test:443": https for name in ("a", "b", "api", "forge")} | {
            "a.test:80": http,
            "a.test:22": ssh,
        }
        routes = tuple((name, f"127.0.0.1:{port}") for name, port in places.items())
        policyfile.save(policy, replace(policyfile.load(policy), routes=routes))
        boxes.ok("exec", "net", "--", "sh", "-c", "until curl -sf http://a.test/hello; do sleep 0.1; done")
        if OPENED:
            assert said(boxes, INSPECTED) == INSPECTED_SAID
            assert keys.count(f"Bearer {KEY}") == 3
            assert set(keys) == {"", f"Bearer {KEY}"}
            key_is_nowhere_in_the_guest(boxes)
        (proxy,) = proxies(boxes)
        os.kill(proxy, signal.SIGKILL)  # another takes its place, and the guest's relay finds it
        wait_for("another proxy", lambda: set(proxies(boxes)) - {proxy})
        heard = said(boxes, SCRIPT)
        assert heard.pop("commits") == commit
        assert heard == SAID
        assert not_asked == []
        boxes.ok("net", "net", "--allow", "b.test")
        again = "until curl -sf https://b.test/hello; do sleep 0.1; done"
        assert boxes.ok("exec", "net", "--", "sh", "-c", again).text.endswith("hello")
    wait_for("the last one in the requests", lambda: requests(boxes)["b.test", 443]["allowed"])
    rows = requests(boxes)
    assert rows["a.test", 443]["allowed"] >= 5
    assert rows["b.test", 443]["refused"] >= 3
    assert rows["b.test", 443]["allowed"] >= 1
    assert rows["127.0.0.1", secret]["refused"] == rows["192.0.2.1", 80]["refused"] == 1
    left = proxies(boxes)
    assert len(left) == 1
    boxes.ok("stop", "net")
    wait_for("the proxy's end", lambda: not set(left) & boxes.processes().keys())
    assert boxes.sockets() == []


def said(boxes: Sandboxes, script: str) -> dict[str, str]:
    """What each line of a script in the guest said, by its name."""
    text = boxes.ok("exec", "net", "--", "sh", "-c", script).text
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def key_is_nowhere_in_the_guest(boxes: Sandboxes) -> None:
    """Nor in what the host keeps of it. Each search finds the placeholder, which is there."""
    environments = boxes.ok("exec", "net", "--", "sudo", "sh", "-c", "cat /proc/[0-9]*/environ 2> /dev/null; true").out
    placeholder = boxes.ok("exec", "net", "--", "sh", "-c", 'echo "$API_KEY"; sudo sync').out.strip()
    assert placeholder.startswith(b"sk-ant-api03-")
    wanted = {KEY.encode(): False, placeholder: True}
    places = {
        "environment": [environments],
        "memory": memory(boxes.only_machine()),
        "disk": chunks(boxes.directory("net").rglob("*")),
    }
    for place, content in places.items():
        assert holds(content, list(wanted)) == wanted, place


def holds(content: Iterable[bytes], needles: list[bytes]) -> dict[bytes, bool]:
    """Which are there, also where a chunk ends in the middle of one. An empty chunk parts what is not together."""
    found, tail, most = dict.fromkeys(needles, False), b"", max(map(len, needles))
    for chunk in content:
        tail = tail[-most:] + chunk if chunk else b""
        found |= {each: True for each in needles if each in tail}
    return found


def memory(pid: int) -> Iterator[bytes]:
    """What a machine's process has mapped to write, and so all of the guest's memory."""
    with Path(f"/proc/{pid}/mem").open("rb", 0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            at, end = (int(each, 16) for each in span.split("-"))
            yield b""
            while "w" in rights and at < end:
                file.seek(at)
                chunk = b""
                with contextlib.suppress(OSError):  # a device, or a page behind the end of its file
                    chunk = file.read(min(1 << 20, end - at))
                yield chunk
                at += len(chunk) or 1 << 20


def chunks(paths: Iterable[Path]) -> Iterator[bytes]:
    """The content of files, which may be disks with holes."""
    for path in paths:
        if path.is_file():
            yield b""
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    yield chunk


def proxies(boxes: Sandboxes) -> list[int]:
    """Process ids of the proxies themselves, without what confines them."""
    found = {pid: _command(pid).split(b"\0") for pid in boxes.processes()}
    interpreter = re.compile(rb".*/python[0-9.]*")  # a virtual environment's, or the system's as in the lab
    return [pid for pid, words in found.items() if interpreter.fullmatch(words[0]) and words[-2:-1] == [PROXY]]


def requests(boxes: Sandboxes) -> dict[tuple[str, int], dict[str, int]]:
    return {(row["host"], row["port"]): row for row in boxes.ok("net", "net", "--json").envelope["data"]["asked"]}


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
