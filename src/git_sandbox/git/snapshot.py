"""The state of a worktree as a git tree, taken without touching the index, HEAD or any file.

`git stash create` cannot do this: it leaves out untracked files, and fails on an unborn HEAD, during a conflict
and with an intent-to-add entry.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from git_sandbox import process
from git_sandbox.background import Beside
from git_sandbox.errors import RepositoryError
from git_sandbox.git import large
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from git_sandbox.guest import stage
from git_sandbox.guest.stage import Choose, Staged
from git_sandbox.later import dataclass
from git_sandbox.text import listed, one_line, printable

_US = "git-sandbox"
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", _US), ("EMAIL", "git-sandbox@localhost"))
}
# A copied file keeps size and modification time but not inode and change time: without these two settings git
# would read every file of the copy again.
_BELIEVE_COPIED_STAT = (("core.checkStat", "minimal"), ("core.trustctime", "false"))
_NO_OBJECT = re.compile(rb" 0{40,64} [0-3]\t")
_LOOK_YOURSELF = (("core.untrackedCache", "false"),)


@dataclass(frozen=True)
class Snapshot:
    """`tree`: what the worktree holds, untracked files included, ignored ones not. `index_tree`: what is staged;
    None while paths are unmerged, because a tree cannot say that, or when the index is damaged.

    `apart`: paths that `tree` has as the index has them, because they are large; `warnings`: what else it does not hold
    as `git add` would, safe to show.
    """

    tree: Oid
    index_tree: Oid | None
    apart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def take(git: Git, index: Path, scratch: Path, *, copied: bool = False, choose: Choose | None = None) -> Snapshot:
    """Write the worktree of `git` as a tree into its object store.

    `index` may be absent (nothing staged yet). `scratch` is a directory of ours for the temporary index. `copied`
    says that the worktree is a file-level copy of the one `index` was made for. What cannot be read keeps what the
    index says about it, and what git cannot convert goes in as raw bytes. `choose`: see `stage.stage`; without it large
    untracked files are left out. Raises RepositoryError when git cannot write objects.
    """
    private = _configured(git, (*_LOOK_YOURSELF, *(_BELIEVE_COPIED_STAT if copied else ())))
    place = _copy(index, scratch)
    private = private.with_env(GIT_INDEX_FILE=str(place))
    plain = without_filters(private)
    rows, writing, damage = _read(plain, place)
    damage = damage or (_unsound(plain) if _NO_OBJECT.search(rows) else ())  # git would write no index with one
    unusual = _unusual(rows)
    staged = None if damage or any(tag in b"Mm" for tag, _ in unusual) else _staged(writing)
    _unhide(plain, unusual)
    choose = choose or large.chooser(git.worktree or git.git_dir, changed=False)
    filled = _fill(private, plain, choose)
    try:
        tree = staged if staged and filled.same and not unusual else _write_tree(plain)
    except RepositoryError:  # an entry that the cached trees of the index hid
        damage = _unsound(plain)
        filled = _fill(private, plain, choose)
        tree, staged = _write_tree(plain), None
    return Snapshot(tree, staged, tuple(map(os.fsdecode, filled.apart)), (*damage, *_described(filled)))


def _read(git: Git, place: Path) -> tuple[bytes, Beside[Oid], tuple[str, ...]]:
    """Its rows, its tree in the making, and what was wrong with it. HEAD takes the place of an index that cannot be
    used.
    """
    damage: tuple[str, ...] = ()
    if place.exists() and not stage.whole_index(place):
        damage = _mended(git, place, "its checksum is wrong")
    rows, writing = _listed(git)
    if rows.returncode and place.exists():
        damage = _mended(git, place, rows.complaint)
        rows, writing = _listed(git)
    if rows.returncode:
        raise _unwritten(rows.complaint)
    return rows.stdout, writing, damage


def _listed(git: Git) -> tuple[process.Completed, Beside[Oid]]:
    writing = Beside(lambda: _write_tree(git))
    rows = git.try_run("ls-files", "-s", "-v", "-z")
    writing.wait()
    return rows, writing


def _mended(git: Git, place: Path, why: str) -> tuple[str, ...]:
    place.unlink()
    git.try_run("read-tree", "HEAD")  # with an unborn HEAD: no index
    return (f"the index is damaged ({one_line(why)}): HEAD is used instead",)


def _unsound(git: Git) -> tuple[str, ...]:
    """Take entries that no tree can hold out of the copy of the index."""
    gone = [os.fsdecode(path) for path in stage.drop_unsound(partial(_ask, git, git))]
    return (f"the index has entries that cannot be committed: {listed(gone)}",) if gone else ()


def _staged(writing: Beside[Oid]) -> Oid | None:
    """The tree of the index, if it is one."""
    try:
        return writing.result()
    except RepositoryError as error:
        if any(sign in error.cause.encode() for sign in stage.CANNOT_WRITE):
            raise _unwritten(error.cause) from error
        return None


def _fill(git: Git, plain: Git, choose: Choose) -> Staged:
    top = os.fsencode(git.worktree or git.git_dir)
    try:
        return stage.stage(partial(_ask, git, plain), top, dict(git.env)["GIT_INDEX_FILE"], choose)
    except stage.StageError as error:
        raise _unwritten(str(error)) from error


def _unwritten(why: str) -> RepositoryError:
    return RepositoryError("the worktree could not be captured", cause=printable(why, limit=2000))


def _ask(git: Git, plain: Git, *args: str, input: bytes = b"", filters: bool = False) -> process.Completed:
    return (git if filters else plain).try_run(*args, input=input)


def _described(staged: Staged) -> Iterator[str]:
    if staged.raw:
        names = listed(list(map(os.fsdecode, staged.raw)))
        yield f"git cannot convert {names}: `sandbox diff` shows their content as it is on disk"
    reasons: dict[str, list[str]] = {}
    for path, why in staged.left_out.items():
        if why != stage.NO_COMMIT:
            reasons.setdefault(why, []).append(os.fsdecode(path))
    for why, paths in reasons.items():
        yield f"not compared at the end, because {why}: {listed(paths)}"


def without_filters(git: Git) -> Git:
    """`git` with every filter program of its configuration turned off.

    A repository inside the worktree may have come out of an archive, with a configuration nobody has looked at, and
    git in the outer one would never run its programs.
    """
    done = git.try_run("config", "--name-only", "-z", "--get-regexp", r"^filter\..*\.(clean|smudge|process|required)$")
    names = {os.fsdecode(key).split(".", 1)[1].rsplit(".", 1)[0] for key in done.stdout.split(b"\0") if key}
    off = [(f"filter.{name}.{key}", "") for name in sorted(names) for key in ("process", "clean", "smudge")]
    off += [(f"filter.{name}.required", "false") for name in sorted(names)]
    return _configured(git, off)


def _configured(git: Git, pairs: Sequence[tuple[str, str]]) -> Git:
    """`git` with more settings, by environment: unlike `-c` this takes names with `=` in them."""
    start = int(git.environment().get("GIT_CONFIG_COUNT", "") or "0")
    variables = {"GIT_CONFIG_COUNT": str(start + len(pairs))}
    for number, (key, value) in enumerate(pairs, start):
        variables |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return git.with_env(**variables)


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
    if index.is_file():
        shutil.copy2(index, target)  # with its time: git compares it with the files' times to find racy edits
    elif index.exists():  # a directory, a FIFO, a device without an end: as damaged as one that is empty
        target.touch()
    return target


def _write_tree(git: Git) -> Oid:
    # --missing-ok: a partial clone lacks blobs that nobody changed, and must not go to the network for them.
    return oid(git.line("write-tree", "--missing-ok"))


def _unusual(rows: bytes) -> list[tuple[bytes, bytes]]:
    """Tags and paths of `ls-files -s -v -z` that are not plainly in the index: unmerged, or hidden from git's eyes."""
    if rows.count(b"\0") == rows.count(b"\0H ") + rows.startswith(b"H "):
        return []
    return [(row[:1], row.split(b"\t", 1)[1]) for row in rows.split(b"\0")[:-1] if not row.startswith(b"H ")]


def _unhide(git: Git, unusual: Sequence[tuple[bytes, bytes]]) -> None:
    """Make `add` look at files the user told git to look away from: their content is state all the same."""
    top = git.worktree or git.git_dir
    assumed = [path for tag, path in unusual if tag.islower()]
    skipped = [path for tag, path in unusual if tag in b"Ss" and os.path.lexists(top / os.fsdecode(path))]
    for flag, paths in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
        if paths:
            git.run("update-index", flag, "-z", "--stdin", input=b"".join(path + b"\0" for path in paths))
