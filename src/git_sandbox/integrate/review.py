"""Reading what a sandbox did: arguments for `git diff`, commits as data, and what would be lost by dropping it.

Everything returned is guest text: sanitise before showing.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from git_sandbox.git.names import Oid, SandboxRefs, oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.decide import BaseRecord
from git_sandbox.integrate.trees import empty_tree

_FIELDS = ("%H", "%P", "%an", "%ae", "%at", "%ct", "%s")
_MAX_TEXT = 500  # characters of a name or subject; a guest writes megabytes if it likes
_MAX_TIME = 2**40  # seconds since 1970; a guest writes whatever it likes


class Span(enum.StrEnum):
    """What to compare: from the worktree at spawn (what the sandbox did), from the commit at spawn (what a merge
    brings), or the uncommitted work on top of the sandbox's HEAD.
    """

    SPAWN = "spawn"
    BASE = "base"
    WIP = "wip"


class Style(enum.StrEnum):
    PATCH = "--patch"
    STAT = "--stat"
    NAME_ONLY = "--name-only"


@dataclass(frozen=True)
class CommitInfo:
    oid: Oid
    parents: tuple[Oid, ...]
    author_name: str
    author_email: str
    authored: int  # seconds since 1970
    committed: int  # seconds since 1970
    subject: str


def ends(
    repo: Repository, base: BaseRecord, tip: Oid | None, wip: Oid | None = None, span: Span = Span.SPAWN
) -> tuple[Oid, Oid]:
    """The two trees or commits to compare. `tip` None: the sandbox's HEAD was never born. Without `wip` the
    uncommitted work is empty.
    """
    nothing = empty_tree(repo.git)
    last = tip or nothing
    if span is Span.WIP:
        return last, wip or last
    return (base.snapshot if span is Span.SPAWN else base.commit or nothing), last


def diff_argv(
    before: Oid, after: Oid, *, style: Style = Style.PATCH, color: bool = False, paths: Sequence[str] = ()
) -> list[str]:
    """Arguments for git that show a difference without running any program the repository or the tree names."""
    return [
        "diff", "--no-ext-diff", "--no-textconv", "--submodule=short", "--ignore-submodules=none",
        "--color=always" if color else "--no-color", str(style), "--end-of-options", before, after, "--", *paths,
    ]  # fmt: skip


def log(repo: Repository, tips: Sequence[Oid], base: Oid | None, *, limit: int = 200) -> list[CommitInfo]:
    """Commits reachable from `tips` and not from `base`, newest first, at most `limit`."""
    if not tips:
        return []
    raw = repo.git.run(
        "log", "-z", "--topo-order", f"--max-count={limit}", "--encoding=UTF-8", "--no-show-signature", "--no-notes",
        "--no-patch", "--no-decorate", "--no-mailmap", f"--format=tformat:{'%x00'.join(_FIELDS)}",
        *tips, *([f"^{base}"] if base else []), "--",
    )  # fmt: skip
    words = raw.split(b"\0")[:-1]
    width = len(_FIELDS)
    return [_commit(words[start : start + width]) for start in range(0, len(words), width)]


def _commit(words: Sequence[bytes]) -> CommitInfo:
    name, parents, author, email, authored, committed, subject = (word.decode("utf-8", "replace") for word in words)
    return CommitInfo(
        oid(name),
        tuple(oid(parent) for parent in parents.split()),
        author[:_MAX_TEXT],
        email[:_MAX_TEXT],
        _seconds(authored),
        _seconds(committed),
        subject[:_MAX_TEXT],
    )


def _seconds(text: str) -> int:
    """A time; 0 for what is none."""
    return min(int(text), _MAX_TIME) if text.isdecimal() and len(text) < 20 else 0  # noqa: PLR2004 - digits of 2**64


def unmerged(repo: Repository, tips: Sequence[Oid], *, limit: int = 1000) -> list[Oid]:
    """Commits reachable from `tips` but from no branch, tag, HEAD (of any worktree) or other ref outside ours:
    what dropping the sandbox would lose, newest first, at most `limit`.
    """
    if not tips:
        return []
    hidden = [f"--exclude={root}*" for root in SandboxRefs.ROOTS]
    listed = repo.git.line("rev-list", "--topo-order", f"--max-count={limit}", *tips, "--not", *hidden, "--all", "--")
    return [oid(line) for line in listed.split()]
