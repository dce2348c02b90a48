"""What a sandbox's refs and record say for `log`, `diff`, `merge` and `drop`."""

from __future__ import annotations

from dataclasses import dataclass

from git_sandbox import store
from git_sandbox.errors import StateError
from git_sandbox.git.names import Oid, RefName, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.integrate import BaseRecord
from git_sandbox.sandbox.after import base_of
from git_sandbox.store import Entry, Record, State


def from_refs(repo: Repository, entry: Entry) -> Record | None:
    """The record's copy in `refs/sandbox-meta/<id>`, for a sandbox whose directory is gone."""
    meta = entry.refs.get(SandboxRefs(entry.id).meta)
    if meta is None:
        return None
    body = repo.git.run("cat-file", "tag", meta).split(b"\n\n", 1)[1]
    return store.decode(body)


def tips(entry: Entry) -> list[Oid]:
    """What the guest committed: HEAD, branches, tags, notes, stashes; not the uncommitted work."""
    own = ("refs/sandbox-base/", "refs/sandbox-meta/", "refs/sandbox-backup/", "refs/sandbox-wip/")
    return [value for name, value in entry.refs.items() if not name.startswith(own)]


@dataclass(frozen=True)
class Known:
    entry: Entry
    record: Record
    refs: SandboxRefs

    @property
    def head(self) -> Oid | None:
        return self.entry.refs.get(self.refs.head)

    @property
    def wip(self) -> Oid | None:
        """Uncommitted work; the ref is where HEAD is once there is none any more."""
        found = self.entry.refs.get(self.refs.wip)
        return None if found == self.head else found

    @property
    def base(self) -> BaseRecord:
        return base_of(self.record)

    @property
    def branches(self) -> dict[RefName, Oid]:
        root = f"refs/sandbox-heads/{self.entry.id}/"
        return {name: value for name, value in self.entry.refs.items() if name.startswith(root)}


def known(repo: Repository, name: str) -> Known:
    """Raises StateError for a sandbox that does not exist, or of which neither record nor refs can be read."""
    entry = store.find(repo, name)
    record = entry.record or from_refs(repo, entry)
    if record is None:
        hint = f"look into {entry.directory.root}, or remove it with `sandbox drop {name} --force`"
        raise StateError(f"the record of sandbox `{name}` cannot be read", hint=hint)
    return Known(entry, record, SandboxRefs(entry.id))


def require_head(found: Known) -> Oid:
    """The sandbox's final HEAD; StateError saying what to do when there is none yet."""
    if found.head is not None:
        return found.head
    hints = {
        State.RUNNING: "it is still running: its commits come home when it ends",
        State.RECOVERABLE: f"bring them home with `sandbox recover {found.entry.id}`",
    }
    hint = hints.get(found.entry.state, "it ended without a commit")
    raise StateError(f"no commits of sandbox `{found.entry.id}` are here", hint=hint)
