"""Rules, names and addresses, against oracles that share no code with them."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.egress import addresses, names, rules
from git_sandbox.egress.rules import Policy, Rule
from git_sandbox.errors import UsageError
from support.examples import examples

LABELS = st.sampled_from(["a", "b", "example", "xn--bcher-kva", "x_y", "9"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(lambda labels: ".".join([*labels, "test"]))
V4 = st.sampled_from(["10.1.2.3", "8.8.8.8", "127.0.0.1", "192.168.7.9"])
PORTS = st.sampled_from([22, 80, 443, 8080])
PORTED = st.one_of(st.none(), PORTS)
NETWORKS = st.sampled_from(["10.0.0.0/8", "192.168.0.0/16", "8.8.8.0/24"])
HOSTS = st.one_of(NAMES, NAMES.map("*.{}".format), V4, NETWORKS)
RULES = st.builds(
    lambda action, host, port: f"{action}{host}{f':{port}' if port else ''}",
    st.sampled_from(["", "", "get:", "deny:"]), HOSTS, PORTED,
)  # fmt: skip


def oracle(texts: list[str], host: str, port: int) -> str:
    """The strongest action by string operations and regular expressions only: deny, get, allow or nothing."""
    found = set()
    for text in texts:
        action, _, rest = text.partition(":") if text.startswith(("get:", "deny:")) else ("allow", "", text)
        where, _, number = rest.partition(":")
        ports = {int(number)} if number else set(range(65536)) if action == "deny" else {80, 443}
        literal = re.fullmatch(r"[0-9.]+", host)
        hit: object
        if where.startswith("*."):
            hit = not literal and re.fullmatch(r".+\." + re.escape(where[2:]), host)
        elif "/" in where:
            prefix = {"8": 1, "16": 2, "24": 3}[where.split("/")[1]]
            hit = literal and host.split(".")[:prefix] == where.split(".")[:prefix]
        else:
            hit = where == host
        if hit and port in ports:
            found.add(action)
    return next((each for each in ("deny", "get", "allow") if each in found), "")


@settings(max_examples=examples(100))
@given(st.lists(RULES, max_size=6), st.one_of(NAMES, V4), PORTS)
def test_a_decision_is_what_the_rules_say_in_any_order(texts: list[str], host: str, port: int) -> None:
    expected = oracle(texts, host, port)
    for order in (texts, texts[::-1]):
        decision = Policy(rules=rules.parse_all(order)).decide(host, port)
        assert decision.allowed == (expected in ("get", "allow"))
        assert decision.read_only == (expected == "get")
        assert bool(decision.message) != decision.allowed
        assert bool(decision.hint) == (expected == "")


@settings(max_examples=examples(100))
@given(RULES)
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    rule = rules.parse(text)
    assert rules.parse(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Example.ORG.", Rule("allow", "example.org")),
        ("example.org:22", Rule("allow", "example.org", 22)),
        ("get:*.example.org:443", Rule("get", "*.example.org", 443)),
        ("::1", Rule("allow", "::1")),
        ("[::1]:8080", Rule("allow", "::1", 8080)),
        ("[::ffff:10.0.0.1]:80", Rule("allow", "10.0.0.1", 80)),
        ("10.1.2.3/16", Rule("allow", "10.1.0.0/16")),
        ("[fd00::/16]:443", Rule("allow", "fd00::/16", 443)),
        ("deny:0.0.0.0/0", Rule("deny", "0.0.0.0/0")),
    ],
)
def test_a_rule_has_one_meaning(text: str, rule: Rule) -> None:
    assert rules.parse(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "", "*", "*.", "get:", "deny:*", "a b", "a/b", "http://a.test", "a.test:", "a.test:0", "a.test:65536",
        "a.test:٣", "user@a.test", "a..test", "-a.test", "a-.test", "bücher.test", "127.1", "2130706433",
        "0x7f.0.0.1", "0177.0.0.1", "a.test:80:80", "[::1", "[a.test]:80", "[::1]:", "fe80::1%eth0", "*.10.0.0.1",
        "0.0.0.0/0", "::/0", "10.0.0.0/33", "@nothing", "a.*.test", "a.test\n", "a\0.test", "a" * 254,
        f"{'a' * 64}.test", "a.0x1f",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_in_one_voice(text: str) -> None:
    with pytest.raises(UsageError, match="is not a rule for the network") as caught:
        rules.parse_all([text])
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["https://a.test/x", "http://a.test:8080", "get:ssh://a.test"])
def test_a_url_that_was_pasted_is_called_one(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        rules.parse(text)
    assert refused.value.cause == "a rule names a host, without `https://` and without a path"


@settings(max_examples=examples(200))
@given(st.text(max_size=30))
def test_any_text_is_a_rule_that_matches_itself_or_an_error(text: str) -> None:
    try:
        rule = rules.parse(text)
    except UsageError:
        return
    assert rules.parse(str(rule)) == rule
    bare = rule.host.removeprefix("*.").split("/")[0]
    assert names.host(bare) == bare


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1", "127.255.0.1", "10.0.0.1", "172.31.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.1.2.3",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1",
        "fe80::1", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
        "2001:0:7f00:1::", "2001:db8::1", "64:ff9b:1::1", "100::1", "5f00::1", "::ffff:0:127.0.0.1", "192.0.0.8",
    ],
)  # fmt: skip
def test_a_name_may_not_lead_to_a_special_address(text: str) -> None:
    address = ipaddress.ip_address(text)
    assert addresses.fault(address)
    decision = Policy(rules=rules.parse_all(["a.test"])).decide_address("a.test", address, 443)
    assert not decision.allowed
    assert decision.message
    if not addresses.never(address):
        own = rules.parse_all(["a.test", str(names.plain(address))])
        assert Policy(rules=own).decide_address("a.test", address, 443).allowed
        assert not Policy(rules=own).decide_address("a.test", address, 22).allowed, "a rule is for its ports"


def test_a_name_may_not_lead_to_an_address_of_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a public one. The kernel says which are: it has 127.0.0.0/8, all but the first as further ones."""
    for text, own in (("127.0.0.1", True), ("127.9.9.9", True), ("192.0.2.1", False), ("2001:db8::1", False)):
        assert addresses.own(ipaddress.ip_address(text)) == own, text
    address = ipaddress.ip_address("8.8.8.8")
    monkeypatch.setattr(addresses, "own", lambda asked: asked == address)
    named = Policy(rules=rules.parse_all(["a.test"]))
    for text in ("8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        decision = named.decide_address("a.test", ipaddress.ip_address(text), 443)
        assert (decision.allowed, "an address of this host" in decision.message) == (False, True), text
    assert Policy(rules=rules.parse_all(["a.test", "8.8.8.8"])).decide_address("a.test", address, 443).allowed


@settings(max_examples=examples(100))
@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_pythons_library_calls_special_is_special(address: names.Address) -> None:
    address = names.plain(address)
    if not address.is_global or address.is_multicast or address.is_reserved:
        nat64 = address in ipaddress.ip_network("64:ff9b::/96")
        assert addresses.fault(address) or nat64


@pytest.mark.parametrize("text", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_the_public_network_is_not_special(text: str) -> None:
    assert addresses.fault(ipaddress.ip_address(text)) == ""


def test_an_address_is_allowed_by_its_rule_only_and_never_where_nobody_is() -> None:
    policy = Policy(rules=rules.parse_all(["*.test", "10.0.0.0/8", "224.0.0.0/8"]))
    assert policy.decide("10.9.9.9", 443).allowed
    assert not policy.decide("8.8.8.8", 443).allowed
    assert not policy.decide("224.0.0.1", 443).allowed


def test_the_refusal_names_the_rule_to_add() -> None:
    policy = Policy(sandbox="vm-1", rules=rules.parse_all(["a.test"]))
    assert policy.decide("b.test", 443).hint == "sandbox net vm-1 --allow b.test"
    assert policy.decide("b.test", 22).hint == "sandbox net vm-1 --allow b.test:22"
    assert policy.decide("::1", 8080).hint == "sandbox net vm-1 --allow '[::1]:8080'"
    assert policy.decide_address("a.test", ipaddress.ip_address("10.0.0.1"), 80).hint.endswith("--allow 10.0.0.1")


def test_a_group_is_what_it_is_told_to_be() -> None:
    found = rules.parse_all(["@pip", "get:@npm"], {"pip": ["mirror.test"], "npm": ["npm.test:8443"]}.__getitem__)
    assert found == (Rule("allow", "mirror.test", None, "@pip"), Rule("get", "npm.test", 8443, "@npm"))
    with pytest.raises(UsageError, match="rules"):
        rules.parse_all([f"h{number}.test" for number in range(rules.MOST_RULES + 1)])


@pytest.mark.parametrize(
    ("texts", "led", "straight"),
    [
        (("*.a.test", "get:10.0.0.5"), False, True),
        (("*.a.test", "10.0.0.5", "get:10.0.0.0/24"), False, True),
        (("get:*.a.test", "get:10.0.0.5"), True, True),
        (("get:*.a.test", "10.0.0.5"), True, True),
        (("*.a.test", "10.0.0.5"), True, True),
        (("*.a.test", "get:10.0.0.5:8080"), False, False),
    ],
)
def test_an_address_that_is_only_read_is_only_read_through_a_name_too(
    texts: tuple[str, ...], led: bool, straight: bool
) -> None:
    policy, address = Policy(rules=rules.parse_all(texts)), ipaddress.ip_address("10.0.0.5")
    assert policy.decide_address("x.a.test", address, 443).allowed == led
    assert policy.decide("10.0.0.5", 443).allowed == straight
    if straight:
        assert policy.decide_address("10.0.0.5", address, 443).allowed


def test_a_public_address_that_is_only_read_is_only_read_in_any_disguise() -> None:
    policy = Policy(rules=rules.parse_all(["a.test", "get:8.8.8.8"]))
    for text in ("8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808"):
        assert not policy.decide_address("a.test", ipaddress.ip_address(text), 443).allowed


DISGUISES = [
    "::ffff:{}", "64:ff9b::{}", "64:ff9b:1::{}", "::ffff:0:{}", "::{}", "2606:4700::5efe:{}", "2606:4700::200:5efe:{}",
]  # fmt: skip


@settings(max_examples=examples(60))
@given(st.ip_addresses(v=4, network="8.0.0.0/8"))
def test_a_denied_address_is_denied_in_any_disguise(address: ipaddress.IPv4Address) -> None:
    high, low = (f"{int(address) >> 16:x}", f"{int(address) & 0xFFFF:x}")
    inverted = int(address) ^ 0xFFFFFFFF
    spelled = [each.format(address) for each in DISGUISES]
    spelled += [f"2002:{high}:{low}::1", f"2001:0:{high}:{low}::1"]
    spelled += [f"2001:0:4136:e378:8000:63bf:{inverted >> 16:x}:{inverted & 0xFFFF:x}"]
    near = rules.parse_all(
        ["a.test", "2000::/16", "2002::/16", "64:ff9b::/32", "::/16", "2001::/32", f"deny:{address}"]
    )
    for text in spelled:
        found = ipaddress.ip_address(text)
        decision = Policy(rules=near).decide_address("a.test", found, 443)
        assert not decision.allowed, text
        assert f"the rule `deny:{address}`" in decision.message
        assert not Policy(rules=near).decide(str(names.plain(found)), 443).allowed
        wide = rules.parse_all(["a.test", "deny:8.0.0.0/8"])
        assert "deny:8.0.0.0/8" in Policy(rules=wide).decide_address("a.test", found, 443).message


def test_a_network_of_ipv6_does_not_allow_what_is_within_it() -> None:
    def allowed(text: str, *texts: str) -> bool:
        return (
            Policy(rules=rules.parse_all(["a.test", *texts]))
            .decide_address("a.test", ipaddress.ip_address(text), 443)
            .allowed
        )

    for inner in ("64:ff9b::a00:5", "2002:a00:5::1", "64:ff9b:1::a00:5"):
        network = f"{inner.partition('::')[0]}::/48" if inner.startswith("2002") else "64:ff9b::/32"
        assert not allowed(inner, network)
        assert allowed(inner, network, "10.0.0.0/8")
        assert allowed(inner, inner)
    assert allowed("64:ff9b::808:808", "64:ff9b::/96")
    assert allowed("64:ff9b::808:808")


def test_what_is_within_an_ordinary_address_is_nothing() -> None:
    for text in ("8.8.8.8", "2606:4700::1111", "fd00::1", "::ffff:8.8.8.8"):
        assert addresses.embedded(ipaddress.ip_address(text)) == ()
