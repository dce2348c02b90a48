"""Turns the target and HEAD into one commit, by merge mode. Writes objects only: no ref, no index, no worktree."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from git_sandbox.errors import IntegrateError, RepositoryError
from git_sandbox.git import usercommit
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, SandboxId, oid
from git_sandbox.git.repo import Head
from git_sandbox.integrate.trees import Merge, empty_tree, merge_commits, merge_trees, tree_of
from git_sandbox.later import dataclass


class Mode(enum.StrEnum):
    FF_OR_MERGE = "ff-or-merge"
    FF_ONLY = "ff-only"
    NO_FF = "no-ff"
    SQUASH = "squash"
    REBASE = "rebase"
    PICK = "pick"


class Relation(enum.StrEnum):
    """How the target stands to the host's HEAD."""

    UP_TO_DATE = "up-to-date"
    FAST_FORWARD = "fast-forward"
    DIVERGED = "diverged"
    REWRITTEN = "rewritten"  # the sandbox changed history that it started from
    UNRELATED = "unrelated"


@dataclass(frozen=True)
class Request:
    """`picks`: for Mode.PICK, oldest first. `message`: for the commit made by merge and squash. `sign`: new commits are
    signed when the user's git would sign them.
    """

    sandbox: SandboxId
    target: Oid
    mode: Mode = Mode.FF_OR_MERGE
    picks: tuple[Oid, ...] = ()
    message: str | None = None
    sign: bool = True


@dataclass(frozen=True)
class Outcome:
    """`commit` is None while there are conflicts; `tree` then holds conflict markers. `stopped_at`: the commit that
    could not be replayed. `skipped`: commits whose changes HEAD has already.
    """

    tree: Oid
    commit: Oid | None
    conflicts: tuple[bytes, ...] = ()
    stopped_at: Oid | None = None
    skipped: tuple[Oid, ...] = ()


def relate(git: Git, head: Oid | None, base: Oid | None, target: Oid) -> Relation:
    if head is None:
        return Relation.FAST_FORWARD
    if git.test("merge-base", "--is-ancestor", target, head):
        return Relation.UP_TO_DATE
    if git.test("merge-base", "--is-ancestor", head, target):
        return Relation.FAST_FORWARD
    if not git.test("merge-base", head, target):
        return Relation.UNRELATED
    kept = base is None or git.test("merge-base", "--is-ancestor", base, target)
    return Relation.DIVERGED if kept else Relation.REWRITTEN


def combine(git: Git, head: Head, relation: Relation, request: Request, *, dry_run: bool = False) -> Outcome:
    """The commit that HEAD shall become. `dry_run`: nobody keeps it, so that nothing is signed.

    Raises IntegrateError when the mode cannot work for this relation, and when a new commit cannot be signed.
    """
    refuse(relation, request)
    sign = request.sign and not dry_run and usercommit.signs(git)
    if request.mode is Mode.PICK:
        return _replay(git, head.commit, request.picks, sign=sign)
    plain = relation is Relation.FAST_FORWARD and request.mode not in (Mode.NO_FF, Mode.SQUASH)
    if head.commit is None or plain:
        return _as_it_is(git, request.target)
    if relation is Relation.UP_TO_DATE:
        return _as_it_is(git, head.commit)
    if request.mode is Mode.REBASE:
        return _replay(git, head.commit, _own_commits(git, head.commit, request.target), sign=sign)
    return _join(git, head, head.commit, relation, request, sign=sign)


def refuse(relation: Relation, request: Request) -> None:
    """Raises IntegrateError when `request.mode` cannot work for `relation`."""
    if request.mode is Mode.PICK:
        if not request.picks:
            raise IntegrateError("no commits to pick given", hint=f"`sandbox log {request.sandbox}` lists them")
        return
    if relation is Relation.UNRELATED:
        raise IntegrateError(
            "the sandbox's history has no commit in common with HEAD",
            hint=f"put it on a branch of its own (`sandbox merge --branch NAME {request.sandbox}`), make patches of it "
            "(--patches DIR), or --pick single commits",
        )
    if relation is Relation.REWRITTEN and request.mode in (Mode.FF_OR_MERGE, Mode.FF_ONLY):
        raise IntegrateError(
            "the sandbox rewrote commits it started from (amend, rebase or reset)",
            hint=f"put it on a branch of its own (`sandbox merge --branch NAME {request.sandbox}`), make patches of it "
            "(--patches DIR), or merge anyway with --rebase, --squash or --no-ff",
        )
    if relation is Relation.DIVERGED and request.mode is Mode.FF_ONLY:
        raise IntegrateError("HEAD has commits that the sandbox lacks", hint="leave out --ff-only to merge")


def _as_it_is(git: Git, commit: Oid) -> Outcome:
    return Outcome(tree_of(git, commit), commit)


