"""The available agents: the user's own manifests, the shipped ones, and those of the repository.

The first one of a name counts. A repository's manifest never takes the place of one that the user knows by its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from git_sandbox import files, paths
from git_sandbox.agents import manifest
from git_sandbox.agents.manifest import Manifest
from git_sandbox.errors import SandboxError, UsageError
from git_sandbox.image.spec import data
from git_sandbox.later import dataclass
from git_sandbox.text import listed, one_line

USER, SHIPPED, REPOSITORY = "user", "shipped", "repository"
BELOW = Path(".sandbox/agents")  # of a worktree
MOST = 200  # manifests of one directory
INSTRUCTIONS = ("~/.agents/", "~/.config/agents/", "~/.cursor/rules/")  # of more than one agent, or of one not shipped
RESERVED = frozenset({"ls", "show", "trust", "name", "status"})  # words that mean something else after `sandbox agent`


@dataclass(frozen=True)
class Agent:
    """`origin`: who says so. `path`: its file. `content`: of it, as it was read."""

    name: str
    origin: str
    path: Path
    content: bytes
    manifest: Manifest


def places(worktree: Path | None) -> list[tuple[str, Path]]:
    """Where manifests are, the place that counts more first."""
    shared = [(USER, paths.config_file().parent / "agents"), (SHIPPED, data("agents"))]
    return [*shared, (REPOSITORY, worktree / BELOW)] if worktree else shared


def names(worktree: Path | None) -> dict[str, tuple[str, Path]]:
    """Every name with its origin and file; no manifest is read."""
    known: dict[str, tuple[str, Path]] = {}
    for origin, place in places(worktree):
        for path in _files(place):
            known.setdefault(path.stem, (origin, path))
    return known


def _files(place: Path) -> Iterator[Path]:
    try:
        entries = sorted(os.listdir(place))[:MOST]  # noqa: PTH208 - names are wanted
    except OSError:
        return
    for entry in entries:
        name = entry.removesuffix(".toml")
        if entry.endswith(".toml") and manifest.NAME.fullmatch(name) and name not in RESERVED:
            yield place / entry


def find(name: str, worktree: Path | None) -> Agent:
    """Raises UsageError where there is no such agent, or its manifest is not valid."""
    known = names(worktree)
    if name not in known:
        raise UsageError(f"there is no agent `{one_line(name, limit=40)}`", hint=f"use one of {listed(sorted(known))}")
    origin, path = known[name]
    try:
        content = _read(path, worktree if origin == REPOSITORY else None)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the agent manifest {one_line(str(path))}", cause=files.why(error)) from error
    decoded = manifest.decode(content, one_line(os.fspath(path)))
    if origin == REPOSITORY:
        _refuse_what_is_the_hosts(decoded, path)
    return Agent(name, origin, path, content, decoded)


def _read(path: Path, worktree: Path | None) -> bytes:
    """A repository's is a file of its own: no link leads out of it. Raises OSError, ValueError."""
    content = files.content(path, manifest.MOST, follow=worktree is None)
    if worktree is not None and not content.real.is_relative_to(worktree.resolve()):
        raise ValueError("it is not in the repository")
    return content.data


def _refuse_what_is_the_hosts(theirs: Manifest, path: Path) -> None:
    """A repository's manifest runs no command here. It names no key's file or entry of the keyring: those would go to
    hosts that it names as well. Other files only where a shipped manifest does, or where agents keep instructions.
    """
    for key in theirs.credentials.values():
        if key.command:
            raise _refusal(path, "runs a command on this host", "a repository's manifest must not")
        if key.file or key.keyring:
            what = f"takes a key from {one_line(key.file) if key.file else 'the keyring'} of this host"
            raise _refusal(path, what, "a repository's manifest may only name a variable")
    shipped = [manifest.decode(file.read_bytes(), file.stem) for file in _files(data("agents"))]
    places = (*INSTRUCTIONS, *(row.path for one in shipped for row in one.host_files))
    for row in theirs.host_files:
        if not any(row.path == place or (place.endswith("/") and row.path.startswith(place)) for place in places):
            what = f"names a file of this host: {one_line(row.path)}"
            raise _refusal(path, what, "a repository's manifest may only name instructions of agents")


def _refusal(path: Path, what: str, cause: str) -> UsageError:
    mine = paths.config_file().parent / "agents"
    hint = f"copy it to {mine} to make it yours"
    return UsageError(f"the agent manifest {one_line(str(path))} {what}", cause=cause, hint=hint)


@dataclass(frozen=True)
class Listed:
    """A row of `sandbox agent ls`. `problem`: why it cannot be used, safe to print."""

    name: str
    origin: str
    path: Path
    description: str
    problem: str = ""


def every(worktree: Path | None) -> list[Listed]:
    rows = []
    for name, (origin, path) in sorted(names(worktree).items()):
        try:
            agent = find(name, worktree)
        except SandboxError as error:
            rows.append(Listed(name, origin, path, "", one_line(f"{error.message}: {error.cause}", limit=300)))
        else:
            rows.append(Listed(name, origin, path, one_line(agent.manifest.description)))
    return rows


def as_data(agent: Agent) -> dict[str, object]:
    """For `--json`."""
    plain = msgspec.to_builtins(agent.manifest)
    return {"name": agent.name, "origin": agent.origin, "path": str(agent.path), "manifest": plain}
