"""What a guest may reach: rules, and the one decision made from them.

The order of rules has no meaning. `deny:` is stronger than `get:`, and that than a plain rule; where no rule matches
the answer is no. A rule that names no port means those of the web; it names an address where it is one.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable

from git_sandbox.egress import addresses, names
from git_sandbox.egress.names import Address
from git_sandbox.errors import UsageError
from git_sandbox.later import dataclass, regex
from git_sandbox.text import one_line

ALLOW, GET, DENY = "allow", "get", "deny"
WEB = (80, 443)
GROUPS = ("apt", "pip", "npm", "cargo", "go", "git")
MOST_RULES = 2000
# A network that a rule may name at most; more is what `--net nat` is for.
WIDEST = {4: 8, 6: 16}  # bits
FORMS = "NAME, NAME:PORT, *.example.org, 192.0.2.1, 10.1.0.0/16, @pip, get:NAME or deny:NAME"
_NETWORK = regex(r"(?P<open>\[)?(?P<net>[0-9a-fA-F:.]+/[0-9]{1,3})(?(open)\])(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True)
class Rule:
    """`host`: a name, `*.` and a name (anything below it, not itself), an address, or a network (10.0.0.0/8).

    `port` None: 80 and 443, of a `deny` all. `origin`: who says so, for people (`@pip`, `command line`).
    """

    action: str  # allow | get | deny
    host: str
    port: int | None = None
    origin: str = ""

    def __str__(self) -> str:
        prefix = "" if self.action == ALLOW else f"{self.action}:"
        bare = f"[{self.host}]" if ":" in self.host and self.port else self.host
        return f"{prefix}{bare}:{self.port}" if self.port else f"{prefix}{self.host}"

    def matches(self, host: str, port: int) -> bool:
        """`host` as `names.host` spells it."""
        return self.has_port(port) and self.has_host(host)

    def has_port(self, port: int) -> bool:
        if self.port is None:
            return self.action == DENY or port in WEB
        return self.port == port

    def has_host(self, host: str) -> bool:
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and names.address(host) is None
        if self.host == host:
            return True
        address = names.address(host)
        return address is not None and self.covers(address)

    def covers(self, address: Address) -> bool:
        """Whether the rule is about addresses, and this is one of them; for a `deny` also one that is within it."""
        network = _addresses(self.host)
        if network is None:
            return False
        every = (address, *addresses.embedded(address)) if self.action == DENY else (address,)
        return any(other in network for other in every)

    @property
    def addressed(self) -> bool:
        """Whether it is about addresses."""
        return _addresses(self.host) is not None


@functools.lru_cache(2 * MOST_RULES)
def _addresses(host: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Those that a rule is about, None where it is about names."""
    literal = names.address(host)
    return ipaddress.ip_network(host if literal is None else literal) if "/" in host or literal is not None else None


@dataclass(frozen=True)
class Decision:
    """`message`: what is not allowed and why; `hint`: what the user can add. Empty where it is allowed."""

    allowed: bool
    rule: Rule | None = None
    message: str = ""
    hint: str = ""

    @property
    def read_only(self) -> bool:
        return self.rule is not None and self.rule.action == GET


@dataclass(frozen=True)
class Limits:
    """`sent`: bytes that may leave altogether, None for no limit. `rate`: new connections a second."""

    connections: int = 256
    rate: int = 100
    sent: int | None = None