def _join(git: Git, head: Head, ours: Oid, relation: Relation, request: Request, *, sign: bool) -> Outcome:
    """A merge commit or a squashed one; no squashed one where HEAD has all of it already."""
    if relation is Relation.FAST_FORWARD:
        merge = Merge(tree_of(git, request.target), ())
    else:
        merge = merge_commits(git, ours, request.target)
    if merge.conflicts:
        return Outcome(merge.tree, None, merge.conflicts)
    squash = request.mode is Mode.SQUASH
    if squash and merge.tree == tree_of(git, ours):
        return _as_it_is(git, ours)
    message = request.message or (_squash_message(git, ours, request) if squash else merge_message(head, request))
    parents = (ours,) if squash else (ours, request.target)
    committer(git)
    data = message.encode("utf-8", "surrogateescape")
    return Outcome(merge.tree, usercommit.commit(git, merge.tree, parents, data, sign=sign))


def merge_message(head: Head, request: Request) -> str:
    into = f" into {head.symref.removeprefix('refs/heads/')}" if head.symref else ""
    return f"Merge sandbox/{request.sandbox}{into}\n"


def _squash_message(git: Git, ours: Oid, request: Request) -> str:
    names = _own_commits(git, ours, request.target)
    if len(names) == 1:
        return _split(git, names[0])[1].decode("utf-8", "surrogateescape")
    subjects = [_split(git, name)[1].split(b"\n", 1)[0].decode("utf-8", "replace") for name in names]
    return f"Squash sandbox/{request.sandbox}\n\n" + "".join(f"* {subject}\n" for subject in subjects)


def _own_commits(git: Git, ours: Oid, theirs: Oid) -> list[Oid]:
    """What `theirs` has and `ours` has not, oldest first, without merges and without changes `ours` has too."""
    listed = git.line(
        "rev-list", "--reverse", "--topo-order", "--no-merges", "--right-only", "--cherry-pick", f"{ours}...{theirs}"
    )
    return [oid(line) for line in listed.split()]


def committer(git: Git) -> bytes:
    """The user as committer. Raises IntegrateError when git does not know who that is."""
    done = git.try_run("var", "GIT_COMMITTER_IDENT")
    if done.returncode != 0:
        raise IntegrateError(
            "cannot create a commit: git has no user name and email",
            hint='run `git config --global user.name "…"` and `git config --global user.email …`',
        )
    return done.stdout.removesuffix(b"\n")


def _replay(git: Git, onto: Oid | None, names: Sequence[Oid], *, sign: bool) -> Outcome:
    """Copies of the commits `names`, one after the other, on top of `onto`."""
    us = committer(git)
    tip, tree, skipped = onto, tree_of(git, onto), []
    for name in names:
        header, message = _split(git, name)
        old, before = _trees(git, name, header)
        merge = Merge(old, ()) if before == tree else merge_trees(git, before, tree, old)
        if merge.conflicts:
            return Outcome(merge.tree, None, merge.conflicts, stopped_at=name)
        if merge.tree == tree and old != before:
            skipped.append(name)
            continue
        if sign:
            tip, tree = usercommit.rewritten(git, header, message, merge.tree, tip), merge.tree
        else:
            tip, tree = _rewrite(git, header, message, merge.tree, tip, us=us), merge.tree
    if tip is None:
        raise IntegrateError("nothing is left to commit: the picked commits change nothing here")
    return Outcome(tree, tip, skipped=tuple(skipped))


def _split(git: Git, name: Oid) -> tuple[list[bytes], bytes]:
    header, _, message = git.run("cat-file", "commit", name).partition(b"\n\n")
    return header.split(b"\n"), message


def _trees(git: Git, name: Oid, header: list[bytes]) -> tuple[Oid, Oid]:
    """The tree of a commit and that of its parent."""
    parents = [line[7:].decode("ascii") for line in header if line.startswith(b"parent ")]
    if len(parents) > 1:
        raise IntegrateError(f"{name[:12]} is a merge commit and cannot be picked", hint="pick what it merged instead")
    before = tree_of(git, oid(parents[0])) if parents else empty_tree(git)
    return tree_of(git, name), before


def _rewrite(git: Git, header: list[bytes], message: bytes, tree: Oid, parent: Oid | None, *, us: bytes) -> Oid:
    """The commit with another tree, parent and committer. Author, encoding and message stay byte by byte; a signature
    would no longer be true and is dropped.
    """
    kept = {line.split(b" ", 1)[0]: line for line in header if line.startswith((b"author ", b"encoding "))}
    lines = [b"tree " + tree.encode(), *([b"parent " + parent.encode()] if parent else [])]
    lines += [kept[b"author"], b"committer " + us, *([kept[b"encoding"]] if b"encoding" in kept else [])]
    data = b"\n".join(lines) + b"\n\n" + message
    try:
        return oid(git.line("hash-object", "-t", "commit", "-w", "--stdin", input=data))
    except RepositoryError as error:
        raise IntegrateError("a commit of the sandbox cannot be copied", cause=error.cause) from error
