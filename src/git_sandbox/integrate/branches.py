"""Creates or fast-forwards the user's branches from those of a sandbox, all or none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from git_sandbox.errors import IntegrateError, UsageError
from git_sandbox.git.names import Oid, RefName, SandboxId
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.risky import Risk, between
from git_sandbox.integrate.trees import tree_of
from git_sandbox.later import dataclass
from git_sandbox.text import one_line, printable

_ROOT = "refs/heads/"
_MAX_ENTRY = 4096  # bytes of a reflog's entry that are looked at


class Move(StrEnum):
    CREATE = "create"
    FORWARD = "fast-forward"
    SAME = "up-to-date"
    LEFT = "left"  # see `reason`


@dataclass(frozen=True)
class Branch:
    """`source`: the sandbox's ref. `name`: the branch here. `before` None: it does not exist yet."""

    source: RefName
    name: str
    before: Oid | None
    after: Oid
    move: Move
    reason: str = ""


def guest_name(source: RefName) -> str | None:
    """What the guest called the branch; None where only a hash of the name is left."""
    encoded = source.split("/", 3)[3]
    return None if encoded.startswith("%sha256-") else os.fsdecode(unquote_to_bytes(encoded))


def choose(offered: Mapping[RefName, Oid], asked: Sequence[str]) -> dict[str, tuple[RefName, Oid]]:
    """Names here and what they shall point to. `asked`: NAME or NAME:NEW each; all of `offered` without.

    Raises UsageError for a name that the sandbox has not, and for one that is named twice.
    """
    known = {name: (ref, value) for ref, value in offered.items() if (name := guest_name(ref))}
    known |= {ref: (ref, value) for ref, value in offered.items()}
    branches: dict[str, tuple[RefName, Oid]] = {}
    for word in asked or [name for name in known if not name.startswith("refs/sandbox-heads/")]:
        name, _, new = word.partition(":")
        if name not in known:
            there = ", ".join(one_line(name) for name in known if not name.startswith("refs/")) or "none"
            raise UsageError(f"the sandbox has no branch `{one_line(name)}`", hint=f"new or moved there: {there}")
        if (new or name) in branches:
            raise UsageError(f"`{one_line(new or name)}` is named twice")
        branches[new or name] = known[name]
    return branches


def look(repo: Repository, chosen: Mapping[str, tuple[RefName, Oid]], *, explicit: bool) -> tuple[Branch, ...]:
    """What `make` would do. Not `explicit`: a branch that cannot follow is left with the reason, else it is an error.

    Raises UsageError for a name git does not allow, IntegrateError for what cannot be done.
    """
    rows = []
    busy = _checked_out(repo)
    for name, (source, value) in chosen.items():
        branch = _look(repo, name, source, value, busy)
        if branch.move is Move.LEFT and explicit:
            raise IntegrateError(f"the branch `{one_line(name)}` {branch.reason}", hint="nothing was changed")
        rows.append(branch)
    return tuple(rows)


def _look(repo: Repository, name: str, source: RefName, value: Oid, busy: Mapping[str, str]) -> Branch:
    if why := _unfit(repo, name):
        return Branch(source, name, None, value, Move.LEFT, why)
    before = repo.resolve(f"{_ROOT}{name}^{{commit}}")
    if before is None:
        return Branch(source, name, None, value, Move.CREATE)
    if before == value or repo.git.test("merge-base", "--is-ancestor", value, before):
        return Branch(source, name, before, value, Move.SAME)
    if not repo.git.test("merge-base", "--is-ancestor", before, value):
        reason = f"has commits that the sandbox's branch lacks: choose another name, `{one_line(name)}:NEW`"
        return Branch(source, name, before, value, Move.LEFT, reason)
    if where := busy.get(f"{_ROOT}{name}"):
        return Branch(source, name, before, value, Move.LEFT, f"is in use in {where}: `sandbox merge` moves it there")
    return Branch(source, name, before, value, Move.FORWARD)