@dataclass(frozen=True)
class Policy:
    """`sandbox`: its id, for hints."""

    sandbox: str = "ID"
    rules: tuple[Rule, ...] = ()
    limits: Limits = Limits()

    def decide(self, host: str, port: int) -> Decision:
        """About what a guest asked for. `host` as `names.host` spells it: a name, or an address that was asked for."""
        rules = [rule for rule in self.rules if rule.matches(host, port)]
        for action in (DENY, GET, ALLOW):
            rule = next((candidate for candidate in rules if candidate.action == action), None)
            if rule is not None and action == DENY:
                return Decision(False, rule, f"{names.joined(host, port)} is denied by the rule `{rule}`")
            if rule is not None:
                literal = names.address(host)
                return Decision(True, rule) if literal is None else self._literal(literal, port, rule)
        return Decision(False, None, f"{names.joined(host, port)} is not allowed", self._add(host, port))

    def decide_address(self, host: str, address: Address, port: int) -> Decision:
        """About an address that the allowed name `host` leads to: a special one needs a rule that names it, and one of
        a rule `get:` is led to by names that are read only, too.
        """
        address = names.plain(address)
        within = addresses.embedded(address)
        about = [rule for rule in self.rules if rule.addressed and rule.has_port(port)]
        rules = [rule for rule in about if rule.covers(address)]
        fact = f"{names.joined(host, port)} leads to {address}"
        denied = next((rule for rule in rules if rule.action == DENY), None)
        if denied is not None:
            return Decision(False, denied, f"{fact}, which is denied by the rule `{denied}`")
        read = next((rule for rule in about if rule.action == GET and any(map(rule.covers, (address, *within)))), None)
        if read is not None and not self.decide(host, port).read_only:
            return Decision(False, read, f"{fact}, which the rule `{read}` covers, and {host} is not read-only")
        kind = addresses.fault(address)
        if addresses.never(address):
            return Decision(False, None, f"{fact}, {kind}")
        if kind and not rules:
            return Decision(False, None, f"{fact}, {kind}", self._add(str(address), port))
        return self._inner(fact, within, rules, about) or Decision(True, rules[0] if rules else None)

    def _inner(
        self, fact: str, within: Iterable[Address], rules: Iterable[Rule], about: Iterable[Rule]
    ) -> Decision | None:
        """No, where a network that a rule names has a special IPv4 address in it, which no rule names."""
        if any("/" not in rule.host for rule in rules):
            return None
        for inner in within:
            kind = addresses.fault(inner)
            if kind and not any(rule.covers(inner) for rule in about):
                return Decision(False, None, f"{fact}, and that to {inner}, {kind}")
        return None

    def denies_addresses(self, port: int) -> bool:
        """Whether some addresses are denied there, which have to be known for that."""
        return any(rule.action == DENY and rule.addressed and rule.has_port(port) for rule in self.rules)

    def _literal(self, literal: Address, port: int, rule: Rule) -> Decision:
        if addresses.never(literal):
            what = names.joined(str(literal), port)
            return Decision(False, None, f"{what} is {addresses.fault(literal)}, which is never allowed")
        return Decision(True, rule)

    def _add(self, host: str, port: int) -> str:
        """The command that allows it."""
        rule = Rule(ALLOW, host, None if port in WEB else port)
        return f"sandbox net {self.sandbox} --allow {_quoted(str(rule))}"


def _quoted(text: str) -> str:
    return f"'{text}'" if set(text) & set("[]*") else text


def parse(text: str, origin: str = "") -> Rule:
    """One rule that is no group. Raises UsageError in one voice for whatever it cannot be."""
    action, rest = _action(text)
    try:
        return _network(action, rest, origin) or _named(action, rest, origin)
    except ValueError as error:
        raise UsageError(_refused(text), cause=str(error), hint=f"use {FORMS}") from None


def _action(text: str) -> tuple[str, str]:
    for action in (GET, DENY):
        if text.startswith(f"{action}:"):
            return action, text[len(action) + 1 :]
    return ALLOW, text


def _refused(text: str) -> str:
    return f"`{one_line(text, limit=80)}` is not a rule for the network"


def _network(action: str, text: str, origin: str) -> Rule | None:
    match = _NETWORK.fullmatch(text)
    if match is None:
        return None
    network = ipaddress.ip_network(match["net"], strict=False)
    if network.prefixlen < WIDEST[network.version] and action != DENY:
        raise ValueError("for networks that large use `--net nat`")
    return Rule(action, str(network), names.port(match["port"]) if match["port"] else None, origin)


def _named(action: str, text: str, origin: str) -> Rule:
    if "://" in text:
        raise ValueError("a rule names a host, without `https://` and without a path")
    literal = names.address(text)
    if literal is not None:  # an IPv6 address without brackets
        return Rule(action, str(literal), None, origin)
    wild = text.startswith("*.")
    if text in ("*", "*."):
        raise ValueError("for everything use `--net nat`")
    name, number = names.split(text[2:] if wild else text)
    host = names.host(name)
    if wild and names.address(host) is not None:
        raise ValueError("an address has no subdomains")
    return Rule(action, f"*.{host}" if wild else host, names.port(number) if number else None, origin)


def parse_all(
    texts: Iterable[str], group: Callable[[str], Iterable[str]] = lambda _name: (), origin: str = ""
) -> tuple[Rule, ...]:
    """The rules of a list; `@NAME`, also as `get:@NAME`, stands for what `group` says of NAME. Raises UsageError."""
    rules: dict[Rule, None] = {}
    for text in texts:
        action, rest = _action(text)
        if rest.startswith("@"):
            rules |= dict.fromkeys(_group(text, action, rest[1:], group))
        else:
            rules[parse(text, origin)] = None
        if len(rules) > MOST_RULES:
            raise UsageError(f"more than {MOST_RULES} rules for the network")
    return tuple(rules)


def _group(text: str, action: str, name: str, group: Callable[[str], Iterable[str]]) -> list[Rule]:
    if name not in GROUPS:
        known = ", ".join(f"@{name}" for name in GROUPS)
        raise UsageError(_refused(text), cause="unknown group", hint=f"use one of {known}")
    parsed = (parse(text, f"@{name}") for text in group(name))
    return [Rule(action, rule.host, rule.port, rule.origin) for rule in parsed]
