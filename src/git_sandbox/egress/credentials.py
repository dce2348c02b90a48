"""Credentials that stay on the host: how one is declared, and the placeholder that the guest has instead."""

from __future__ import annotations

import base64
import json
import re
import secrets
import string
from collections.abc import Callable, Mapping

from git_sandbox.egress import names
from git_sandbox.errors import UsageError
from git_sandbox.later import dataclass
from git_sandbox.text import one_line

PLACES = ("header", "bearer", "basic", "query")
SOURCES = ("env", "file", "command", "keyring")
LEAST, MOST = 8, 16 << 10  # characters of a value; a shorter one would be found everywhere
MOST_CREDENTIALS = 64
# How values of a kind begin, by their makers: programs look at it, and it tells nothing.
MARKS = (
    "sk-ant-api03-", "sk-ant-oat01-", "sk-ant-", "sk-proj-", "sk-or-v1-", "sk-", "github_pat_", "ghp_", "gho_", "ghu_",
    "ghs_", "ghr_", "glpat-", "xoxb-", "xoxp-", "AIza", "hf_", "npm_", "pypi-", "r8_", "gsk_", "AKIA", "ASIA",
)  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_FIELD = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_TOKEN = re.compile(r"[!-~]+")  # what can stand in a header
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
# Fields that the proxy itself reads, or that would change where a request goes.
_RESERVED = frozenset({
    "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "via",
    "proxy-authorization", "proxy-connection", "keep-alive", "content-encoding", "accept-encoding",
})  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where the value comes from: an environment variable, a file (absolute, or below `~/`: the user and the proxy are
    in different directories), a command (argv), a keyring's service and user.

    `expiry`: seconds after which a command (or a file) is asked again; 0: once.
    """

    kind: str  # env | file | command | keyring
    words: tuple[str, ...]
    expiry: int = 0


@dataclass(frozen=True)
class Credential:
    """`hosts`: `name`, `name:port` (443 else), `*.name`. `field`: the header or the query's parameter.

    `placeholder`: what the guest has. `broker`: the guest's base URL leads to the first of `hosts`.
    """

    name: str
    hosts: tuple[str, ...]
    place: str  # header | bearer | basic | query
    field: str
    source: Source
    placeholder: str = ""

    def is_for(self, host: str, port: int) -> bool:
        return any(_matches(pattern, host, port) for pattern in self.hosts)

    @property
    def upstream(self) -> tuple[str, int]:
        """Where the broker of this name leads. Raises UsageError when the first host is a pattern."""
        if self.hosts[0].startswith("*"):
            raise UsageError(f"the credential `{self.name}` names no host")
        return names.authority(self.hosts[0], 443)


def _matches(pattern: str, host: str, port: int) -> bool:
    wild = pattern.startswith("*.")
    name, number = names.authority(pattern[2:] if wild else pattern, 443)
    return number == port and (host.endswith(f".{name}") if wild else host == name)


def declared(name: str, table: Mapping[str, object]) -> Credential:
    """A credential as a manifest or the configuration declares it, without its placeholder:

    hosts = ["api.example.org"], bearer = true | header = "x-api-key" | basic = "user" | query = "key",
    env = "NAME" | file = "~/PATH" | command = ["pass", "show", "x"] | keyring = ["service", "user"], expiry = 300

    Raises UsageError that names the credential and the key, never a value.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"`{one_line(name, limit=60)}` cannot be the name of a credential", hint="use a-z, 0-9 and -")
    unknown = sorted(set(table) - {*PLACES, *SOURCES, "hosts", "expiry"})
    if unknown:
        raise _bad(name, f"there is no key `{one_line(unknown[0], limit=40)}`")
    place, field = _place(name, table)
    return Credential(name, _hosts(name, table.get("hosts")), place, field, _source(name, table))


def _bad(name: str, cause: str) -> UsageError:
    return UsageError(f"the credential `{name}` is not fully declared", cause=cause, hint="`sandbox help keys`")


