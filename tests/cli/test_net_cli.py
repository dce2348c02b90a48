"""`sandbox net`, without machines: what it shows of a policy and a log of requests, and what it changes."""

from __future__ import annotations

import fcntl
import time
from types import SimpleNamespace

import pytest

from cli.conftest import Cli
from git_sandbox import record, store
from git_sandbox.cli import net
from git_sandbox.egress import policyfile, request_log
from git_sandbox.egress.request_log import RequestLog
from git_sandbox.errors import StateError, UsageError
from git_sandbox.git import repo as repository
from git_sandbox.sandbox import egress_proxy
from git_sandbox.sandbox.egress_proxy import Refused
from support import fabricated
from support.gitrepo import GitRepo


def made(repo: GitRepo) -> store.Entry:
    fabricated.worked(repo, "vm-1", {"a": "1"})
    return store.find(repository.discover(repo.path), "vm-1")


def test_a_stopped_one_gets_the_network_with_its_first_rule(cli: Cli, repo: GitRepo) -> None:
    entry = made(repo)
    assert cli("net", "vm-1", "--allow", "*").code == UsageError.exit_code
    assert "not started with `--net allow`" in cli("net", "vm-1").err
    said = cli("net", "vm-1", "--allow", "pypi.org", "--allow", "*.example.org", "--json").envelope
    assert said["data"]["rules"] == [{"rule": "pypi.org", "origin": ""}, {"rule": "*.example.org", "origin": ""}]
    seen = record.load(entry.directory)
    assert seen is not None
    assert seen.net == "allow"
    assert policyfile.load(entry.directory.egress).policy.sandbox == "vm-1"
    again = cli("net", "vm-1", "--allow", "pypi.org", "--allow", "b.example:22", "--json").envelope
    assert [each["rule"] for each in again["data"]["rules"]] == ["pypi.org", "*.example.org", "b.example:22"]
    assert "No requests yet" in cli("net", "vm-1").out


def test_one_that_runs_with_another_network_keeps_it(cli: Cli, repo: GitRepo) -> None:
    entry = made(repo)
    with entry.directory.lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        said = cli("net", "vm-1", "--allow", "pypi.org")
    assert (said.code, entry.directory.egress.exists()) == (StateError.exit_code, False)
    assert "not started with `--net allow`" in said.err


def test_a_rule_whose_certificate_a_running_guest_does_not_trust_is_noted(
    cli: Cli, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = made(repo)
    assert net.LATE not in cli("net", "vm-1", "--allow", "a.example").err
    with entry.directory.lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert net.LATE not in cli("net", "vm-1", "--allow", "b.example").err
        assert net.LATE in cli("net", "vm-1", "--allow", "get:c.example").err
        with monkeypatch.context() as patched:
            patched.setattr(egress_proxy, "inspected", lambda _directory: {"383da733.0": b"a certificate"})
            assert net.LATE not in cli("net", "vm-1").err
    assert net.LATE not in cli("net", "vm-1").err


def test_what_is_no_rule_changes_nothing(cli: Cli, repo: GitRepo) -> None:
    entry = made(repo)
    cli("net", "vm-1", "--allow", "pypi.org")
    before = entry.directory.egress.read_bytes()
    said = cli("net", "vm-1", "--allow", "a.example", "--allow", "*")
    assert said.code == 2
    assert "`--net nat`" in said.err
    assert entry.directory.egress.read_bytes() == before


def test_what_was_asked_for_is_shown_last_first_and_printable(cli: Cli, repo: GitRepo) -> None:
    entry = made(repo)
    cli("net", "vm-1", "--allow", "a.example")
    entry.directory.request_log.parent.mkdir()
    book = RequestLog(entry.directory.request_log)
    row = book.allow("a.example", 443)
    book.count(row, sent=2048, received=5 << 20)
    book.refuse("b\x1b[31m.example", 443, "b\x1b[31m is not allowed", "sandbox net vm-1 --allow b.example")
    book.save()
    said = cli("net", "vm-1")
    assert "\x1b[31m" not in said.out
    assert ["a.example:443", "1", "0", "2", "KiB", "5.0", "MiB"] in [line.split()[:7] for line in said.out.splitlines()]
    assert "`sandbox net vm-1 --allow b.example`" in said.out
    assert [each["host"] for each in cli("net", "vm-1", "--json").envelope["data"]["asked"]][-1:] != []
    followed = cli("net", "vm-1", "--follow")  # it does not run: said once
    assert [line.split()[1] for line in followed.out.splitlines()] == ["allowed", "refused"]


def test_following_ends_with_a_sandbox_that_leaves_nothing(
    cli: Cli, repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = made(repo)
    cli("net", "vm-1", "--allow", "a.example")
    entry.directory.request_log.parent.mkdir()
    book = RequestLog(entry.directory.request_log)
    book.allow("a.example", 443)
    book.save()
    with entry.directory.lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)

        def ends(_seconds: float) -> None:
            entry.directory.root.rename(entry.directory.root.with_name("gone"))

        clock = SimpleNamespace(sleep=ends, strftime=time.strftime, localtime=time.localtime)
        monkeypatch.setattr(net, "time", clock)
        said = cli("net", "vm-1", "--follow")
    assert (said.code, said.err) == (0, ""), said.err
    assert [line.split()[1] for line in said.out.splitlines()] == ["allowed"]


def test_what_cannot_be_shown_changes_nothing(cli: Cli, repo: GitRepo) -> None:
    entry = made(repo)
    assert cli("net", "vm-1", "--allow", "a.example", "--follow", "--json").code == UsageError.exit_code
    assert not entry.directory.egress.exists()


def test_a_change_of_network_that_fails_half_way_leaves_one_that_starts(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = made(repo)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(policyfile, "save", full)
    with pytest.raises(OSError, match="No space"):
        egress_proxy.switch_on(repository.discover(repo.path), "vm-1")
    seen = record.load(entry.directory)
    assert seen is not None
    assert seen.net == "none"


def test_names_are_for_one_network_only(cli: Cli) -> None:
    for mode in ("none", "nat"):
        said = cli("run", "--net", mode, "--allow", "a.example", "--", "true")
        assert (said.code, "`--net allow`" in said.err) == (2, True)
    assert "is not a rule" in cli("run", "--allow", "a/b", "--", "true").err


def test_refusals_end_in_one_line_that_allows_them() -> None:
    assert net.refusals(()) == []
    rows = [Refused("a.example", 443, 2, "", "a.example"), Refused("10.0.0.1", 22, 1, "", "")]
    assert net.refusals(rows) == [
        "The network refused a.example:443 (2), 10.0.0.1:22 (1).",
        "To allow it next time: `--allow a.example`",
    ]
    push = "a push to b.example:443/a is not allowed: start the sandbox with --git-credentials push"
    others = [Refused("::1", 22, 1, "", "'[::1]:22'"), Refused("b.example", 443, 1, push, "")]
    assert net.refusals([*others, Refused(request_log.OTHERS, 0, 9, "", "")]) == [
        "The network refused [::1]:22 (1), b.example:443 (1), (others) (9).",
        f"  {push}",
        "To allow it next time: `--allow '[::1]:22'`",
    ]
    many = [Refused(f"{n}.example", 443, 1, "", f"{n}.example") for n in range(50)]
    assert "and 40 more" in net.refusals(many)[0]