def risky(repo: Repository, branches: Iterable[Branch], *, moved_only: bool) -> tuple[Risk, ...]:
    """What is risky in what the branches get: those here that move, or also new ones, compared with HEAD."""
    kinds = (Move.FORWARD,) if moved_only else (Move.FORWARD, Move.CREATE)
    head = tree_of(repo.git, repo.head().commit)
    between_them = [
        between(repo.git, branch.before or head, branch.after) for branch in branches if branch.move in kinds
    ]
    return tuple(dict.fromkeys(risk for risks in between_them for risk in risks))


def _unfit(repo: Repository, name: str) -> str:
    if printable(name) != name:
        return "has an unprintable name: choose another, `sandbox branch ID REF:NEW`"
    same = repo.git.try_run("check-ref-format", "--branch", name).text.strip() == name
    return "" if same else "has a name that git does not allow for a branch"


def _checked_out(repo: Repository) -> dict[str, str]:
    """Branches that are checked out somewhere, or in the middle of a rebase or bisect, and where."""
    listed = repo.git.run("for-each-ref", "--format=%(refname)%00%(worktreepath)", _ROOT)
    rows = (line.split("\0") for line in listed.decode("utf-8", "surrogateescape").splitlines() if "\0" in line)
    busy = {name: one_line(place) for name, place in rows if place}
    for git_dir in (repo.common_dir, *sorted((repo.common_dir / "worktrees").glob("*"))):
        for marker in ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START"):
            path = git_dir / marker
            if path.is_file():
                name = os.fsdecode(path.read_bytes()[:_MAX_ENTRY]).strip()
                busy.setdefault(name if name.startswith(_ROOT) else f"{_ROOT}{name}", one_line(os.fspath(git_dir)))
    return busy


def make(repo: Repository, sandbox: SandboxId, branches: Iterable[Branch]) -> None:
    """Set what `look` found. Raises IntegrateError, with nothing changed, when git cannot, or a branch has moved."""
    lines = [
        f"update {_ROOT}{branch.name}\0{branch.after}\0{branch.before or '0' * len(branch.after)}\0"
        for branch in branches
        if branch.move in (Move.CREATE, Move.FORWARD)
    ]
    if lines:
        _transaction(repo, lines, f"sandbox branch {sandbox}")


def undoable(repo: Repository, sandbox: SandboxId) -> tuple[Branch, ...]:
    """The branches that are as `make` left them. Raises IntegrateError when there is none."""
    done = []
    for name in repo.refs(_ROOT.rstrip("/")):
        log = repo.git.try_run("log", "-g", "-2", "-z", "--format=%H %gs", name, "--").text.split("\0")
        rows = [row.split(" ", 1) for row in log if " " in row]
        now = repo.resolve(name)
        if now and rows and rows[0] == [now, f"sandbox branch {sandbox}"]:
            before = Oid(rows[1][0]) if len(rows) > 1 else None
            done.append(Branch(name, name.removeprefix(_ROOT), before, now, Move.FORWARD if before else Move.CREATE))
    busy = _checked_out(repo)
    done = [branch for branch in done if f"{_ROOT}{branch.name}" not in busy]
    if not done:
        raise IntegrateError(f"every branch has changed since `sandbox branch {sandbox}`")
    return tuple(done)


def undo(repo: Repository, sandbox: SandboxId) -> tuple[Branch, ...]:
    """Take back what `make` did to branches that nobody has moved since: they are gone, or back where they were.

    Raises IntegrateError when there is none.
    """
    done = undoable(repo, sandbox)
    lines = [
        f"update {_ROOT}{branch.name}\0{branch.before}\0{branch.after}\0"
        if branch.before
        else f"delete {_ROOT}{branch.name}\0{branch.after}\0"
        for branch in done
    ]
    _transaction(repo, lines, f"sandbox branch --undo {sandbox}")
    return done


def _transaction(repo: Repository, lines: Sequence[str], log: str) -> None:
    asked = "".join(lines).encode("utf-8", "surrogateescape")
    words = ("-c", "core.logAllRefUpdates=true", "update-ref", "-m", log, "--stdin", "-z")
    done = repo.git.try_run(*words, input=asked)
    if done.returncode != 0:
        cause = printable(done.complaint, limit=2000).removeprefix("fatal: ")
        raise IntegrateError("the branches could not be set", cause=cause, hint="nothing was changed")
