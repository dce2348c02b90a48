"""The processes of a sandbox's way out: how they start, end and start again, and what they see of this host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from git_sandbox import confine, paths
from git_sandbox.egress import confinement, policyfile, rules, service
from git_sandbox.egress.credentials import declared
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.rules import Policy
from git_sandbox.errors import SessionError
from git_sandbox.sandbox import egress_process, egress_proxy, run
from git_sandbox.sandbox.egress_process import Proxy
from git_sandbox.sandbox_dir import SandboxDir
from support.egress import certificate

VALUE = "sk-the-real-value"
# Says what it was told to each who connects, until it is to end: what the real one does is in tests/egress.
PROXY = """
import json, select, socket, sys
order = json.load(sys.stdin)
print(json.dumps({"authority": "of the proxy", "secret": "its key"}), flush=True)
with socket.socket(fileno=order["descriptor"]) as listening:
    while order["leash"] not in (ready := select.select([listening, order["leash"]], [], [])[0]):
        with listening.accept()[0] as one:
            one.sendall(json.dumps(order).encode())
"""


# Says in its ledger what it could do: its arguments are what is nobody's business.
SPY = """
import json, os, select, socket, sys
order = json.load(sys.stdin)
home, other, agent, port, pid = sys.argv[1:]
done = []
def tried(name, do):
    try: do()
    except OSError: return
    done.append(name)
tried("policy", lambda: open(order["policy"]).read())
tried("wrote policy", lambda: open(order["policy"], "r+"))
tried("replaced policy", lambda: open(order["policy"] + ".new", "w"))
tried("network", lambda: socket.create_connection(("127.0.0.1", int(port)), 20))
tried("names", lambda: open("/etc/resolv.conf").read())
tried("home", lambda: open(home).read())
tried("other sandbox", lambda: open(other).read())
tried("own sandbox", lambda: os.listdir(os.path.dirname(order["policy"]) + "/../keys"))
tried("agent", lambda: socket.socket(socket.AF_UNIX).connect(agent))
tried("process", lambda: os.kill(int(pid), 0))
tried("passwd", lambda: open("/etc/passwd"))
tried("sysctl", lambda: open("/proc/sys/kernel/core_pattern", "r+"))
open(order["request_log"], "w").write(json.dumps(done))
print(json.dumps({"authority": "", "secret": ""}), flush=True)
select.select([order["leash"]], [], [])
"""
NEEDED = {"policy", "network", "names"}
# A supervisor, as far as the proxy is concerned: says which one it started, and waits.
SUPERVISOR = """
import sys, time
from pathlib import Path
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.sandbox import egress_proxy
with egress_proxy.served(SandboxDir(Path(sys.argv[1])), {}) as proxy:
    proxy.authority()
    print(proxy.child.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path) -> SandboxDir:
    made = SandboxDir(tmp_path / "vm-1")
    made.keys.mkdir(parents=True)
    paths.private_directory(made.sockets.parent)
    policyfile.save(made.egress, Egress())
    return made


def stands_for_it(monkeypatch: pytest.MonkeyPatch, program: str = PROXY) -> None:
    monkeypatch.setattr(service, "argv", lambda: [sys.executable, "-c", program])
    monkeypatch.setattr(egress_process, "PAUSE", 0.001)


def told(proxy: Proxy) -> dict[str, Any]:
    """What the one that stands for it was told."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(proxy.path))
        return dict(json.loads(client.makefile("rb").read()))


def connected(proxy: Proxy) -> socket.socket:
    """Somebody who waits for it."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(str(proxy.path))
    return client


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_proxy_lives_as_long_as_the_block(directory: SandboxDir, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for_it(monkeypatch)
    directory.egress_socket.touch()  # of a supervisor that was killed
    with egress_proxy.served(directory, {"http_proxy": "http://p:1"}) as proxy:
        mode = proxy.path.lstat().st_mode
        assert stat.S_ISSOCK(mode)
        assert mode & 0o177 == 0
        assert not proxy.path.is_relative_to(directory.sockets), "a VMM sees what is there"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(proxy.path))  # and waits
            proxy.start()
            first = json.loads(client.makefile("rb").read())
        child, thread = proxy.child, proxy.thread
        proxy.start()
        assert (proxy.child, proxy.thread) == (child, thread)
        assert child is not None
    assert (first["policy"], first["request_log"]) == (str(directory.egress), str(directory.request_log))
    assert first["upstream"]["http"] == "http://p:1"
    assert not proxy.path.exists()
    assert proxy.warnings() == ()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_the_real_one_begins_with_the_first_connection(directory: SandboxDir) -> None:
    """A start that asks for nothing does not pay for it, nor for what would have the secrets."""
    policyfile.save(directory.egress, Egress(Policy("vm-1"), git=policyfile.GIT_FETCH))
    with egress_proxy.served(directory, {}) as unused:
        unused.start()
        time.sleep(0.05)  # not waited for anything: there is nothing to wait for
        assert beside() == []
    assert (unused.child, unused.ready, unused.warnings()) == (None, None, ())
    with egress_proxy.served(directory, {}) as proxy:
        proxy.start()
        with connected(proxy) as client:
            client.sendall(b"GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 403 ")
        assert proxy.child is not None
    assert proxy.warnings() == ()


