"""Describes an agent before it starts: what it may reach, which keys it can use, which host files go in."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from git_sandbox.agents import agreed, catalogue, hostfiles
from git_sandbox.agents.catalogue import Agent
from git_sandbox.agents.hostfiles import Chosen, HomeFile
from git_sandbox.agents.manifest import Credential, File, Manifest
from git_sandbox.cli import columns
from git_sandbox.text import whole

_SHOWN = 12  # rows of what stays here; --json has them all. All else is agreed to, and is shown whole
_DIGITS = 12  # of a digest
_FROM = {
    catalogue.USER: "your manifest", catalogue.SHIPPED: "shipped with git-sandbox",
    catalogue.REPOSITORY: "this repository's manifest",
}  # fmt: skip


def chosen(agent: Agent) -> Chosen:
    """What goes in of this host's files."""
    return hostfiles.choose(agent.manifest.host_files, Path.home())


def about(agent: Agent, files: Chosen) -> list[str]:
    """Safe to print, all of it, and all that is agreed to, uncut: the manifest's types have bounds. Of a file for the
    guest a digest, `--toml` has its content. What matters most comes last, next to the question.
    """
    manifest = agent.manifest
    rows: list[tuple[str, list[str]]] = [
        ("more at", [whole(manifest.homepage)]),
        ("runs", [_listed(manifest.command.interactive, " ")]),
        ("for a task", [_listed(manifest.command.headless, " ")]),
        ("installs", list(_installs(manifest))),
        ("writes", [_written(file) for file in manifest.files]),
        ("sets", [f"{name}={whole(value)}" for name, value in manifest.env.items()]),
        ("machine", [f"{name} {value}" for name, value in _resources(manifest).items() if value]),
        ("stays here", _first(files.kept)),
        ("goes in", [_file(file) for file in files.files] or ["none of your files"]),
        ("host files", [whole(file.path) for file in manifest.host_files]),
        ("reaches", [whole(rule) for rule in manifest.allow] or ["nothing beyond a plain sandbox"]),
        ("keys", [line for pair in manifest.credentials.items() for line in _key(*pair)] or ["none"]),
    ]  # fmt: skip
    head = f"{click.style(agent.name, bold=True)}: {whole(manifest.description)} ({_FROM[agent.origin]}"
    head += f", {whole(os.fspath(agent.path))})" if agent.origin != catalogue.SHIPPED else ")"
    return [head, *(line for title, lines in rows for line in _titled(title, lines))]


def _titled(title: str, lines: list[str]) -> Iterator[str]:
    for number, line in enumerate(filter(None, lines)):
        yield f"  {title if not number else '':11} {line}"


def _first(lines: tuple[str, ...]) -> list[str]:
    more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return [*lines[:_SHOWN], *more]


def _listed(words: Iterable[str], joint: str = ", ") -> str:
    return joint.join(map(whole, words))


def _installs(manifest: Manifest) -> Iterator[str]:
    install = manifest.install
    for kind, names in (("Debian", install.packages), ("npm", install.npm), ("pip", install.pip)):
        if names:
            yield f"{kind}: {_listed(names)}"
    for script in install.commands:
        yield f"runs in its image: {whole(script)}"


def _written(file: File) -> str:
    content = file.content.encode("utf-8", "surrogateescape")
    what = f"{columns.size(len(content))}, {hashlib.sha256(content).hexdigest()[:_DIGITS]}"
    return f"{whole(file.path)} ({what}{', executable' if file.executable else ''})"


def _resources(manifest: Manifest) -> dict[str, str]:
    return {"memory": manifest.resources.memory, "cpus": manifest.resources.cpus}


def _file(file: HomeFile) -> str:
    return f"~/{whole(file.path)} ({columns.size(len(file.content))})"


def _key(name: str, credential: Credential) -> Iterator[str]:
    where = (
        f"${whole(credential.env)}"
        if credential.env
        else _listed(filter(None, (credential.file, *credential.command, *credential.keyring)), " ")
    )
    yield f"{name} ({where}), for {_listed(credential.hosts)} only"
    sent = {"header": credential.header, "password of": credential.basic, "query": credential.query}
    more = {
        "sent as": "bearer token" if credential.bearer else _named(sent),
        "asked for again after": _seconds(credential.expiry), "placeholder in": credential.variable,
        "address in": credential.base_url, "which ends with": credential.base_path,
    }  # fmt: skip
    yield f"  {_named(more, ', ')}"


def _named(values: Mapping[str, str], joint: str = "") -> str:
    return joint.join(f"{title} {whole(value)}" for title, value in values.items() if value)


def _seconds(count: int) -> str:
    return f"{count} s" if count else ""


def changes(agent: Agent, repository: str) -> list[str]:
    """What is different from what the user agreed to last; nothing where he agreed to nothing, or to all of it."""
    before = agreed.last(agent, repository)
    return before.changes(agreed.now(agent, repository)) if before else []


def consent(agent: Agent, repository: str) -> list[str]:
    """Whether the user agreed to it."""
    if not agent.manifest.asks:
        return ["It asks for nothing beyond a plain sandbox."]
    if agreed.given(agent, repository):
        return ["You agreed to this."]
    different = changes(agent, repository)
    if different:
        return ["It changed since you agreed to it:", *(f"  {line}" for line in different)]
    return [f"You have not agreed to this: `sandbox agent trust {agent.name}`"]
