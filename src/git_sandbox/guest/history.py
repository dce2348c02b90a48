"""Committed work: HEAD, refs and stashes, or the best that a crash left of them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from git_sandbox.guest import protocol
from git_sandbox.guest.repository import MAX_TEXT, ExportError, Repo, complaint, text

MAX_OTHERS = 10_000  # refs that are neither branches nor tags nor notes
MAX_LOG = 1 << 20  # bytes of HEAD's reflog that are read: its end
MAX_REFLOG = 100  # entries worth trying when a ref is damaged
OPERATIONS = (  # first match wins: a stopped rebase also leaves CHERRY_PICK_HEAD, and may leave MERGE_HEAD
    ("rebase-merge", "rebase"), ("rebase-apply/applying", "am"), ("rebase-apply", "rebase"), ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert"), ("BISECT_LOG", "bisect"),
    ("sequencer", "cherry-pick"),  # between two of several
)  # fmt: skip
_WORK = ("refs/heads/", "refs/tags/", "refs/notes/")
NO_WORK = re.compile(rf"{protocol.STASH}\Z|{protocol.NO_WORK}")

WORKTREE = re.compile(r"(?!.*\.\.)[^\x00-\x20\x7f/]{1,200}")  # a name git gives to a worktree, fit for a ref


def sound(repo: Repo, oids: list[str], known: list[str]) -> set[str]:
    """Those whose history is complete, as far as the host has not got it anyway."""
    options = ("--missing=allow-promisor",) if repo.partial else ()

    def complete(some: list[str]) -> bool:
        lines = "".join(f"{line}\n" for line in [*some, *(f"^{oid}" for oid in known)])
        quiet = () if repo.bad else ("--quiet",)
        done = repo.ask("rev-list", "--objects", *quiet, "--stdin", *options, input=lines.encode())
        needed = (text(row[: row.find(b" ")] if b" " in row else row) for row in done.stdout.splitlines())
        return done.returncode == 0 and repo.bad.isdisjoint(needed)

    there = set(known)
    good = there & set(oids)
    todo = [[oid for oid in dict.fromkeys(oids) if oid not in there]]
    while todo:  # in halves: of many refs few are damaged
        some = todo.pop()
        if not some or complete(some):
            good.update(some)
        elif len(some) > 1:
            todo += [some[: len(some) // 2], some[len(some) // 2 :]]
    return good


def earlier(repo: Repo, name: str, known: list[str]) -> str | None:
    """The newest sound commit in the reflog of `name`, read without git, which stops at damage."""
    log = repo.git_dir / "logs" / name
    rows = log.read_bytes().splitlines()[-MAX_REFLOG:] if log.is_file() else []
    oids = [text(row.split(b" ", 2)[1]) for row in reversed(rows) if row.count(b" ") > 1]
    return next((oid for oid in oids if sound(repo, [oid], known)), None)


def checked(repo: Repo, name: str, oid: str, good: set[str], known: list[str]) -> str | None:
    """`oid`, or for a damaged one the best there is."""
    if oid in good:
        return oid
    instead = earlier(repo, name, known)
    what = f"exported as it was at {instead}" if instead else "not exported"
    repo.warn(f"{name} is damaged at {oid}: {what}")
    repo.set_aside[name] = f"objects of {oid} are missing or damaged: {what}"
    return instead


@dataclass(frozen=True)
class Refs:
    """All refs as (object, name), and where HEAD points: `symref` unless detached, `head` unless unborn."""

    rows: list[list[str]]
    symref: str | None
    head: str | None

    @property
    def stash(self) -> str | None:
        return next((oid for oid, name in self.rows if name == "refs/stash"), None)


def read_refs(repo: Repo) -> Refs:
    """The list marks the branch that is checked out; only without such a one HEAD has to be asked for."""
    done = repo.listed()
    if done.returncode:
        raise ExportError(f"git for-each-ref: {complaint(done)}")
    split = [row.split(" ", 1) for row in text(done.stdout).split("\n") if row]
    rows = [[oid, rest[2:]] for oid, rest in split]
    for oid, rest in split:
        if rest.startswith("*"):
            return Refs(rows, rest[2:], oid)
    return Refs(rows, repo.line("symbolic-ref", "-q", "HEAD"), repo.line("rev-parse", "-q", "--verify", "HEAD"))


def chosen(repo: Repo, refs: Refs, known: list[str]) -> list[list[str]]:
    """All refs to export as (object, name); none of it checked.

    Branches, tags and notes always; any other ref, and the HEAD of another worktree that is on no branch, when it is
    not as it went in and the host has not got what it points to.
    """
    work = [row for row in refs.rows if row[1].startswith(_WORK)]
    there, start = {*known, *(oid for oid, _ in work)}, repo.start or {}
    rest = [row for row in refs.rows if not row[1].startswith(_WORK) and not NO_WORK.match(row[1])]
    others = [row for row in [*rest, *detached(repo)] if row[0] not in there and start.get(row[1]) != row[0]]
    if len(others) > MAX_OTHERS:
        what = "refs besides branches, tags and notes"
        repo.set_aside[what] = f"{MAX_OTHERS} of {len(others)} new ones are exported"
    return work + others[:MAX_OTHERS]


def detached(repo: Repo) -> list[list[str]]:
    """What is checked out in other worktrees without a branch, by names as if these were refs."""
    rows = []
    for head in sorted((repo.git_dir / "worktrees").glob("*/HEAD")):
        name = head.parent.name
        oid = text(head.read_bytes()[:100]).strip() if head.is_file() else ""
        started = repo.worktrees.get(name, [None])[0]
        if re.fullmatch(r"[0-9a-f]{40,64}", oid) and WORKTREE.fullmatch(name) and oid != started:
            rows.append([oid, f"refs/worktrees/{name}/HEAD"])
    return rows


def away(repo: Repo, tips: list[str], known: list[str]) -> list[str]:
    """Commits that HEAD was at once and that nothing leads to any more, amended or reset away; newest first."""
    report = dict.fromkeys([*tips, *known])
    left = [oid for oid in dict.fromkeys(places_of_head(repo)) if oid not in report]
    asked = "".join(f"{line}\n" for line in [*left, *(f"^{oid}" for oid in report)]).encode()
    words = ("rev-list", "--ignore-missing", f"--max-count={protocol.MAX_AWAY}", "--stdin")
    process = repo.ask(*words, input=asked) if left else None
    return list(map(text, process.stdout.split())) if process and process.returncode == 0 else []


def places_of_head(repo: Repo) -> list[str]:
    """Where HEAD was, newest first, as far back as is worth telling. Read without git, where it is a file."""
    log = repo.git_dir / "logs/HEAD"
    if log.is_file():
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - MAX_LOG))
            rows = [row.split(b" ", 2) for row in file.read().splitlines()[-protocol.MAX_AWAY :]]
        was = [text(row[1]) for row in reversed(rows) if len(row) > 1]
        width = 64 if repo.object_format == "sha256" else 40
        return [oid for oid in was if len(oid) == width and re.fullmatch("[0-9a-f]+", oid)]
    if not (repo.git_dir / "reftable").exists():
        return []
    return text(repo.ask("rev-list", "-g", f"--max-count={protocol.MAX_AWAY}", "HEAD", "--").stdout).split()


def stashes(repo: Repo, newest: str | None) -> list[dict[str, str]]:
    """Newest first. They live in the reflog of refs/stash; the ref itself (`newest`) is only the newest."""
    if newest is None:
        return []
    log = repo.ask("log", "-g", "-z", "--format=%H %gs", "refs/stash", "--")
    rows = [text(row).split(" ", 1) for row in log.stdout.split(b"\0") if row]
    if log.returncode or not rows:
        repo.warn("the reflog of the stash is missing or damaged: only its readable part is exported")
    if newest not in (oid for oid, _ in rows):  # a crash can take the last line of a reflog that had not been written
        rows.insert(0, [newest, ""])
    return [{"oid": oid, "message": message[:MAX_TEXT]} for oid, message in rows]


def operation(repo: Repo) -> str | None:
    for name, meaning in OPERATIONS:
        if os.path.lexists(repo.real_dir / name):
            return meaning
    return None
