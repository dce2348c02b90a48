"""The way from a sandbox's supervisor to its proxy: the policy that settings make, and the process."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from git_sandbox import network, paths, session, settings
from git_sandbox.egress import policyfile, request_log, service
from git_sandbox.egress.credentials import Credential, Source
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.request_log import RequestLog
from git_sandbox.egress.rules import Limits, Policy
from git_sandbox.errors import StateError, UsageError
from git_sandbox.git import repo as repository
from git_sandbox.sandbox import egress_proxy, run
from git_sandbox.sandbox.egress_proxy import Refused
from git_sandbox.sandbox_dir import SandboxDir
from support.gitrepo import GitRepo


@pytest.fixture
def directory(tmp_path: Path) -> SandboxDir:
    made = SandboxDir(tmp_path / "vm-1")
    made.request_log.parent.mkdir(parents=True)
    paths.private_directory(made.sockets.parent)
    policyfile.save(made.egress, Egress())
    return made


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((), Limits()),
        (("connections=5", "rate=2"), Limits(connections=5, rate=2)),
        (("sent=500M",), Limits(sent=500 << 20)),
        (("SENT=2G", "connections=1"), Limits(connections=1, sent=2 << 30)),
    ],
)
def test_limits(texts: tuple[str, ...], found: Limits) -> None:
    assert egress_proxy.limits(texts) == found


@pytest.mark.parametrize("text", ["connections", "rate=1G", "sent=", "bytes=5", "rate=-1", "connections=1;rate=2"])
def test_what_is_no_limit_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="not a limit of the network"):
        egress_proxy.limits((text,))


def test_settings_make_the_policy(repo: GitRepo) -> None:
    repo.git("remote", "add", "origin", "git@forge.example:team/x.git")
    repo.git("remote", "add", "mirror", "https://mirror.example:8443/x.git")
    repo.git("remote", "add", "beside", "../other")
    given = {
        "net": "allow",
        "allow": ("@git", "*.docs.example", "deny:secret.docs.example"),
        "egress_limit": ("rate=3",),
    }
    wanted, _ = settings.resolve(given)
    found = egress_proxy.policy(repository.discover(repo.path), wanted, "vm-7").policy
    assert (found.sandbox, found.limits.rate) == ("vm-7", 3)
    asked = [
        ("forge.example", 22), ("forge.example", 443), ("mirror.example", 8443), ("a.docs.example", 443),
        ("secret.docs.example", 443),
    ]  # fmt: skip
    assert [found.decide(*each).allowed for each in asked] == [True, False, True, True, False]


def test_git_credentials_are_for_the_remotes_that_git_reaches_by_https(repo: GitRepo) -> None:
    repo.git("remote", "add", "origin", "https://forge.example/team/x.git")
    wanted, _ = settings.resolve({"git_credentials": "fetch"})
    found = egress_proxy.policy(repository.discover(repo.path), wanted)
    assert (found.git, found.git_remotes) == ("fetch", ("forge.example:443/team/x",))
    assert found.opens_tls
    assert not Egress().opens_tls


def test_rules_of_every_source_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    config = paths.config_file()
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('allow = ["a.example", "@pip"]\n')
    monkeypatch.setenv("SANDBOX_ALLOW", "b.example,deny:c.example")
    found, values = settings.resolve({"allow": ("d.example",)})
    assert found.allow == ("d.example", "b.example", "deny:c.example", "a.example", "@pip")
    source = next(each.source for each in values if each.name == "allow")
    assert source == f"command line and environment (SANDBOX_ALLOW) and {config}"
    assert found.net is network.NONE, "names alone switch no network on"


def test_the_hosts_own_way_out_is_used() -> None:
    host = {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2", "ALL_PROXY": "http://r:3", "no_proxy": "a, .b,c"}
    found = egress_proxy.upstream(host)
    assert (found.http, found.https, found.no_proxy) == ("http://r:3", "http://q:2", ("a", ".b", "c"))
    assert egress_proxy.upstream({}) == service.Upstream()
    assert egress_proxy.upstream({"SSL_CERT_FILE": __file__}).authorities == __file__
    assert egress_proxy.upstream({"SSL_CERT_FILE": "/nowhere"}).authorities == ""


def test_only_declared_variables_reach_the_proxy() -> None:
    sources = [Source("env", ("TOKEN",)), Source("env", ("GONE",)), Source("file", ("OTHER",))]
    made = tuple(Credential("x", ("a.example",), "bearer", "authorization", each) for each in sources)
    assert egress_proxy.values(Egress(credentials=made), {"TOKEN": "t", "OTHER": "o"}) == {"TOKEN": "t"}


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_the_real_one_obeys_a_policy_that_changes(repo: GitRepo, directory: SandboxDir) -> None:
    """All that is between a guest's port and a server, without a guest."""
    server = HTTPServer(("127.0.0.1", 0), Hello)
    place = f"127.0.0.1:{server.server_port}"
    with server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def asked() -> bytes:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(proxy.path))
                client.sendall(f"GET http://{place}/a HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n".encode())
                return client.makefile("rb").read()

        with egress_proxy.served(directory, {}) as proxy:
            assert proxy.authority() == ""
            assert proxy.bare == ""
            assert asked().startswith(b"HTTP/1.1 403 ")
            egress_proxy.allow(repository.discover(repo.path), directory, [place])
            deadline = time.monotonic() + 30
            while not (said := asked()).startswith(b"HTTP/1.1 200 ") and time.monotonic() < deadline:
                time.sleep(0.05)  # until the proxy looks at its policy again
            assert said.endswith(b"/a")
        server.shutdown()
    egress, rows = egress_proxy.look(directory)
    assert [str(each) for each in egress.policy.rules] == [place]
    assert [(row.host, row.port, row.allowed) for row in rows] == [("127.0.0.1", server.server_port, 1)]
    assert rows[0].refused >= 1
    assert proxy.warnings() == ()


