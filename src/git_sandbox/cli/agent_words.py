"""What is said of an agent before it starts: what it may reach, which keys it can use, what of this host goes in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from git_sandbox.agents import agreed, catalogue, hostfiles
from git_sandbox.agents.catalogue import Agent
from git_sandbox.agents.hostfiles import Chosen, HomeFile
from git_sandbox.agents.manifest import Credential, Manifest
from git_sandbox.cli import columns
from git_sandbox.text import one_line

_SHOWN = 12  # rows of a kind; --json has them all
_FROM = {
    catalogue.USER: "a manifest of yours", catalogue.SHIPPED: "shipped with git-sandbox",
    catalogue.REPOSITORY: "a manifest of this repository",
}  # fmt: skip


def chosen(agent: Agent) -> Chosen:
    """What goes in of this host's files."""
    return hostfiles.choose(agent.manifest.host_files, Path.home())


def about(agent: Agent, files: Chosen) -> list[str]:
    """Safe to print, all of it."""
    found = agent.manifest
    rows: list[tuple[str, list[str]]] = [
        ("runs", [one_line(" ".join(found.command.interactive), limit=300)]),
        ("installs", list(_installs(found))),
        ("reaches", [one_line(each) for each in found.allow] or ["nothing that a plain sandbox does not"]),
        ("keys", [_key(*each) for each in found.credentials.items()] or ["none"]),
        ("goes in", [_file(each) for each in files.files] or ["no file of yours"]),
        ("stays here", list(files.kept)),
        ("writes", [one_line(each.path) for each in found.files]),
        ("sets", [one_line(f"{name}={value}", limit=100) for name, value in found.env.items()]),
    ]  # fmt: skip
    head = f"{click.style(agent.name, bold=True)}: {one_line(found.description)} ({_FROM[agent.origin]}"
    head += f", {one_line(os.fspath(agent.path), limit=300)})" if agent.origin != catalogue.SHIPPED else ")"
    return [head, *(line for title, lines in rows for line in _titled(title, lines))]


def _titled(title: str, lines: list[str]) -> Iterator[str]:
    shown = lines[:_SHOWN] + ([f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])
    for number, line in enumerate(shown):
        yield f"  {title if not number else '':11} {line}"


def _installs(found: Manifest) -> Iterator[str]:
    for kind, names in (("Debian", found.install.packages), ("npm", found.install.npm), ("pip", found.install.pip)):
        if names:
            yield f"{kind}: {one_line(', '.join(names), limit=300)}"
    for each in found.install.commands:
        yield f"runs in its image: {one_line(each, limit=300)}"


def _file(each: HomeFile) -> str:
    return one_line(f"~/{each.path} ({columns.size(len(each.content))})", limit=300)


def _key(name: str, each: Credential) -> str:
    where = f"${each.env}" if each.env else " ".join(filter(None, (each.file, *each.command, *each.keyring)))
    return one_line(f"{name} ({where}), for {', '.join(each.hosts)} only", limit=300)


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
        return ["It is not what you agreed to:", *(f"  {line}" for line in different)]
    return [f"You have not agreed to this: `sandbox agent trust {agent.name}`"]