def test_a_block_may_end_at_any_moment_of_a_start(directory: SandboxDir, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for_it(monkeypatch)
    for delay in (0.0, 0.0, 0.001, 0.01, 0.03, 0.1):
        with egress_proxy.served(directory, {}) as proxy, connected(proxy):
            proxy.start()
            time.sleep(delay)  # not waited for anything: whatever has happened by then
        assert proxy.child is None
        assert (proxy.warnings(), proxy.path.exists()) == ((), False)


def test_a_proxy_that_dies_is_started_again_as_it_was(directory: SandboxDir, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for_it(monkeypatch)
    with egress_proxy.served(directory, {"http_proxy": "http://p:1"}) as proxy:
        proxy.start()
        before = told(proxy)
        assert before["authority"] == ""
        for count in (1, 2):
            assert proxy.child is not None
            os.kill(proxy.child.pid, signal.SIGKILL)
            wait_for(partial(lambda number: len(proxy.deaths) == number, count))
            after = told(proxy)  # by the same socket, where it waited meanwhile
            assert after["authority"] == "its key", "which the guest trusts"
            same = ("policy", "request_log", "descriptor", "upstream")
            assert [after[key] for key in same] == [before[key] for key in same]
    (warning,) = proxy.warnings()
    assert warning.startswith("the egress proxy ended and was started again, 2 times; connections were lost: ")


def test_one_that_dies_again_and_again_is_given_up(directory: SandboxDir, monkeypatch: pytest.MonkeyPatch) -> None:
    program = PROXY.partition("with socket")[0] + 'sys.exit("no \x1b[1mauthorities")'
    stands_for_it(monkeypatch, program)
    with egress_proxy.served(directory, {}) as proxy, connected(proxy):
        proxy.start()
        wait_for(lambda: proxy.gone)
        assert len(proxy.deaths) == egress_process.MOST_SHORT + 1
        assert not proxy.path.exists(), "nobody waits for it"
    (warning,) = proxy.warnings()
    assert warning.startswith("the egress proxy ended, and the sandbox has no network any more: no ")
    assert "\x1b" not in warning


def test_what_is_inspected_is_known_before_the_machine_starts(
    directory: SandboxDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_for_it(monkeypatch)
    policyfile.save(directory.egress, Egress(Policy(rules=rules.parse_all(["get:a.example"]))))
    with egress_proxy.served(directory, {}):
        assert directory.authority.read_text() == "of the proxy"
    assert egress_proxy.inspected(directory) == {}, "which is no certificate"


@pytest.mark.parametrize("program", ["", "print('no')", "raise SystemExit(3)"])
def test_a_proxy_that_does_not_start_is_an_error(
    directory: SandboxDir, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    stands_for_it(monkeypatch, program)
    with egress_proxy.served(directory, {}) as proxy, pytest.raises(SessionError, match="did not start"):
        proxy.authority()


def test_what_became_of_it_is_a_warning_at_the_end(directory: SandboxDir, monkeypatch: pytest.MonkeyPatch) -> None:
    stands_for_it(monkeypatch)
    monkeypatch.setattr(run, "environment", dict)
    settings_ = SimpleNamespace(confinement="no")
    part = SimpleNamespace(net="allow", directory=directory, settings=settings_)  # of each kind what is asked for here
    needed = [each.name for each in fields(run.Run) if each.default is MISSING and each.default_factory is MISSING]
    made = run.Run(**cast("Any", dict.fromkeys(needed, part)))
    with made._way_out() as proxy:
        assert proxy is not None
        proxy.start()
        told(proxy)
        assert proxy.child is not None
        os.kill(proxy.child.pid, signal.SIGKILL)
        wait_for(lambda: proxy.deaths)
        told(proxy)
    assert [each.partition(";")[0] for each in made.warnings] == ["the egress proxy ended and was started again, once"]


@pytest.mark.parametrize("setting", ["auto", "no"])
def test_what_stands_in_for_the_proxy_reaches_what_it_needs_and_nothing_else(
    directory: SandboxDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    if not confine.available():
        pytest.skip("this host has no bubblewrap, or lets it make no namespaces")
    home, other = tmp_path / "home-key", tmp_path / "vm-2"
    for each in (home, other):
        each.write_text("precious")
    with socket.socket(socket.AF_UNIX) as agent, socket.create_server(("127.0.0.1", 0)) as server:
        agent.bind(str(tmp_path / "agent"))
        agent.listen()
        words = [home, other, tmp_path / "agent", server.getsockname()[1], os.getpid()]
        monkeypatch.setattr(service, "argv", lambda: [sys.executable, "-c", SPY, *map(str, words)])
        with egress_proxy.served(directory, {}, setting) as proxy:
            proxy.authority()
    found = set(json.loads(directory.request_log.read_text()))
    assert found >= NEEDED
    outside = {"wrote policy", "replaced policy", "home", "other sandbox", "own sandbox", "agent", "process", "passwd"}
    assert (found - NEEDED - {"sysctl"} == outside) if setting == "no" else found == NEEDED
    assert proxy.warnings() == ()


def test_a_host_whose_python_cannot_be_confined_is_told_of_or_refused(
    directory: SandboxDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not confine.available():
        pytest.skip("this host has no bubblewrap, or lets it make no namespaces")
    words = ["/bin/sh", "-c", 'test -e "$1" && exec "$0" -c "$2"', sys.executable, os.fspath(directory.keys), PROXY]
    monkeypatch.setattr(service, "argv", lambda: words)  # what it needs is not in its view
    with egress_proxy.served(directory, {}) as proxy:
        assert proxy.authority() == "of the proxy"
    assert proxy.warnings() == ("the egress proxy is not confined: exit status 1",)
    with egress_proxy.served(directory, {}, "yes") as proxy, pytest.raises(SessionError, match="did not start"):
        proxy.authority()


def test_how_this_host_finds_names_is_copied_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etc, view = tmp_path / "etc", tmp_path / "view"
    for each in (etc, view):
        each.mkdir()
    monkeypatch.setattr(confinement, "ETC", etc)
    blocked = "".join(f"0.0.0.0 ads-{number}.example\n" for number in range(100_000))  # as many have it
    (etc / "hosts").write_text(f"127.0.0.1 a\n{blocked}")
    confinement.copy_resolver(view)
    assert (view / "hosts").read_text() == f"127.0.0.1 a\n{blocked}"
    assert (view / "resolv.conf").read_text() == ""
    node = (view / "hosts").stat().st_ino
    (etc / "other").write_text("127.0.0.1 b")
    (etc / "other").replace(etc / "hosts")  # as who manages networks does
    confinement.copy_resolver(view)
    assert (view / "hosts").read_text() == "127.0.0.1 b"
    assert (view / "hosts").stat().st_ino == node, "a view has the file, whatever becomes of its name"


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        Echo.seen.append(self.headers["authorization"])
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass

    seen: list[str] = []  # noqa: RUF012 - of all requests together


@contextlib.contextmanager
def api(crt: Path) -> Iterator[int]:
    """A server of TLS; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt)
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def asked(proxy: Proxy, request: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(proxy.path))
        client.sendall(f"{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return client.makefile("rb").read()


def handshake(proxy: Proxy, authority: str) -> None:
    """TLS that the proxy opens is of the authority that the guest trusts. Raises ssl.SSLError."""
    context = ssl.create_default_context(cadata=authority)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(proxy.path))
        client.sendall(b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test:443\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        context.wrap_socket(client, server_hostname="api.test").close()


def beside(parent_of_them: int = 0) -> list[int]:
    """Process ids of those that have the secrets; of this process, unless another one is named."""
    wanted = parent_of_them or os.getpid()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == wanted and service.SOURCES.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
    return found


def allowed(directory: SandboxDir) -> int:
    return sum(row.allowed for row in egress_proxy.requests(directory))


def test_the_real_one_has_keys_and_authority_again_after_it_was_killed(directory: SandboxDir, tmp_path: Path) -> None:
    crt = certificate(tmp_path)
    key = replace(declared("key", {"hosts": ["api.test"], "bearer": True, "env": "KEY"}), placeholder="sk-placeholder")
    host = {"KEY": VALUE, "SSL_CERT_FILE": f"{crt}.crt"}
    Echo.seen.clear()
    with api(crt) as port:
        routes = (("api.test:443", f"127.0.0.1:{port}"),)
        policyfile.save(directory.egress, Egress(Policy("vm-1", rules.parse_all(["api.test"])), (key,), routes=routes))
        with egress_proxy.served(directory, host) as proxy:
            authority = proxy.authority()
            handshake(proxy, authority)
            assert asked(proxy, "GET /@key/").endswith(b"ok")
            for count in (1, 2):
                wait_for(partial(lambda number: allowed(directory) == number, count))
                (secrets,), child = beside(), proxy.child
                assert child is not None
                os.kill(secrets if count == 2 else child.pid, signal.SIGKILL)
                wait_for(partial(lambda number: len(proxy.deaths) == number, count))
                assert asked(proxy, "GET /@key/").endswith(b"ok")
                handshake(proxy, authority)
            assert proxy.bare == ""
    assert beside() == []
    assert Echo.seen == [f"Bearer {VALUE}"] * 3
    kept = [each for each in directory.root.rglob("*") if each.is_file() and VALUE.encode() in each.read_bytes()]
    assert kept == []
    assert allowed(directory) == 3, "the ledger goes on"


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


INTERRUPTED = """
import os, signal, socket, sys
from git_sandbox import process
from git_sandbox.egress import service, sources
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
kill_group = process.kill_group
def interrupted(pid):
    process.kill_group = kill_group
    os.kill(os.getpid(), signal.SIGTERM)  # the supervisor's, at that moment
    kill_group(pid)
process.kill_group = interrupted
service.decode_sources = lambda _: service.SourcesOrder(sys.argv[1], theirs.detach(), {})
ours.send(b'{"number": 1, "credential": "key"}')
def serve(channel, policy, environment, real=sources.serve):
    def ended():
        while not os.path.exists(sys.argv[2]):
            pass
        ours.close()
    import threading
    threading.Thread(target=ended).start()
    real(channel, policy, environment)
sources.serve = serve
sources.main()
"""


def test_nothing_stays_where_the_proxy_and_its_supervisor_end_at_once(directory: SandboxDir, tmp_path: Path) -> None:
    """What has the secrets is told to end while it ends its commands because the proxy is gone."""
    asks = tmp_path / "asks"
    source = ["sh", "-c", f"echo $$ >'{asks}.new'; mv '{asks}.new' '{asks}'; sleep 1000; true"]
    key = replace(declared("key", {"hosts": ["api.test"], "bearer": True, "command": source}), placeholder="sk-in")
    policyfile.save(directory.egress, Egress(Policy("vm-1", rules.parse_all(["api.test"])), (key,)))
    words = [sys.executable, "-c", INTERRUPTED, str(directory.egress), str(asks)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: not alive(int(asks.read_text())))


def end_proxy(supervisor: subprocess.Popen[bytes], proxy: int) -> None:
    assert supervisor.pid != proxy
    os.kill(proxy, signal.SIGKILL)


def end_supervisor(supervisor: subprocess.Popen[bytes], _proxy: int) -> None:
    supervisor.kill()


def leave_block(supervisor: subprocess.Popen[bytes], _proxy: int) -> None:
    assert supervisor.stdin is not None
    supervisor.stdin.close()


@pytest.mark.parametrize("end", [end_proxy, end_supervisor, leave_block])
def test_nothing_stays_of_a_proxy_that_waits_for_a_command_of_the_host(
    directory: SandboxDir, tmp_path: Path, end: Callable[[subprocess.Popen[bytes], int], None]
) -> None:
    """As when `pass` has asked for a passphrase that nobody types."""
    asks = tmp_path / "asks"
    source = ["sh", "-c", f"echo $$ >>'{asks}'; sleep 1000; true"]
    key = replace(declared("key", {"hosts": ["api.test"], "bearer": True, "command": source}), placeholder="sk-in")
    policyfile.save(directory.egress, Egress(Policy("vm-1", rules.parse_all(["api.test"])), (key,)))
    words = [sys.executable, "-c", SUPERVISOR, str(directory.root)]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as supervisor,
        socket.socket(socket.AF_UNIX) as client,
    ):
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        try:
            proxy = int(supervisor.stdout.readline())
            (secrets,) = beside(supervisor.pid)
            client.connect(str(directory.egress_socket))
            client.sendall(b"GET /@key/ HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_for(lambda: asks.exists() and asks.read_text().endswith("\n"))
            command = int(asks.read_text())
            assert all(map(alive, (proxy, secrets, command)))
            end(supervisor, proxy)
            wait_for(lambda: not any(map(alive, (proxy, secrets, command))))
        finally:
            supervisor.stdin.close()
    assert not alive(supervisor.pid)