def _hosts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(item, str) for item in value):
        raise _bad(name, '`hosts` is a list such as ["api.example.org"]')
    for item in value:
        try:
            names.authority(item.removeprefix("*."), 443)
        except ValueError as error:
            raise _bad(name, f"`{one_line(item, limit=80)}`: {error}") from None
    return tuple(item.lower() for item in value)


def _place(name: str, table: Mapping[str, object]) -> tuple[str, str]:
    given = [name for name in PLACES if table.get(name) not in (None, False)]
    if len(given) != 1:
        raise _bad(name, f"one of {', '.join(PLACES)} says where it goes")
    place, value = given[0], table[given[0]]
    if place == "bearer" and value is True:
        return place, "authorization"
    if place == "basic" and isinstance(value, str) and re.fullmatch(r"[!-9;-~]{0,100}", value):
        return place, value
    if place in ("header", "query") and isinstance(value, str) and _FIELD.fullmatch(value):
        if place == "header" and value.lower() in _RESERVED:
            raise _bad(name, f"the header `{value}` is reserved for the proxy")
        return place, value.lower() if place == "header" else value
    raise _bad(name, f"`{place}` has an invalid value")


def _source(name: str, table: Mapping[str, object]) -> Source:
    given = [source for source in SOURCES if table.get(source)]
    if len(given) != 1:
        raise _bad(name, f"one of {', '.join(SOURCES)} says where it comes from")
    kind, value = given[0], table[given[0]]
    words = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    if not words or not all(isinstance(word, str) and word and "\0" not in word for word in words):
        raise _bad(name, f"`{kind}` has an invalid value")
    expected = {"env": len(words) == 1, "file": len(words) == 1, "keyring": len(words) == 2, "command": True}  # noqa: PLR2004
    if not expected[kind] or (kind == "env" and not _VARIABLE.fullmatch(words[0])):
        raise _bad(name, f"`{kind}` has an invalid value")
    if kind == "file" and not words[0].startswith(("/", "~/")):
        raise _bad(name, "`file` is an absolute path, or begins with `~/`")
    expiry = table.get("expiry", 0)
    if not isinstance(expiry, int) or isinstance(expiry, bool) or not 0 <= expiry <= 7 * 86400:
        raise _bad(name, "`expiry` is a number of seconds")
    return Source(kind, words, expiry)


def sound(name: str, value: str) -> str:
    """`value` without its last line break. Raises UsageError, which does not say the value."""
    value = value.strip("\r\n")
    if not _TOKEN.fullmatch(value) or not LEAST <= len(value) <= MOST:
        raise UsageError(
            f"the value of the credential `{name}` does not work",
            cause=f"it has {LEAST} to {MOST} visible characters, and no spaces",
        )
    return value


def placeholder(value: str, choice: Callable[[str], str] = secrets.choice) -> str:
    """Text of the same look and length that tells nothing but the kind: a maker's mark stays, the rest is random.

    A JWT becomes one that never expires and says nothing else, for programs look inside.
    """
    if _JWT.fullmatch(value):
        return _jwt(len(value), choice)
    mark = next((prefix for prefix in MARKS if value.startswith(prefix)), "")
    rest = value[len(mark) :]
    hexadecimal = set(rest) <= set(string.hexdigits.lower())
    alphabet = string.hexdigits[:16] if hexadecimal else string.ascii_letters + string.digits
    random = "".join(choice(alphabet) for _ in rest)
    while len(rest) > 1 and random == rest:
        random = "".join(choice(alphabet) for _ in rest)
    return mark + random


def _jwt(length: int, choice: Callable[[str], str]) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, {"iat": 1700000000, "exp": 4102444800})
    begin = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    rest = max(length - len(begin) - 1, 43)
    return f"{begin}.{''.join(choice(string.ascii_letters + string.digits) for _ in range(rest))}"
