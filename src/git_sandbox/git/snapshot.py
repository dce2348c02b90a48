"""The state of a worktree as a git tree, taken without touching the index, HEAD or any file.

`git stash create` cannot do this: it leaves out untracked files, and fails on an unborn HEAD, during a conflict
and with an intent-to-add entry.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.beside import Beside
from git_sandbox.errors import RepositoryError
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.text import printable

_US = "git-sandbox"
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", _US), ("EMAIL", "git-sandbox@localhost"))
}
# A copied file keeps size and modification time but not inode and change time: without these two settings git
# would read every file of the copy again.
_BELIEVE_COPIED_STAT = (("core.checkStat", "minimal"), ("core.trustctime", "false"))
_LOOK_YOURSELF = (("core.untrackedCache", "false"),)
_FILTERS = "`git status` needs that filter, too: install its program, or turn it off with `git config`"
# With --ignore-errors git passes over these like over an unreadable file, and the capture would lack changed files.
_CANNOT_WRITE = (
    b"unable to create temporary", b"unable to write", b"insufficient permission", b"No space left", b"quota exceeded",
    b"Read-only file system", b"failed to insert",
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """`tree`: what the worktree holds, untracked files included, ignored ones not. `index_tree`: what is staged;
    None while paths are unmerged, because a tree cannot say that.
    """

    tree: Oid
    index_tree: Oid | None


def take(git: Git, index: Path, scratch: Path, *, copied: bool = False) -> Snapshot:
    """Write the worktree of `git` as a tree into its object store.

    `index` may be absent (nothing staged yet). `scratch` is a directory of ours for the temporary index. `copied`
    says that the worktree is a file-level copy of the one `index` was made for. A file that cannot be read keeps
    what the index says about it. Raises RepositoryError when git cannot read the index or write objects.
    """
    private = _configured(git, (*_LOOK_YOURSELF, *(_BELIEVE_COPIED_STAT if copied else ())))
    private = private.with_env(GIT_INDEX_FILE=str(_copy(index, scratch)))
    writing = Beside(lambda: _write_tree(private))
    unusual = _unusual(private.run("ls-files", "-v", "-z"))
    writing.wait()
    staged = None if any(tag in b"Mm" for tag, _ in unusual) else writing.result()
    _unhide(private, unusual)
    # An embedded repository without a commit makes a plain `add -A` give up before adding anything.
    done = private.try_run("add", "-A", "--sparse", "--ignore-errors")
    if done.returncode not in (0, 1) or any(sign in done.stderr for sign in _CANNOT_WRITE):
        raise RepositoryError(
            "the worktree could not be captured",
            cause=printable(done.complaint, limit=2000),
            hint=_FILTERS if b"filter" in done.stderr else "",
        )
    return Snapshot(_write_tree(private), staged)


def without_filters(git: Git) -> Git:
    """`git` with every filter program of its configuration turned off.

    A repository inside the worktree may have come out of an archive, with a configuration nobody has looked at, and
    git in the outer one would never run its programs.
    """
    listed = git.try_run(
        "config", "--name-only", "-z", "--get-regexp", r"^filter\..*\.(clean|smudge|process|required)$"
    )
    names = {os.fsdecode(key).split(".", 1)[1].rsplit(".", 1)[0] for key in listed.stdout.split(b"\0") if key}
    off = [(f"filter.{name}.{key}", "") for name in sorted(names) for key in ("process", "clean", "smudge")]
    off += [(f"filter.{name}.required", "false") for name in sorted(names)]
    return _configured(git, off)


def _configured(git: Git, pairs: Sequence[tuple[str, str]]) -> Git:
    """`git` with more settings, by environment: unlike `-c` this takes names with `=` in them."""
    start = int(dict(git.env).get("GIT_CONFIG_COUNT", "0"))
    made = {"GIT_CONFIG_COUNT": str(start + len(pairs))}
    for number, (key, value) in enumerate(pairs, start):
        made |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return git.with_env(**made)


def commit(git: Git, snapshot: Snapshot, parents: Sequence[Oid], message: str) -> Oid:
    """A commit of the snapshot's tree by the tool itself; no hook, no signature."""
    return commit_tree(git, snapshot.tree, parents, message)


def commit_tree(git: Git, tree: Oid, parents: Sequence[Oid], message: str) -> Oid:
    """A commit of `tree` by the tool itself; no hook, no signature."""
    words = [word for parent in parents for word in ("-p", parent)]
    return oid(git.with_env(**_IDENTITY).line("commit-tree", tree, *words, input=message.encode()))


def _copy(index: Path, scratch: Path) -> Path:
    target = scratch / "snapshot-index"
    target.unlink(missing_ok=True)
    if index.exists():
        shutil.copy2(index, target)  # with its time: git compares it with the files' times to find racy edits
    return target


def _write_tree(git: Git) -> Oid:
    # --missing-ok: a partial clone lacks blobs that nobody changed, and must not go to the network for them.
    return oid(git.line("write-tree", "--missing-ok"))


def _unusual(listed: bytes) -> list[tuple[bytes, bytes]]:
    """Tags and paths of `ls-files -v -z` that are not plainly in the index: unmerged, or hidden from git's eyes."""
    if listed.count(b"\0") == listed.count(b"\0H ") + listed.startswith(b"H "):
        return []
    return [(row[:1], row[2:]) for row in listed.split(b"\0")[:-1] if not row.startswith(b"H ")]


def _unhide(git: Git, unusual: Sequence[tuple[bytes, bytes]]) -> None:
    """Make `add` look at files the user told git to look away from: their content is state all the same."""
    top = git.worktree or git.git_dir
    assumed = [path for tag, path in unusual if tag.islower()]
    skipped = [path for tag, path in unusual if tag in b"Ss" and os.path.lexists(top / os.fsdecode(path))]
    for flag, paths in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
        if paths:
            git.run("update-index", flag, "-z", "--stdin", input=b"".join(path + b"\0" for path in paths))
