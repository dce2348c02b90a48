"""The host's keys for one guest: the placeholder of each, and the names it may reach because of them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from git_sandbox.egress import credentials
from git_sandbox.egress.credentials import Credential
from git_sandbox.errors import UsageError
from git_sandbox.later import dataclass, field, replace
from git_sandbox.text import one_line

GUEST = ("variable", "base_url", "base_path")  # keys of a declaration that are about the guest
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")


@dataclass(frozen=True)
class Keys:
    """`variables`: of the guest, with placeholders and addresses. `rules`: the hosts, as `rules.parse` reads them."""

    credentials: tuple[Credential, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[str, ...] = ()


def given(tables: Mapping[str, Mapping[str, object]], host: Mapping[str, str], port: int) -> Keys:
    """For declarations by name: those of `credentials.declared` and

    variable = the guest's variable for the placeholder, base_url = its variable for the address of the API, base_path =
    what that address ends with (`/v1`).

    `host`: the user's environment. `port`: of the proxy on the guest's loopback. Each value is fetched once, for the
    look of its placeholder. Raises SandboxError.
    """
    from git_sandbox.egress import values  # late: not every start has keys

    declared, variables, rules = [], dict[str, str](), dict[str, None]()
    for name, table in tables.items():
        plain = {key.replace("-", "_"): value for key, value in table.items()}
        credential = credentials.declared(name, {key: value for key, value in plain.items() if key not in GUEST})
        credential = replace(credential, placeholder=values.check(credential, host))
        declared.append(credential)
        rules |= dict.fromkeys(credential.hosts)
        variables |= _variables(credential, plain, port)
    return Keys(tuple(declared), variables, tuple(rules))


def _variables(credential: Credential, table: Mapping[str, object], port: int) -> dict[str, str]:
    variables: dict[str, str] = {}
    path = str(table.get("base_path", ""))
    if not _PATH.fullmatch(path):
        raise _bad(credential.name, "base_path", path)
    for key, value in (
        ("variable", credential.placeholder),
        ("base_url", f"http://127.0.0.1:{port}/@{credential.name}{path}"),
    ):
        name = str(table.get(key, ""))
        if name and not _VARIABLE.fullmatch(name):
            raise _bad(credential.name, key, name)
        variables |= {name: value} if name else {}
    if table.get("base_url"):
        _ = credential.upstream  # raises for one that leads nowhere
    return variables


def _bad(name: str, key: str, text: str) -> UsageError:
    return UsageError(f"`{one_line(text, limit=60)}` is not a valid `{key}` of the credential `{name}`")
