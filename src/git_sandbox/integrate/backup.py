"""The checkout before a merge, as a commit under `refs/sandbox-backup/<id>/<n>`.

Its tree is the whole worktree, its parents are HEAD, a commit of the index, and a commit of what the merge left
on disk at the paths it touched. The message says the rest, so that `undo` needs nothing but the ref.
"""

from __future__ import annotations

import os
from urllib.parse import quote, unquote_to_bytes

from git_sandbox.errors import IntegrateError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, RefName, SandboxId, SandboxRefs, oid
from git_sandbox.git.repo import Head, Repository
from git_sandbox.git.snapshot import commit_tree
from git_sandbox.later import dataclass

_SUBJECT = "sandbox: the checkout before a merge"


@dataclass(frozen=True)
class Backup:
    before: Head  # where HEAD was
    result: Oid  # the commit HEAD was to become
    disk: Oid  # tree: the worktree before, ignored files that the merge touches included
    index: Oid  # tree: the index before
    left: Oid  # tree: what the merge leaves on disk, at the paths it touches only


def save(repo: Repository, sandbox: SandboxId, backup: Backup) -> RefName:
    """Store `backup` under the next free number; never replaces an older one."""
    git = repo.git
    staged, left = (commit_tree(git, tree, (), _SUBJECT) for tree in (backup.index, backup.left))
    parents = [parent for parent in (backup.before.commit, staged, left) if parent]
    # A branch may have any bytes in its name, and git rewrites a message that is not UTF-8.
    symref = quote(os.fsencode(backup.before.symref or "none"), safe="/")
    fields = {
        "before": backup.before.commit or "none", "symref": symref,
        "result": backup.result, "index": backup.index, "left": backup.left,
    }  # fmt: skip
    lines = "".join(f"{key} {value}\n" for key, value in fields.items())
    commit = commit_tree(git, backup.disk, parents, f"{_SUBJECT}\n\n{lines}")
    name = SandboxRefs(sandbox).backup(max(_numbers(repo, sandbox), default=0) + 1)
    git.run("update-ref", "-m", _SUBJECT, name, commit, "0" * len(commit))
    return name


def saved(repo: Repository, sandbox: SandboxId) -> list[tuple[RefName, Backup]]:
    """All backups of one sandbox, newest first. Raises IntegrateError when one was not written by us."""
    names = [SandboxRefs(sandbox).backup(number) for number in sorted(_numbers(repo, sandbox), reverse=True)]
    return [(name, _load(repo.git, name)) for name in names]


def _numbers(repo: Repository, sandbox: SandboxId) -> list[int]:
    tails = (name.rsplit("/", 1)[1] for name in repo.refs(f"refs/sandbox-backup/{sandbox}"))
    return [int(tail) for tail in tails if tail.isdecimal()]


def _load(git: Git, name: RefName) -> Backup:
    header, _, message = git.line("cat-file", "commit", name).partition("\n\n")
    fields = dict(line.partition(" ")[::2] for line in message.splitlines())
    try:
        commit, symref = fields["before"], os.fsdecode(unquote_to_bytes(fields["symref"]))
        return Backup(
            Head(None if symref == "none" else symref, None if commit == "none" else oid(commit)),
            oid(fields["result"]),
            oid(header.split("\n", 1)[0].removeprefix("tree ")),
            oid(fields["index"]),
            oid(fields["left"]),
        )
    except (KeyError, ValueError) as error:
        raise IntegrateError(f"`{name}` is not a backup made by git-sandbox", cause=str(error)) from None
