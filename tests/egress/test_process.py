"""The proxy as the process that a supervisor starts."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from git_sandbox.egress import policyfile, request_log, rules, service
from git_sandbox.egress.credentials import declared
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.rules import Policy
from support.vm import wait_for

SECRET = "sk-ant-api03-the-real-value-of-it"  # noqa: S105 - a test's


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    source: subprocess.Popen[bytes]
    socket: Path
    policy: Path
    log: Path
    ready: service.Ready

    def ask(self, request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(os.fspath(self.socket))
            client.sendall(request)
            found = b""
            while data := client.recv(65536):
                found += data
            return found


@contextlib.contextmanager
def running(directory: Path, egress: Egress) -> Iterator[Running]:
    policy, book = directory / "egress.json", directory / "net.json"
    policyfile.save(policy, egress)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with service.listen(directory / "proxy") as listening, ours, theirs:
        order = service.Order(str(policy), str(book), listening.fileno(), channel=theirs.fileno())
        process = begun(service.argv(), order.encode(), listening.fileno(), theirs.fileno())
        secrets = service.SourcesOrder(str(policy), ours.fileno(), {"KEY": SECRET})
        source = begun(service.argv(service.SOURCES), secrets.encode(), ours.fileno())
    try:
        assert process.stdout is not None
        ready = service.ready(process.stdout.readline())
        yield Running(process, source, directory / "proxy", policy, book, ready)
    finally:
        for each in (process, source):
            each.kill()
            each.communicate()


def begun(words: list[str], order: bytes, *descriptors: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=descriptors,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(order)
    process.stdin.close()
    process.stdin = None
    return process


def test_it_serves_obeys_a_changed_policy_and_keeps_its_secrets(tmp_path: Path) -> None:
    key = replace(declared("key", {"hosts": ["api.test"], "bearer": True, "env": "KEY"}), placeholder="sk-placeholder")
    egress = Egress(Policy("vm-1", rules.parse_all(["a.test"])), (key,), routes=(("b.test:80", "127.0.0.1:1"),))
    with running(tmp_path, egress) as proxy:
        request = b"GET http://b.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n"
        assert b" 403 " in proxy.ask(request)
        policyfile.save(proxy.policy, policyfile.with_rules(egress, rules.parse_all(["b.test"])))
        assert b" 502 " in proxy.ask(request), "allowed now, and nobody is there"
        proxy.policy.write_text("{")
        assert b" 403 " in proxy.ask(request), "a policy that cannot be read allows nothing"
        assert oct(proxy.socket.stat().st_mode & 0o777) == "0o600"
        seen = sealed(proxy.process.pid) + sealed(proxy.source.pid)
        proxy.process.send_signal(signal.SIGTERM)
        out, err = proxy.process.communicate(timeout=60)
        assert proxy.process.returncode == 0
        assert proxy.source.wait(60) == 0, "it ends with the one that asks"
        seen += out + err + b"".join(each.read_bytes() for each in tmp_path.iterdir() if each.is_file())
        assert SECRET.encode() not in seen
        assert proxy.ready.authority.startswith("-----BEGIN CERTIFICATE-----")
        rows = {row.host: row for row in request_log.load(proxy.log)}
        assert (rows["b.test"].refused, rows["b.test"].allowed) == (2, 1)


def sealed(pid: int) -> bytes:
    """Proves that no other process sees its memory, now or later; what can be seen of it."""
    place = Path(f"/proc/{pid}")

    def closed() -> bool:
        limits = (place / "limits").read_text()
        return limits.split("Max core file size")[1].split()[:2] == ["0", "0"] and (place / "mem").stat().st_uid == 0

    wait_for("it is sealed, with its first step, before it reads what it is told", closed)
    seen = (place / "cmdline").read_bytes()
    if os.getuid() == 0:
        return seen + (place / "environ").read_bytes()
    assert (place / "mem").stat().st_uid == 0, "the kernel shows its memory to nobody"
    return seen


def test_it_ends_when_its_leash_or_its_source_of_secrets_does(tmp_path: Path) -> None:
    with running(tmp_path, Egress()) as proxy:
        proxy.source.kill()
        assert proxy.process.wait(60) == 1
        assert proxy.process.stderr is not None
        assert b"the process that holds the secrets ended" in proxy.process.stderr.read()
    reading, writing = os.pipe()
    with service.listen(tmp_path / "again") as listening:
        order = service.Order(
            str(tmp_path / "egress.json"), str(tmp_path / "net.json"), listening.fileno(), leash=reading
        )
        process = begun(service.argv(), order.encode(), listening.fileno(), reading)
    os.close(reading)
    os.close(writing)
    assert process.wait(60) == 0
    out, _ = process.communicate()
    assert service.ready(out) == service.Ready()


def test_it_imports_nothing_but_the_standard_library() -> None:
    words = "import sys, git_sandbox.egress.__main__; print([n for n in sys.modules if n.split('.')[0] in "
    words += "('msgspec', 'click', 'rich', 'cryptography', 'keyring')])"
    done = subprocess.run([*service.argv()[:2], "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