def test_without_a_policy_there_is_no_proxy(directory: SandboxDir) -> None:
    directory.egress.unlink()
    with pytest.raises(StateError), egress_proxy.served(directory, {}):
        pass


def test_refusals_of_this_session_are_told_with_what_allows_them(directory: SandboxDir) -> None:
    moment = time.time()
    book = RequestLog(directory.request_log, now=lambda: moment)
    policy = Policy("vm-1")
    for host, port in (("a.example", 443), ("a.example", 443), ("*.b", 22)):
        said = policy.decide(host, port)
        book.refuse(host, port, said.message, said.hint)
    book.refuse("d.example", 443, "a push is not allowed", "start the sandbox with --git-credentials push")
    book.allow("c.example", 80)
    book.save()
    found = egress_proxy.refused(directory, moment)
    assert {(each.host, each.times, each.rule) for each in found} == {
        ("a.example", 2, "a.example"),
        ("*.b", 1, "'*.b:22'"),
        ("d.example", 1, ""),
    }
    assert {each.message for each in found if not each.rule} == {
        "a push is not allowed: start the sandbox with --git-credentials push"
    }
    assert egress_proxy.refused(directory, moment + 1) == ()
    directory.request_log.write_text("{")
    assert egress_proxy.refused(directory, 0) == ()
    assert isinstance(found[0], Refused)
    with pytest.raises(StateError):
        egress_proxy.look(directory)


def test_what_git_pushed_to_in_this_session_is_named(directory: SandboxDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "environment", dict)
    book = RequestLog(directory.request_log)
    book.push(book.allow("before.example", 443))
    book.allow("fetched.example", 443)
    time.sleep(0.01)  # until the clock of the log of requests says another time
    settings_ = SimpleNamespace(confinement="no")
    part = SimpleNamespace(net="allow", directory=directory, settings=settings_)  # of each kind what is asked for here
    needed = [each.name for each in fields(run.Run) if each.default is MISSING and each.default_factory is MISSING]
    made = run.Run(**cast("Any", dict.fromkeys(needed, part)))
    with made._way_out():
        book.push(book.allow("forge.example", 443))
        book.save()
    assert made.warnings == ("git in the sandbox pushed to forge.example:443",)


def test_a_policy_is_copied_under_the_new_name(directory: SandboxDir, tmp_path: Path) -> None:
    other = SandboxDir(tmp_path / "vm-2")
    other.root.mkdir()
    egress_proxy.copy(directory, other, "vm-2")
    assert policyfile.load(other.egress).policy.sandbox == "vm-2"
    assert request_log.load(other.request_log) == []
    with pytest.raises(FileNotFoundError):
        egress_proxy.copy(SandboxDir(tmp_path / "none"), other, "vm-2")


def test_the_sessions_connection_leads_a_port_of_the_guest_there() -> None:
    odd = Path("/run/a b:c%h/x.net")
    argv = session.master("vm-1", Path("/c"), odd)
    assert argv[argv.index("-R") + 1] == f"127.0.0.1:{network.PROXY_PORT}:./x.net"
    assert argv[-1] == "sandbox-vm-1"
    assert "-R" not in session.master("vm-1", Path("/c"), None)


def test_programs_are_told_of_it_in_both_spellings() -> None:
    found = network.ALLOW.variables
    assert {name.lower() for name in found} == {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    assert len(found) == 8
    assert all(found[name] == found[name.upper()] for name in list(found))
    assert (network.NONE.variables, network.NAT.variables) == ({}, {})
    assert (network.ALLOW.guest.proxy, network.NAT.guest.proxy) == (network.PROXY_PORT, 0)


def test_rules_that_are_added_at_the_same_time_are_all_kept(repo: GitRepo, directory: SandboxDir) -> None:
    found = repository.discover(repo.path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: egress_proxy.allow(found, directory, [f"h{number}.example"]), range(24)))
    assert len(policyfile.load(directory.egress).policy.rules) == 24
