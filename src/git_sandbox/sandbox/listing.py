"""All sandboxes of a repository as rows for `ls`. The number of git processes does not grow with their number."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from git_sandbox import record as noted
from git_sandbox import store
from git_sandbox.git import gitdirs
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.overview import MORE, beyond_stash, counts_beyond, meet, paths_between, peeled, unmerged_of
from git_sandbox.protocol.changes import Changes
from git_sandbox.record import Activity
from git_sandbox.sandbox import lookup
from git_sandbox.store import Entry, Record, State

MAX_OPEN = 300  # unmerged sandboxes that are compared with each other: every pair of them costs
MAX_STORES = 800  # the youngest; their names are one variable of git's, which Linux holds to 128 KiB


class Row(msgspec.Struct, frozen=True):
    """One sandbox in `ls`. `ahead`: commits of HEAD beyond the base; None while unknown, or when there are more than
    are looked at. `moved`: the branch it started from points elsewhere by now. `stashed`: what is not merged is all in
    the user's stash. `overlap`: how many of the files it touched each unmerged sibling touched, too; nothing where
    there are more than MAX_OPEN. `partly`: what did not come home, safe to print; such a one never counts as merged.
    """

    id: str
    state: State
    created: float  # seconds since 1970
    base: str | None
    branch: str | None
    ahead: int | None
    uncommitted: bool
    merged: bool
    disk_bytes: int
    command: tuple[str, ...]
    moved: bool = False
    stashed: bool = False
    origin: str | None = None  # the sandbox it is a fork of
    overlap: Mapping[str, int] = {}
    changes: Changes | None = None
    partly: tuple[str, ...] = ()
    why: str | None = None  # of one in the trash: unchanged, or dropped
    net: str | None = None  # its network
    activity: Activity | None = None  # of one that runs: what its guest says; of an agent that ended: how
    agent: str = ""
    expires: float | None = None  # seconds since 1970; of one in the trash, None when it stays


class _Seen(msgspec.Struct, frozen=True):
    """What the refs of one sandbox say. Trees: `snapshot` when it started, `head` and `wip` when it ended."""

    entry: Entry
    record: Record | None
    snapshot: Oid | None
    head: Oid | None
    wip: Oid | None
    index: Oid | None  # what was staged when it ended, and when it started
    index_then: Oid | None
    pending: bool  # commits that no branch, tag or HEAD of the user's reaches
    stored: bool  # the uncommitted work is reachable from one of those
    stashed: bool  # all that is not, is in the user's stash

    @property
    def last(self) -> Oid | None:
        return self.wip or self.head


def rows(repo: Repository, known: tuple[list[Entry], dict[RefName, Oid]] | None = None) -> list[Row]:
    """`known`: what `store.entries_and_starts` says, where that was asked for already."""
    entries, starts = known or store.entries_and_starts(repo)
    git = gitdirs.reading(repo.git, *(entry.directory.objects for entry in entries[-MAX_STORES:]))
    seen = _look(repo, git, entries)
    differences = paths_between(git, [pair for sandbox in seen for pair in _pairs(repo, sandbox)])
    work = {sandbox.entry.id: _uncommitted(repo, sandbox, differences) for sandbox in seen}
    ahead, moved = _ahead(repo, seen), _moved(repo, seen, starts)
    open_ones = {
        sandbox.entry.id: _touched(sandbox, differences)
        for sandbox in seen
        if sandbox.pending or work[sandbox.entry.id]
    }
    return [
        _row(
            sandbox,
            ahead.get(sandbox.entry.id),
            uncommitted=work[sandbox.entry.id],
            moved=sandbox.entry.id in moved,
            overlap=_overlap(sandbox.entry.id, open_ones),
        )
        for sandbox in seen
    ]


def _row(sandbox: _Seen, ahead: int | None, *, uncommitted: bool, moved: bool, overlap: Mapping[str, int]) -> Row:
    entry, record = sandbox.entry, sandbox.record
    partly = record.partly if record else ()
    return Row(
        entry.id,
        entry.state,
        record.created if record else 0.0,
        record.base if record else None,
        (record.base_symref or "").removeprefix("refs/heads/") or None if record else None,
        ahead,
        uncommitted,
        sandbox.head is not None and not uncommitted and not sandbox.pending and not partly,
        entry.disk_bytes,
        record.command if record else (),
        moved,
        sandbox.stashed and (sandbox.pending or uncommitted),
        record.origin if record else None,
        overlap,
        changes=record.changes if record else None,
        partly=partly,
        net=record.net if record else None,
        activity=_activity(entry, record),
        agent=record.agent if record else "",
    )


def _activity(entry: Entry, record: Record | None) -> Activity | None:
    """A guest's word counts while it runs; how it ended is ours to say."""
    if record is None:
        return None
    if entry.state is State.RUNNING:
        return noted.activity(entry.directory) or (Activity("working", since=record.created) if record.agent else None)
    if not record.agent or record.exit_code is None:
        return None
    return Activity("failed" if record.exit_code else "done", f"exit {record.exit_code}", record.brought_home or 0.0)


