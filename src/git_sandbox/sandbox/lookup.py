"""What a sandbox's refs and record say, for `log`, `diff`, `merge` and `drop`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from git_sandbox import claims, jsontext, store
from git_sandbox.errors import StateError
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.overview import contents
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import Entry, Record, State

if TYPE_CHECKING:
    from git_sandbox.git.large import Stamp
    from git_sandbox.integrate.base import BaseRecord
    from git_sandbox.integrate.review import Span


def base_of(repo: Repository, record: Record) -> BaseRecord:
    """What it started from. Where the store with the snapshot has gone, the commit at that time stands for it."""
    from git_sandbox.integrate.base import BaseRecord  # late: `ls` does without
    from git_sandbox.integrate.trees import tree_of

    directory = store.directory(repo, record.id)
    index, commit = Oid(record.index_tree) if record.index_tree else None, Oid(record.base) if record.base else None
    base = BaseRecord(commit, Oid(record.snapshot), index, directory.objects, _apart(directory))
    oids = [oid for oid in (base.snapshot, index) if oid]
    asked = "".join(f"{oid}\n" for oid in oids).encode()
    if b" missing" in base.seen_by(repo.git).run("cat-file", "--batch-check", input=asked):
        return BaseRecord(commit, tree_of(repo.git, commit))
    return base


def _apart(directory: SandboxDir) -> dict[str, Stamp]:
    """Nothing where it cannot be read: then such a file is in the way of a merge that changes it."""
    from git_sandbox.git.large import Stamp  # late: `ls` does without

    try:
        return jsontext.load(directory.apart, dict[str, Stamp])
    except (OSError, ValueError):
        return {}


def from_refs(repo: Repository, entries: Iterable[Entry]) -> dict[SandboxId, Record]:
    """The copies of records in `refs/sandbox-meta/<id>`, for sandboxes whose directory is gone."""
    tags = {
        entry.id: entry.refs[SandboxRefs(entry.id).meta]
        for entry in entries
        if SandboxRefs(entry.id).meta in entry.refs
    }
    texts = contents(repo, tags.values())
    records = {name: store.decode(texts[tag].partition(b"\n\n")[2]) for name, tag in tags.items() if tag in texts}
    return {name: record for name, record in records.items() if record is not None}


def record_of(repo: Repository, entry: Entry) -> Record | None:
    """The record in the sandbox's directory, or else the copy in its refs."""
    return entry.record or from_refs(repo, [entry]).get(entry.id)


def tips(entry: Entry) -> list[Oid]:
    """What the guest committed: HEAD, branches, tags, notes, stashes; not the uncommitted work."""
    roots = ("base", "meta", "backup", "wip", "earlier")
    own = tuple(f"refs/sandbox-{root}/" for root in roots)
    state = SandboxRefs(entry.id).other("operation/state")  # of a merge in progress: files, as the uncommitted work
    return [value for name, value in entry.refs.items() if not name.startswith(own) and name != state]


class Known(msgspec.Struct, frozen=True, dict=True):
    repo: Repository
    entry: Entry
    record: Record
    refs: SandboxRefs

    @property
    def head(self) -> Oid | None:
        return self.entry.refs.get(self.refs.head)

    @property
    def wip(self) -> Oid | None:
        """Uncommitted work; the ref is where HEAD is once there is none any more."""
        oid = self.entry.refs.get(self.refs.wip)
        return None if oid == self.head else oid

    @cached_property
    def base(self) -> BaseRecord:
        return base_of(self.repo, self.record)

    @property
    def branches(self) -> dict[RefName, Oid]:
        root = f"refs/sandbox-heads/{self.entry.id}/"
        return {name: value for name, value in self.entry.refs.items() if name.startswith(root)}


def known(repo: Repository, name: str) -> Known:
    """Raises StateError for a sandbox that does not exist, or of which neither record nor refs can be read."""
    entry = store.find(repo, name)
    record = record_of(repo, entry)
    if record is None:
        hint = f"look into {entry.directory.root}, or remove it with `sandbox drop {name} --force`"
        raise StateError(f"the record of sandbox `{name}` cannot be read", hint=hint)
    return Known(repo, entry, record, SandboxRefs(entry.id))


def ends(sandbox: Known, span: Span) -> tuple[Oid, Oid]:
    """The two trees or commits that say what it did. Raises StateError when nothing of it is here."""
    from git_sandbox.integrate import review  # late: `ls` does without

    head = sandbox.head if sandbox.wip else require_head(sandbox)
    last = sandbox.wip or head if span is review.Span.SPAWN else head
    return review.ends(sandbox.repo, sandbox.base, last, sandbox.wip, span)


def require_head(sandbox: Known) -> Oid:
    """The sandbox's final HEAD; StateError saying what to do when there is none yet."""
    if sandbox.head is not None:
        return sandbox.head
    hints = {
        State.RECOVERING: f"its disk is being read: {claims.WAIT}",
        State.RUNNING: "it is still running: its commits come home when it ends",
        State.RECOVERABLE: f"bring them home with `sandbox recover {sandbox.entry.id}`",
        State.AWAY: "another machine has its job: `sandbox collect FILE`, or `sandbox recover --on HOST`",
    }
    hint = hints.get(sandbox.entry.state, "it ended without a commit")
    raise StateError(f"sandbox `{sandbox.entry.id}` has no commits here", hint=hint)
