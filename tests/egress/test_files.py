"""The policy and the log of requests as files."""

from __future__ import annotations

from pathlib import Path

import pytest

from git_sandbox.egress import credentials, policyfile, request_log, rules, service
from git_sandbox.egress.policyfile import Egress
from git_sandbox.egress.request_log import RequestLog
from git_sandbox.egress.rules import Limits, Policy
from git_sandbox.errors import StateError, UsageError

ALL = Egress(
    Policy("vm-1", rules.parse_all(["a.test", "get:*.b.test:443", "@pip"], lambda _: ["p.test"]), Limits(3, 4, 5)),
    (
        credentials.declared(
            "key", {"hosts": ["api.test"], "header": "X-Api-Key", "command": ["pass", "x"], "expiry": 9}
        ),
    ),
    "fetch",
    ("forge.test:443/a/b",),
    (("api.test:443", "127.0.0.1:9999"),),
)


def test_a_policy_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "egress.json"
    policyfile.save(path, ALL)
    assert policyfile.load(path) == ALL
    assert path.stat().st_mode & 0o777 == 0o600
    more = policyfile.with_rules(ALL, rules.parse_all(["c.test", "a.test"]))
    policyfile.save(path, more)
    assert [str(each) for each in policyfile.load(path).policy.rules] == [
        "a.test",
        "get:*.b.test:443",
        "p.test",
        "c.test",
    ]
    assert list(tmp_path.iterdir()) == [path]


def test_no_more_rules_are_added_than_are_read_again() -> None:
    full = Egress(Policy("vm-1", rules.parse_all(f"h{number}.test" for number in range(rules.MOST_RULES))))
    assert policyfile.decode(policyfile.encode(policyfile.with_rules(full, full.policy.rules[:1]))) == full
    with pytest.raises(UsageError, match="rules for the network"):
        policyfile.with_rules(full, rules.parse_all(["one.more.test"]))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"schema": 2}', b"\xff", b"1" * 5000])
def test_what_is_no_policy_is_an_error_with_its_place(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "egress.json"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"egress\.json"):
        policyfile.load(path)


def test_gits_credentials_are_for_the_repositories_of_the_remotes() -> None:
    assert [ALL.git_may("forge.test", 443, path) for path in ("a/b", "a/b.git", "a/bc", "a", "")] == [
        "fetch", "fetch", "none", "none", "none",
    ]  # fmt: skip


def test_what_is_inspected_and_where_it_leads() -> None:
    assert [ALL.inspects(*each) for each in (("api.test", 443), ("x.b.test", 443), ("forge.test", 443))] == [True] * 3
    assert not ALL.inspects("a.test", 443)
    assert ALL.route("api.test", 443) == ("127.0.0.1", 9999)
    assert ALL.route("api.test", 80) == ("api.test", 80)


def test_a_ledger_is_bounded_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    clock = iter(range(1, 10_000))
    book = RequestLog(path, now=lambda: float(next(clock)))
    row = book.allow("a.test", 443)
    book.count(row, sent=10, received=20)
    for number in range(request_log.MOST_ROWS + 50):
        book.refuse(f"h{number}.test", 443, "no\n\x1b[2J" * 200, "hint")
    book.save()
    rows = {row.host: row for row in request_log.load(path)}
    assert len(rows) == request_log.MOST_ROWS + 1
    assert (rows["a.test"].sent, rows["a.test"].received, rows["a.test"].allowed) == (10, 20, 1)
    assert rows[request_log.OTHERS].refused == 51
    assert "\x1b" not in rows["h1.test"].message
    assert len(rows["h1.test"].message) <= 400
    assert request_log.resumed(path).sent == 10
    path.write_text("[]")
    with pytest.raises(ValueError, match="network log"):
        request_log.load(path)
    assert request_log.load(tmp_path / "none") == []


def test_a_ledger_that_cannot_be_written_stays_in_memory(tmp_path: Path) -> None:
    book = RequestLog(tmp_path / "missing" / "net.json")
    book.allow("a.test", 443)
    book.save()
    assert book.dirty


def test_an_order_is_read_as_it_was_written() -> None:
    upstream = service.Upstream("http://p.test:3128", "", ("a.test",), "/ca.pem")
    order = service.Order("/p", "/l", 3, upstream, 4, 5, "secret")
    assert service.decode(order.encode()) == order
    sources = service.SourcesOrder("/p", 4, {"KEY": "secret"})
    assert service.decode_sources(sources.encode()) == sources
    assert "secret" not in f"{order!r}{sources!r}"
    assert service.ready(b'{"authority": "x", "secret": "y"}') == service.Ready("x", "y")
    with pytest.raises(ValueError, match="message of the proxy"):
        service.ready(b"[]")
