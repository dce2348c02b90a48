"""The policy of one sandbox as a file in its directory: the proxy reads it again when it changes.

Whoever changes it writes a new file and puts it in the old one's place. There is no value of a credential in it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from git_sandbox import files
from git_sandbox.egress import names, rules
from git_sandbox.egress.credentials import MOST_CREDENTIALS, Credential, Source
from git_sandbox.egress.rules import Limits, Policy, Rule
from git_sandbox.errors import StateError, UsageError
from git_sandbox.later import asdict, dataclass, field, replace

SCHEMA = 1
MOST = 4 << 20  # bytes
GIT_NONE, GIT_FETCH, GIT_PUSH = "none", "fetch", "push"


@dataclass(frozen=True)
class Egress:
    """All that the proxy goes by. `git`: what git may do with the host's credentials (none | fetch | push), in the
    repositories `git_remotes` (`name:port/path`, see `groups.remotes_of`). `routes`: `name:port` that is reached at
    another `host:port` of this side.
    """

    policy: Policy = field(default_factory=Policy)
    credentials: tuple[Credential, ...] = ()
    git: str = GIT_NONE
    git_remotes: tuple[str, ...] = ()
    routes: tuple[tuple[str, str], ...] = ()

    def credentials_for(self, host: str, port: int) -> tuple[Credential, ...]:
        return tuple(credential for credential in self.credentials if credential.is_for(host, port))

    def git_at(self, host: str, port: int) -> bool:
        """Whether git may do something there with the host's credentials."""
        place = f"{names.joined(host, port)}/"
        return self.git != GIT_NONE and any(remote.startswith(place) for remote in self.git_remotes)

    def git_may(self, host: str, port: int, repository: str) -> str:
        """What git may do with the host's credentials in that repository (a path without `/` in front)."""
        place = f"{names.joined(host, port)}/{repository.removesuffix('.git')}"
        return self.git if place in self.git_remotes else GIT_NONE

    def inspects(self, host: str, port: int) -> bool:
        """Whether TLS to that place has to be opened on the way."""
        decision = self.policy.decide(host, port)
        return decision.read_only or bool(self.credentials_for(host, port)) or self.git_at(host, port)

    @property
    def opens_tls(self) -> bool:
        """Whether any TLS may have to be opened: then the guest has to trust our certificate from its start."""
        reads_only = any(rule.action == rules.GET for rule in self.policy.rules)
        return bool(reads_only or self.credentials or self.git_remotes)

    def route(self, host: str, port: int) -> tuple[str, int]:
        """Where it is reached: there, unless `routes` say otherwise."""
        route = dict(self.routes).get(names.joined(host, port))
        return names.authority(route, port) if route else (host, port)


def encode(egress: Egress) -> bytes:
    policy = egress.policy
    content = {
        "schema": SCHEMA,
        "sandbox": policy.sandbox,
        "rules": [{"rule": str(rule), "origin": rule.origin} for rule in policy.rules],
        "limits": asdict(policy.limits),
        "credentials": [asdict(credential) for credential in egress.credentials],
        "git": egress.git,
        "git_remotes": egress.git_remotes,
        "routes": dict(egress.routes),
    }
    return json.dumps(content, indent=1).encode("ascii")


def decode(data: bytes) -> Egress:
    """Raises ValueError, KeyError, TypeError or UsageError for what `encode` does not write."""
    content: dict[str, Any] = json.loads(data)
    if content["schema"] != SCHEMA:
        raise ValueError("it was written by another version")
    parsed = tuple(rules.parse(row["rule"], row["origin"]) for row in content["rules"])
    if len(parsed) > rules.MOST_RULES or len(content["credentials"]) > MOST_CREDENTIALS:
        raise ValueError("it is too long")
    return Egress(
        Policy(content["sandbox"], parsed, Limits(**content["limits"])),
        tuple(_credential(credential) for credential in content["credentials"]),
        content["git"],
        tuple(content["git_remotes"]),
        tuple(content["routes"].items()),
    )


def _credential(row: Mapping[str, Any]) -> Credential:
    source = row["source"]
    return Credential(
        row["name"],
        tuple(row["hosts"]),
        row["place"],
        row["field"],
        Source(source["kind"], tuple(source["words"]), source["expiry"]),
        row["placeholder"],
    )


def save(path: Path, egress: Egress) -> None:
    """Put it in the place of what is there, whole or not at all. Raises OSError."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        files.write(beside, encode(egress))
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def load(path: Path) -> Egress:
    """Raises StateError."""
    try:
        return decode(files.read(path, MOST))
    except Exception as error:
        raise StateError(f"cannot read {path}", cause=files.why(error)) from error


def with_rules(egress: Egress, more: tuple[Rule, ...]) -> Egress:
    """The same with rules added: for `sandbox net ID --allow NAME`. Raises UsageError."""
    kept = tuple(dict.fromkeys((*egress.policy.rules, *more)))
    if len(kept) > rules.MOST_RULES:  # nobody could read it again
        raise UsageError(f"more than {rules.MOST_RULES} rules for the network")
    return replace(egress, policy=replace(egress.policy, rules=kept))
