"""The agent manifests that the user has agreed to, word by word. Consent is asked once per content; a change is shown.

Of the user's own configuration files only the names are agreed to: he changes them, and the guest gets what he has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import msgspec

from git_sandbox import files, jsontext, paths
from git_sandbox.agents.catalogue import Agent
from git_sandbox.consent import Agreement
from git_sandbox.errors import HostResourceError
from git_sandbox.text import whole

MOST = 8 << 20  # bytes of all agreements


def now(agent: Agent, repository: str) -> Agreement:
    """What somebody agrees to who agrees now. `repository`: identity of the one whose manifest it is, else empty."""
    plain = msgspec.to_builtins(agent.manifest)
    content = json.dumps([agent.origin, repository, agent.name, plain], sort_keys=True).encode("ascii")
    lines = tuple(line for name, value in _flat(plain) for line in _lines(name, str(value)))
    return Agreement(repository, hashlib.sha256(content).hexdigest(), lines)


def _lines(name: str, value: str) -> Iterator[str]:
    """A line for each of the value's, whole: what changes is seen."""
    for line in value.strip("\n").split("\n"):
        yield f"{name} = {whole(line)}"


def _flat(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    if isinstance(value, dict):
        rows = [(f"{name}.{key}" if name else str(key), child) for key, child in value.items()]
    elif isinstance(value, list | tuple):
        rows = [(name, item) for item in value]
    for inner, child in rows:
        if isinstance(child, dict | list | tuple):
            yield from _flat(child, inner)
        elif child not in ("", None):
            yield inner, child


def last(agent: Agent, repository: str) -> Agreement | None:
    """What the user agreed to of an agent of this name and origin."""
    return _all().get(_key(agent, repository))


def given(agent: Agent, repository: str) -> bool:
    """A manifest that asks for nothing needs nobody's consent."""
    return not agent.manifest.asks or last(agent, repository) == now(agent, repository)


def give(agent: Agent, repository: str) -> None:
    """Remember it. Raises HostResourceError."""
    path = paths.agents_consent()
    fresh = path.with_suffix(".new")
    known = _all() | {_key(agent, repository): now(agent, repository)}
    try:
        paths.private_directory(path.parent)
        files.write(fresh, jsontext.encode(known, indent=1))
        fresh.replace(path)
    except OSError as error:
        raise HostResourceError(f"cannot write {path}", cause=files.why(error)) from error


def _key(agent: Agent, repository: str) -> str:
    return f"{agent.origin}:{repository}:{agent.name}"


def _all() -> dict[str, Agreement]:
    """Nothing where nothing, or nothing that can be read, was agreed to."""
    try:
        return jsontext.load(paths.agents_consent(), dict[str, Agreement], MOST)
    except (OSError, ValueError):
        return {}
