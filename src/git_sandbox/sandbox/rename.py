"""Changes the name of a sandbox, or the machine it has at its next start."""

from __future__ import annotations

import msgspec

from git_sandbox import registry, renaming, store
from git_sandbox.errors import StateError, UsageError
from git_sandbox.git.names import sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.sandbox import nested_refs
from git_sandbox.store import Entry, SandboxHandle, State

_WHY = {
    State.RUNNING: "it is running, and its sessions and ports use its name",
    State.RECOVERING: "its machine has ended, and its work is being brought home",
    State.AWAY: "another machine has its job under this name",
    State.BROKEN: "its record cannot be read",
}
_NEXT = {
    State.RUNNING: "`sandbox stop {0}`, then try again",
    State.RECOVERING: "wait until `sandbox ls` shows it as stopped",
    State.AWAY: "`sandbox recover --on HOST {0}` brings the result here",
    State.BROKEN: "`sandbox recover {0}`",
}


@dataclass(frozen=True)
class Renamed:
    id: str
    former: str


def rename(repo: Repository, name: str, new: str) -> Renamed:
    """Call the sandbox `name` `new` from now on: its directory, its refs here and in repositories inside, its record.

    Raises UsageError for a name that cannot be one, StateError for one that is in use and for a sandbox that runs or is
    on another machine.
    """
    ident = sandbox_id(new)
    entry = _settled(repo, name, "renamed")
    if ident == entry.id:
        raise UsageError(f"sandbox `{name}` already has this name")
    with store.open_existing(repo, name) as (handle, entry):
        inside = nested_refs.borrowed(handle.repo, handle, entry.record)
        own = SandboxHandle(handle.repo, ident, handle.directory).refs.patterns
        if taken := next((holding.repo for holding in inside if holding.repo.refs(*own)), None):
            raise StateError(f"a sandbox named `{ident}` exists in {taken.worktree}", hint="use another name")
        renaming.rename(
            registry.claim(handle.repo), handle.repo, entry.id, ident, [holding.repo.git_dir for holding in inside]
        )
    return Renamed(ident, entry.id)


@dataclass(frozen=True)
class Sized:
    """`memory` in MiB."""

    id: str
    cpus: int
    memory: int


def resize(repo: Repository, name: str, *, cpus: int | None = None, memory: int | None = None) -> Sized:
    """Give a stopped sandbox more or less of the host at its next start. Raises StateError for one that runs or has no
    disk to start from.
    """
    _settled(repo, name, "changed")
    with store.open_existing(repo, name) as (handle, entry):
        if entry.record is None or not entry.directory.has_disk():
            raise StateError(f"sandbox `{name}` has no disk any more, and cannot be started")
        now = msgspec.structs.replace(
            entry.record, cpus=cpus or entry.record.cpus, memory=memory or entry.record.memory
        )
        handle.save(now)
    return Sized(entry.id, now.cpus, now.memory)


def _settled(repo: Repository, name: str, what: str) -> Entry:
    """A sandbox that nobody uses. Raises StateError."""
    entry = store.find(repo, name)
    state = State.AWAY if entry.directory.dispatch.exists() else entry.state
    if state in _WHY:
        raise StateError(f"sandbox `{name}` cannot be {what}", cause=_WHY[state], hint=_NEXT[state].format(name))
    return entry
