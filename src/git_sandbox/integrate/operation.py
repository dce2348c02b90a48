"""A git operation in progress inside a sandbox (a merge, a cherry-pick, …), as exported by `guest/operation.py`.

All of it is a guest's: object names are looked up as commits, texts are bounded, and of the operation's own files only
what is named here is ever written into the user's git directory. A `todo` may hold commands: it never is.
"""

from __future__ import annotations

import re

from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, SandboxRefs, oid
from git_sandbox.git.repo import Repository
from git_sandbox.integrate.trees import Entry, shown, text, tree_of
from git_sandbox.later import dataclass

MAX_STAGES = 64 << 20  # bytes of the list of one stage
MAX_NAMES = 1 << 20  # bytes of the list of the operation's files
MAX_MESSAGE = 64 << 10  # bytes
_KINDS = (  # first match wins: a stopped rebase also leaves CHERRY_PICK_HEAD
    ("rebase-merge", "rebase"), ("rebase-apply", "rebase"), ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert"), ("BISECT_LOG", "bisect"),
    ("sequencer", "cherry-pick"),  # between two of several: it has no head
)  # fmt: skip
HEADS = {"merge": "MERGE_HEAD", "cherry-pick": "CHERRY_PICK_HEAD", "revert": "REVERT_HEAD"}
STAGES = ("1", "2", "3")


@dataclass(frozen=True)
class Operation:
    """`kind`: as git calls it; nothing when only paths are in conflict. `heads`: the commits it is about. `worktree`,
    `index`: trees of all files, and of what is staged and not in conflict. `stages`: by path, what is in conflict.
    `later`: commits that a cherry-pick or revert of several has still to take.
    """

    kind: str
    state: Oid
    heads: tuple[Oid, ...]
    worktree: Oid
    index: Oid
    stages: dict[bytes, dict[str, Entry]]
    message: bytes
    mode: bytes
    later: tuple[Oid, ...] = ()

    @property
    def unmerged(self) -> tuple[str, ...]:
        return shown(self.stages)


def in_progress(kind: str | None) -> str:
    """Of what kind, in words."""
    return f"{'an' if kind == 'am' else 'a'} {kind} is in progress" if kind else "paths are in conflict"


def load(repo: Repository, refs: SandboxRefs, head: Oid | None, wip: Oid | None) -> Operation | None:
    """What is in progress in the sandbox whose HEAD and uncommitted work are `head` and `wip`; None: nothing, or it was
    ended inside since.
    """
    state = repo.resolve(f"{refs.other('operation/state')}^{{commit}}")
    if state is None:
        return None
    git = repo.git
    worktree, index = (repo.resolve(f"{state}:{name}") for name in ("worktree", "0"))
    parents = git.line("rev-list", "--parents", "--max-count=1", state).split()[1:]
    if worktree is None or index is None or parents != [parent for parent in (head,) if parent]:
        return None
    if worktree != tree_of(git, wip or head):
        return None
    listed = git.try_run("ls-tree", "--name-only", "-z", f"{state}:git", output=MAX_NAMES).stdout.split(b"\0")
    kind = next((kind for name, kind in _KINDS if name.encode() in listed), "")
    kind = "am" if kind == "rebase" and repo.resolve(f"{state}:git/rebase-apply/applying") else kind
    named = _small(git, state, HEADS[kind]).decode("ascii", "replace").split() if kind in HEADS else []
    heads = [repo.resolve(f"{name}^{{commit}}") for name in named if re.fullmatch("[0-9a-f]{40,64}", name)]
    return Operation(
        kind, state, tuple(commit for commit in heads if commit), worktree, index, _stages(git, state),
        _small(git, state, "MERGE_MSG"), _small(git, state, "MERGE_MODE"), _later(repo, state),
    )  # fmt: skip


def _small(git: Git, state: Oid, name: str) -> bytes:
    size = git.try_run("cat-file", "-s", f"{state}:git/{name}")
    if size.returncode != 0 or int(size.text) > MAX_MESSAGE:
        return b""
    return git.run("cat-file", "blob", f"{state}:git/{name}")


def _stages(git: Git, state: Oid) -> dict[bytes, dict[str, Entry]]:
    stages: dict[bytes, dict[str, Entry]] = {}
    for stage in STAGES:
        listed = git.try_run("ls-tree", "-r", "-z", "--full-tree", f"{state}:{stage}", output=MAX_STAGES)
        for row in listed.stdout.split(b"\0")[:-1] if listed.returncode == 0 else ():
            words, path = row.split(b"\t", 1)
            mode, _, name = words.decode("ascii").split(" ")
            stages.setdefault(path, {})[stage] = Entry(mode, oid(name))
    return stages


def _later(repo: Repository, state: Oid) -> tuple[Oid, ...]:
    todo = text(_small(repo.git, state, "sequencer/todo"))
    rows = re.findall(r"^(?:pick|p|revert) ([0-9a-f]{4,64})\b", todo, re.MULTILINE)
    oids = [repo.resolve(f"{name}^{{commit}}") for name in rows[1:100]]
    return tuple(oid for oid in oids if oid)
