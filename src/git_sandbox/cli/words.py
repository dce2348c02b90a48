"""The report at the end of a sandbox, as text and as data. All guest text is made printable here."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from git_sandbox import store
from git_sandbox.cli import columns, ondisk
from git_sandbox.errors import LimitError
from git_sandbox.git.names import Oid, SandboxId, SandboxRefs
from git_sandbox.text import one_line

# Late, here and below: `sync` and `stop` print a part of this, and do without the rest.
if TYPE_CHECKING:
    from git_sandbox.collect import Collected
    from git_sandbox.git.repo import Repository
    from git_sandbox.integrate.merge import Merged
    from git_sandbox.integrate.review import CommitInfo
    from git_sandbox.sandbox.finished import Finished
    from git_sandbox.sandbox.imported import Retrieval
    from git_sandbox.sandbox.settle import Settled
    from git_sandbox.store import Record

_BESIDE = ("refs/sandbox-stash/", "refs/sandbox-tags/", "refs/sandbox-notes/", "refs/sandbox-other/")
SHOWN = 20  # commits listed at exit; `sandbox log` has them all


def commit_line(commit: CommitInfo, names: Sequence[str] = (), *, merged: bool = False, stashed: bool = False) -> str:
    mark = click.style(commit.oid[:10], fg="yellow")
    if names:
        mark += click.style(f" [{', '.join(one_line(name, limit=60) for name in names)}]", fg="cyan")
    if merged:
        mark += click.style(" merged", fg="green")
    if stashed:
        mark += click.style(" stash", fg="yellow")
    who = one_line(commit.author_name, limit=30)
    return f"{mark} {one_line(commit.subject, limit=100)} ({who}, {columns.age(commit.authored)} ago)"


def commits(repo: Repository, record: Record, collected: Collected) -> list[CommitInfo]:
    from git_sandbox.integrate import review

    roots = ("refs/sandbox/", "refs/sandbox-heads/")
    tips = [new for name, (_, new) in collected.updated.items() if name.startswith(roots)]
    return review.log(repo, tips, Oid(record.base) if record.base else None)


def summary(repo: Repository, finished: Finished, settled: Settled, *, shown: bool = False) -> tuple[str, ...]:
    """Lines for stderr: warnings, commits (unless that was `shown`), uncommitted work, the merge or how to get it."""
    from git_sandbox.cli.first import warnings

    lines = warnings(finished.warnings)
    if finished.home.rescued:
        why = f" ({one_line(finished.home.reason, limit=300)})" if finished.home.reason else ""
        lines.append(f"The machine could not export its work{why}; a rescue machine read its disk.")
    if not finished.home.changed:
        return (*lines, f"No changes in sandbox {finished.id}. {in_trash(repo, finished.id)}")
    lines += [] if shown else homecoming(repo, finished.record, finished.home)
    lines += _dirty(finished, settled)
    here, nothing_else = store.directory(repo, finished.id).has_disk(), not finished.home.collected.updated
    lines += ondisk.lines(finished.id, finished.home.changes, nothing_else=nothing_else, here=here)
    return (*lines, *_merge(finished, settled))


def in_trash(repo: Repository, name: str) -> str:
    """Where a sandbox that ended unchanged is."""
    from git_sandbox.sandbox import trashed

    gone = trashed.find(repo, name)
    if gone is None:
        return f"`sandbox drop {name}` removes it."
    if not trashed.stays(gone):
        return columns.FLEETING
    return f"It is in the trash{columns.until(trashed.until(gone))}: `sandbox restore {name}`"


def homecoming(repo: Repository, record: Record, home: Retrieval) -> list[str]:
    lines = []
    try:
        listed = commits(repo, record, home.collected)
    except LimitError:
        listed = []
        lines.append(f"What came home from sandbox {record.id} is too large to list.")
    if listed:
        ref = SandboxRefs(SandboxId(record.id)).head
        lines.append(f"{count(len(listed), 'commit')} came home from sandbox {record.id} ({ref}):")
        lines += [f"  {commit_line(commit)}" for commit in listed[:SHOWN]]
        if len(listed) > SHOWN:
            lines.append(f"  … and {len(listed) - SHOWN} more: `sandbox log {record.id}`")
    lines += _nested(record, home)
    lines += _branches(record, home)
    lines += _content(home)
    lines += in_progress(record.id, home.manifest.operation, home.manifest.unmerged)
    beside = [name for name in home.collected.updated if name.startswith(_BESIDE)]
    others = [name for name in beside if f"/{record.id}/operation/" not in name]
    lines += [f"  also {one_line(name)}" for name in others[:SHOWN]]
    return lines


def _content(home: Retrieval) -> list[str]:
    stored = home.lfs.stored + sum(inner.lfs.stored for inner in home.nested.homes)
    return [f"  the content of {count(stored, 'Git LFS file')} came into your store"] if stored else []


def in_progress(name: str, kind: str | None, unmerged: Sequence[str], *, running: bool = False) -> list[str]:
    """A merge or the like that waits inside, and the ways to go on with it."""
    from git_sandbox.integrate import operation

    if not kind and not unmerged:
        return []
    words = operation.in_progress(kind)
    what = f"{words[0].upper()}{words[1:]} in sandbox {name}"
    shown = ", ".join(one_line(path, limit=80) for path in unmerged[:SHOWN]) + (" …" if len(unmerged) > SHOWN else "")
    if running:
        return [what + (f"; unmerged: {shown}" if unmerged else "")]
    here = f", or here: `sandbox merge --resume {name}`" if kind in operation.HEADS else ""
    return [what + (f"; unmerged: {shown}" if unmerged else ""), f"  continue inside: `sandbox shell {name}`{here}"]


def _branches(record: Record, home: Retrieval) -> list[str]:
    """Branches that the host has not got, apart from the one that a merge follows."""
    collected = home.collected
    new = [
        name
        for name, ref in collected.branches.items()
        if ref in collected.updated and f"refs/heads/{name}" not in record.refs
    ]
    if not new:
        return []
    shown = ", ".join(one_line(name, limit=60) for name in new[:SHOWN]) + (" …" if len(new) > SHOWN else "")
    return [f"  new branches: {shown} (`sandbox branch {record.id}` makes them yours)"]


def _nested(record: Record, home: Retrieval) -> list[str]:
    """A line for each repository inside the worktree from which something came, and where that is now."""
    from git_sandbox.integrate import operation

    lines = []
    for inner in home.nested.homes:
        new = [name for name in inner.collected.updated if name.startswith(("refs/sandbox/", "refs/sandbox-heads/"))]
        what = "commits" if new else "uncommitted work, stashes or tags"
        where = one_line(os.fspath(inner.git_dir), limit=300)
        fetch = "" if inner.borrowed else f": `git fetch {shlex.quote(where)} {SandboxRefs(SandboxId(record.id)).head}`"
        if inner.collected.updated:
            lines.append(f"  {inner.path}: {what} of that repository came home into {where}{fetch}")
        if inner.operation:
            state = operation.in_progress(inner.operation)
            lines.append(f"  {inner.path}: {state}: continue inside, `sandbox shell {record.id}`")
    return lines


def _dirty(finished: Finished, settled: Settled) -> list[str]:
    from git_sandbox.cli.first import warnings

    if not settled.dirty:
        return []
    ref = f"refs/sandbox-wip/{finished.id}"
    done = {
        "commit": "was committed on top",
        "stash": "is in `git stash list`",
        "discard": "is discarded",
    }.get(settled.dirty, f"is kept: see `sandbox diff --wip {finished.id}`")
    lines = [f"Uncommitted work {done} ({ref})."]
    return [*warnings([settled.dirty_problem]), *lines] if settled.dirty_problem else lines


def _merge(finished: Finished, settled: Settled) -> list[str]:
    from git_sandbox.sandbox.settle import why_not

    if settled.target is None:
        return []
    if settled.merged is not None and settled.merged.after is not None:
        before = settled.merged.before[:10] if settled.merged.before else "nothing"
        moved = f"{how(settled.merged)}, {before}..{settled.merged.after[:10]}"
        text = f"Merged into your branch ({moved}). Undo: `sandbox merge --undo {finished.id}`"
        return [text, *merge_notes(settled.merged)]
    reason = settled.reason or (why_not(settled.plan) if settled.plan and not settled.plan.possible else "")
    text = f"Not merged: {one_line(reason, limit=300)}. " if reason else ""
    if settled.explained:
        ways = f"`sandbox merge --branch NAME {finished.id}` or `sandbox merge --patches DIR {finished.id}`"
        return [text.rstrip(), *(f"  {line}" for line in settled.explained.splitlines()), f"Keep it: {ways}"]
    return [f"{text}Look: `sandbox diff {finished.id}`. Merge: `sandbox merge {finished.id}`"]


def how(merged: Merged) -> str:
    """In which way, in words."""
    from git_sandbox.integrate.modes import Mode, Relation

    plain = merged.mode in (Mode.FF_OR_MERGE, Mode.FF_ONLY, Mode.REBASE)
    if merged.before is None or (merged.relation is Relation.FAST_FORWARD and plain):
        return "fast-forward"
    ways = {Mode.SQUASH: "one commit with everything", Mode.REBASE: "replayed on your commits", Mode.PICK: "picked"}
    return ways.get(merged.mode, "a merge commit")


def merge_notes(merged: Merged) -> list[str]:
    """What somebody should know about a merge that was made."""
    notes = []
    if merged.unsigned:
        unsigned = count(merged.unsigned, "commit")
        notes.append(f"{unsigned} of the sandbox came in without a signature, and your git signs: --squash makes one")
    if merged.absent:
        shown = ", ".join(one_line(path, limit=80) for path in merged.absent[:SHOWN])
        more = f" and {len(merged.absent) - SHOWN} more" if len(merged.absent) > SHOWN else ""
        notes.append(f"the content of Git LFS files is not in your store: {shown}{more}")
    return notes


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def data(finished: Finished, settled: Settled) -> dict[str, Any]:
    """The result of `spawn` and `run` for `--json`."""
    collected = finished.home.collected
    return {
        "id": finished.id,
        "exit_code": finished.exit_code,
        "changed": finished.home.changed,
        "changes": finished.home.changes,
        "rescued": finished.home.rescued,
        "refused": finished.refused,
        "base": finished.record.base,
        "head": collected.head,
        "head_ref": collected.head_symref,
        "wip": collected.wip,
        "refs": {name: new for name, (_, new) in collected.updated.items()},
        "merged": settled.merged,
        "reason": settled.reason,
        "dirty": settled.dirty,
        "lfs": {"stored": finished.home.lfs.stored, "missing": finished.home.lfs.missing},
        "operation": finished.home.manifest.operation,
        "unmerged": list(finished.home.manifest.unmerged),
        "nested": [
            {
                "path": inner.path,
                "git_dir": one_line(os.fspath(inner.git_dir), limit=4096),
                "head": inner.collected.head,
                "refs": inner.collected.updated,
            }
            for inner in finished.home.nested.homes
        ],
        "warnings": list(finished.warnings),
    }
