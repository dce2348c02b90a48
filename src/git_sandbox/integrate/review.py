"""Reviewing what a sandbox did: arguments for `git diff`, commits as data, and what dropping it would lose.

Everything returned is guest text: sanitise before showing.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from git_sandbox.errors import LimitError
from git_sandbox.git.bounds import batches
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.overview import USERS
from git_sandbox.integrate.trees import empty_tree
from git_sandbox.later import dataclass

_FIELDS = ("%H", "%P", "%an", "%ae", "%at", "%ct", "%s")
_MAX_TEXT = 500  # characters of a name or subject; a guest writes megabytes if it likes
_MAX_COMMIT = 64 << 10  # bytes of a commit object that is shown
_AT_ONCE = 4 << 20  # bytes of commits that are read at once
_MAX_PARENTS = 100  # of one commit that are shown
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


@dataclass(frozen=True)
class Difference:
    """`raw` is guest text, a beginning unless it is `whole`. `note`: what is shown in another way than git would."""

    raw: bytes
    whole: bool
    note: str = ""


# Files that large are not split into lines, and renames are not looked for: for a million line breaks git needs 80 MB.
_COARSE = ("-c", "core.bigFileThreshold=512k", "-c", "diff.renames=false")
_COARSELY = "it is too large to compare line by line: files above 512 KiB are shown as binary, renames as two files"


def difference(git: Git, before: Oid, after: Oid, *, style: Style, most: int, paths: Sequence[str] = ()) -> Difference:
    """As `git diff` shows it, at most `most` bytes. Raises LimitError for one that nobody can be shown."""
    words = diff_argv(before, after, style=style, paths=paths)
    try:
        return Difference(*git.beginning(*words, most=most))
    except LimitError:
        pass
    try:
        return Difference(*git.beginning(*_COARSE, *words, most=most), _COARSELY)
    except LimitError as error:
        hint = "name some paths, or look with git itself: it may take all of this machine's memory"
        raise LimitError("the difference is too large to show", cause=error.cause, hint=hint) from None


def log(repo: Repository, tips: Sequence[Oid], base: Oid | None, *, limit: int = 200) -> list[CommitInfo]:
    """Commits reachable from `tips` and not from `base`, newest first, at most `limit`.

    Of one that is larger than any message needs to be only the size is told: hundreds of 16 MB each fill our memory.
    """
    if not tips:
        return []
    asked = "".join(f"{tip}\n" for tip in (*tips, *([f"^{base}"] if base else []))).encode()
    listed = repo.git.line("rev-list", "--topo-order", f"--max-count={limit}", "--stdin", input=asked).split()
    sizes = _sizes(repo, listed)
    shown: dict[Oid, CommitInfo] = {}
    for some in batches(((name, size) for name, size in sizes.items() if size <= _MAX_COMMIT), _AT_ONCE):
        shown |= _shown(repo, some)
    return [shown.get(oid(name)) or _not_shown(oid(name), sizes.get(name)) for name in listed]


def _sizes(repo: Repository, names: Sequence[str]) -> dict[str, int]:
    """Bytes of each that is here: in a partial clone one may be missing."""
    asked = "".join(f"{name}\n" for name in names).encode()
    rows = repo.git.line("cat-file", "--batch-check=%(objectsize)", input=asked).splitlines()
    return {name: int(row) for name, row in zip(names, rows, strict=True) if row.isdecimal()}


def _shown(repo: Repository, names: Sequence[str]) -> dict[Oid, CommitInfo]:
    raw = repo.git.run(
        "log", "-z", "--no-walk=unsorted", "--stdin", "--encoding=UTF-8", "--no-show-signature", "--no-notes",
        "--no-patch", "--no-decorate", "--no-mailmap", f"--format=tformat:{'%x00'.join(_FIELDS)}",
        input="".join(f"{name}\n" for name in names).encode(),
    )  # fmt: skip
    words = raw.split(b"\0")[:-1]
    width = len(_FIELDS)
    commits = (_commit(words[start : start + width]) for start in range(0, len(words), width))
    return {commit.oid: commit for commit in commits}


def _not_shown(name: Oid, size: int | None) -> CommitInfo:
    note = "(a commit that is not here)" if size is None else f"(a commit of {size} bytes)"
    return CommitInfo(name, (), "", "", 0, 0, note)


def _commit(words: Sequence[bytes]) -> CommitInfo:
    name, parents, author, email, authored, committed, subject = (word.decode("utf-8", "replace") for word in words)
    return CommitInfo(
        oid(name),
        tuple(oid(parent) for parent in parents.split()[:_MAX_PARENTS]),
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
    """Commits reachable from `tips` but from no branch, no tag and no HEAD (of any worktree) of the user's: what
    dropping the sandbox would lose sooner or later, newest first, at most `limit`.
    """
    if not tips:
        return []
    asked = "".join(f"{tip}\n" for tip in tips).encode()
    words = ("--topo-order", f"--max-count={limit}", "--stdin", "--not", *USERS)
    try:
        listed = repo.git.without_broken_refs().line("rev-list", *words, input=asked)
    except LimitError:
        return list(tips)[:limit]  # nobody knows: then all that was asked for counts as unmerged
    return [oid(line) for line in listed.split()]