def _look(repo: Repository, git: Git, entries: list[Entry]) -> list[_Seen]:
    """`git` also finds what the repository has not got of the snapshots."""
    gone = lookup.from_refs(repo, [entry for entry in entries if entry.record is None])
    records = {entry.id: entry.record or gone.get(entry.id) for entry in entries}
    tips = {entry.id: lookup.tips(entry) for entry in entries}
    wips = {entry.id: entry.refs.get(SandboxRefs(entry.id).wip) for entry in entries}
    commits_of = [(oid, "commit") for group in tips.values() for oid in group]
    starts = {name: Oid(record.snapshot) for name, record in records.items() if record}
    staged = {name: Oid(record.index_tree) for name, record in records.items() if record and record.index_tree}
    ended = {name: Oid(f"{wip}^2") for name, wip in wips.items() if wip}
    trees = [*starts.values(), *staged.values(), *ended.values()]
    trees += [value for entry in entries for value in _states(entry)]
    objects = peeled(git, [*commits_of, *((value, "tree") for value in trees)])
    commits = {name: value for (name, kind), value in objects.items() if kind == "commit"}
    kept_apart = unmerged_of(repo, [*commits.values(), *(wip for wip in wips.values() if wip)])

    left = beyond_stash(repo, kept_apart)

    def stashed(name: SandboxId) -> bool:
        wip = wips[name]
        return not any(value in left for value in (*(commits.get(tip) for tip in tips[name]), wip))

    def tree(name: Oid | None) -> Oid | None:
        return objects.get((name, "tree")) if name else None

    return [
        _Seen(
            entry,
            records[entry.id],
            tree(starts.get(entry.id)) or tree(entry.refs.get(SandboxRefs(entry.id).base)),
            tree(entry.refs.get(SandboxRefs(entry.id).head)),
            tree(wips[entry.id]),
            tree(ended.get(entry.id)),
            tree(staged.get(entry.id)),
            any(commits.get(tip) in kept_apart for tip in tips[entry.id]),
            wips[entry.id] not in kept_apart,
            stashed(entry.id),
        )
        for entry in entries
    ]


def _states(entry: Entry) -> list[Oid]:
    refs = SandboxRefs(entry.id)
    return [entry.refs[name] for name in (refs.base, refs.head, refs.wip) if name in entry.refs]


def _pairs(repo: Repository, sandbox: _Seen) -> list[tuple[Oid, Oid]]:
    pairs = [(sandbox.snapshot, sandbox.last)] if sandbox.snapshot and sandbox.last else []
    if sandbox.wip and not sandbox.stored:
        pairs.append((sandbox.head or _nothing(repo), sandbox.wip))
        others = (sandbox.head or _nothing(repo), sandbox.wip, sandbox.index_then)
        pairs += [(other, sandbox.index) for other in others if other and sandbox.index]
    return pairs


def _nothing(repo: Repository) -> Oid:
    from git_sandbox.integrate.trees import empty_tree  # late: hardly ever needed

    return empty_tree(repo.git)


Differences = Mapping[tuple[Oid, Oid], frozenset[bytes]]


def _uncommitted(repo: Repository, sandbox: _Seen, differences: Differences) -> bool:
    """As `uncommitted.lost`, which says why."""
    if sandbox.wip is None or sandbox.stored:
        return False
    beyond_head = differences.get((sandbox.head or _nothing(repo), sandbox.wip), frozenset())
    if beyond_head and (sandbox.snapshot is None or meet(beyond_head, _touched(sandbox, differences))):
        return True
    return sandbox.index is not None and _staged(repo, sandbox, sandbox.index, differences)


def _staged(repo: Repository, sandbox: _Seen, index: Oid, differences: Differences) -> bool:
    """Whether something is staged that is neither in HEAD nor in the files, nor was it staged at the start."""
    others = (sandbox.head or _nothing(repo), sandbox.wip, sandbox.index_then)
    differing = [differences.get((other, index), frozenset()) for other in others if other]
    known = [paths for paths in differing if MORE not in paths]
    return all(differing) and (not known or bool(frozenset.intersection(*known)))


def _touched(sandbox: _Seen, differences: Differences) -> frozenset[bytes]:
    if sandbox.snapshot is None or sandbox.last is None:
        return frozenset()
    return differences.get((sandbox.snapshot, sandbox.last), frozenset())


def _ahead(repo: Repository, seen: list[_Seen]) -> dict[SandboxId, int | None]:
    """One walk for each base that sandboxes started from: the same one for all of them, mostly."""
    groups: dict[Oid | None, dict[SandboxId, Oid]] = {}
    for sandbox in seen:
        head = sandbox.entry.refs.get(SandboxRefs(sandbox.entry.id).head)
        if head is not None:
            base = Oid(sandbox.record.base) if sandbox.record and sandbox.record.base else None
            groups.setdefault(base, {})[sandbox.entry.id] = head
    ahead_of: dict[SandboxId, int | None] = {}
    for base, heads in groups.items():
        counts = counts_beyond(repo, base, list(heads.values()))
        ahead_of |= {name: counts[head] for name, head in heads.items()}
    return ahead_of


def _moved(repo: Repository, seen: list[_Seen], starts: Mapping[RefName, Oid]) -> set[SandboxId]:
    """`starts`: refs that were looked at already. Others are those of sandboxes of which only refs are left."""
    started = {sandbox.entry.id: sandbox.record for sandbox in seen if sandbox.record and sandbox.record.base_symref}
    others = store.starts(sandbox.record for sandbox in seen if sandbox.entry.record is None)
    now = {str(name): str(value) for name, value in {**starts, **(repo.refs(*others) if others else {})}.items()}
    return {name for name, record in started.items() if now.get(record.base_symref or "") != record.base}


def _overlap(name: SandboxId, open_ones: Mapping[SandboxId, frozenset[bytes]]) -> dict[str, int]:
    if name not in open_ones or len(open_ones) > MAX_OPEN:
        return {}
    mine = open_ones[name] - {MORE}
    shared = {other: len(mine & paths) for other, paths in open_ones.items() if other != name}
    return {other: count for other, count in shared.items() if count}
