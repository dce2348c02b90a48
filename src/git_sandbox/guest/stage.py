"""Stages every file of a worktree in a temporary index, however odd some of them are.

`git add -A` is all or nothing: one filter that fails, one encoding that does not fit, and it ends. Here such a file
goes in as raw bytes, and one that cannot even be read is named. Host and guest use the same code, so that a worktree
that nobody touched gives the same tree on both sides. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

# Then nothing can be written at all, and no single file is to blame.
CANNOT_WRITE = (
    b"unable to create temporary", b"unable to write", b"insufficient permission", b"No space left", b"quota exceeded",
    b"Read-only file system", b"failed to insert", b"unable to create '", b"index.lock",
)  # fmt: skip
FUTURE = 4102444800  # seconds since 1970, the year 2100: no file is younger than an index of then
UNREADABLE = "it cannot be read"
SPECIAL = "it is neither a file nor a link"
UNNAMED = "git does not take its name"
NO_COMMIT = "it is a repository without a commit"
REFUSED = "git does not take it"
_NOT_OPENED = re.compile(rb"warning: could not open directory '(.*)': ", re.DOTALL)
_CUT_OFF = re.compile(rb"warning: could not open directory '([^']{,1000})/", re.DOTALL)  # git's lines have an end
_FAILED = re.compile(rb"fatal: Unable to process path (.*)", re.DOTALL)
_ROW = "--format=%(objectmode) %(objectname) %(stage)%x09%(path)"
_NULL = re.compile(rb"0+")
# A path that differs in case only is another path, whatever the user's configuration says of his file system; and a
# name that is `.git` on some file system would make fsck turn the whole tree down, so git is not to take it.
EXACT = (
    "-c", "core.ignoreCase=false", "-c", "core.precomposeUnicode=false", "-c", "core.protectHFS=true",
    "-c", "core.protectNTFS=true",
)  # fmt: skip


class Answer(Protocol):
    """What a program said: `subprocess.CompletedProcess` is one."""

    @property
    def returncode(self) -> int: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...


class Ask(Protocol):
    """Runs git on the worktree and the temporary index; returns whatever the exit status is.

    `filters`: with the programs the user's configuration names. Only where content is taken: every command that reads
    an index may look at racily clean files, and a filter that dies then would cost all of it.
    """

    def __call__(self, *args: str, input: bytes = b"", filters: bool = False) -> Answer: ...


Choose = Callable[[Sequence[bytes], Sequence[bytes]], Collection[bytes]]


class StageError(Exception):
    """No single file is to blame: the disk is full, the object store is not ours, or git does not work here."""


@dataclass
class Staged:
    """Paths relative to the worktree. `raw`: went in as the bytes they are, where git's own conversion fails.
    `left_out`: path to why the index has not got its content. `apart`: left as the index has them, on request.
    """

    raw: list[bytes] = field(default_factory=list)
    left_out: dict[bytes, str] = field(default_factory=dict)
    apart: list[bytes] = field(default_factory=list)
    same: bool = False  # nothing was to be done: the index is as it was


def nothing(_untracked: Sequence[bytes], _modified: Sequence[bytes]) -> Collection[bytes]:
    return ()


def stage(ask: Ask, top: bytes, index: str, choose: Choose = nothing) -> Staged:
    """Put everything that is not ignored into the file `index`, as `git add -A` would if it could.

    `choose(untracked, modified)` says which paths to leave as the index has them. Raises StageError.
    """
    staged = Staged()
    untracked = _others(ask, staged)
    rows = [row.split(b"\t", 1) for row in _listed(ask(*EXACT, "ls-files", "-m", "-z", _ROW))]
    modified = {path: head for head, path in rows}  # several for a path in conflict
    apart = set(choose(untracked, list(modified)))
    staged.apart = sorted(apart)
    sound = list(_sound(top, (path for path in (*modified, *untracked) if path not in apart), staged))
    work = _Work(ask, top, index, staged)
    doubted = [b"%s\t%s\0" % (head, path) for path, head in modified.items() if head.endswith(b" 0")]
    staged.same = not (sound or doubted)
    work.doubt(doubted)
    unnamed = _batch(work, sound)
    if unnamed:
        known = {*apart, *staged.left_out}
        staged.left_out |= {path: UNNAMED for path in _others(ask, staged) if path not in known}
    return staged


def _others(ask: Ask, staged: Staged) -> list[bytes]:
    """Untracked files, and untracked repositories, whose paths git ends with a slash."""
    done = ask(*EXACT, "ls-files", "-o", "-z", "--exclude-standard")
    for line in done.stderr.splitlines():
        if closed := _NOT_OPENED.match(line) or _CUT_OFF.match(line):
            staged.left_out[closed[1].rstrip(b"/")] = UNREADABLE
    return [path.rstrip(b"/") for path in _listed(done)]


def _sound(top: bytes, paths: Iterable[bytes], staged: Staged) -> Iterator[bytes]:
    """Those that git can be asked to take; the others are noted. What is gone is sound: its entry goes."""
    for path in paths:
        why = obstacle(os.path.join(top, path))  # noqa: PTH118 - bytes
        if why:
            staged.left_out[path] = why
        else:
            yield path


def obstacle(full: bytes) -> str:
    """Why git cannot take the file `full`; nothing where it can, or where there is none."""
    try:
        seen = os.lstat(full)
    except OSError:
        return ""
    if stat.S_ISREG(seen.st_mode):
        return "" if os.access(full, os.R_OK, effective_ids=True) else UNREADABLE
    return "" if stat.S_ISLNK(seen.st_mode) or stat.S_ISDIR(seen.st_mode) else SPECIAL


@dataclass(frozen=True)
class _Work:
    ask: Ask
    top: bytes
    index: str
    staged: Staged

    def update(self, *options: str, input: bytes, filters: bool = False) -> Answer:
        """Change the index. What it has is believed: git would read every file again that is as young as the index, and
        a filter that dies of one of those would cost all others.
        """
        if os.path.exists(self.index):  # noqa: PTH110 - a string
            os.utime(self.index, (FUTURE, FUTURE))
        return self.ask(*EXACT, "update-index", *options, input=input, filters=filters)

    def doubt(self, rows: Iterable[bytes]) -> None:
        """Forget what the index knows of these files: none of them may pass for unchanged because it is so young."""
        if lines := b"".join(rows):
            self.update("-z", "--index-info", input=lines)


def _batch(work: _Work, paths: Sequence[bytes]) -> bool:
    """Take `paths`, or as many of them as can be. True when git passed over some because of their names."""
    if not paths:
        return False
    words = ("--add", "--remove", "--replace", "-z", "--stdin")
    done = work.update(*words, input=b"".join(path + b"\0" for path in paths), filters=True)
    if done.returncode == 0:
        return b"Ignoring path" in done.stderr
    if any(sign in done.stderr for sign in CANNOT_WRITE):
        raise StageError(_complaint(done))
    if len(paths) == 1:
        _alone(work, paths[0])
        return False
    ignoring = [_batch(work, part) for part in _parts(paths, done.stderr)]
    return any(ignoring)


def _parts(paths: Sequence[bytes], complaint: bytes) -> list[Sequence[bytes]]:
    """Around the one that git names, or in halves."""
    named = _FAILED.search(complaint)
    at = next((number for number, path in enumerate(paths) if named and path == named[1].removesuffix(b"\n")), None)
    middle = len(paths) // 2
    return [paths[:middle], paths[middle:]] if at is None else [paths[:at], paths[at : at + 1], paths[at + 1 :]]


def _alone(work: _Work, path: bytes) -> None:
    """A file that git does not convert, as it is."""
    full = os.path.join(work.top, path)  # noqa: PTH118 - bytes
    mode = os.lstat(full).st_mode if os.path.lexists(full) else 0
    if not stat.S_ISREG(mode):
        work.staged.left_out[path] = NO_COMMIT if stat.S_ISDIR(mode) else REFUSED
        return
    answer = work.ask("hash-object", "-w", "--no-filters", "--", os.fsdecode(path))
    kind = b"100755" if mode & stat.S_IXUSR else b"100644"
    row = b"%s %s\t%s\0" % (kind, answer.stdout.strip(), path)
    if answer.returncode == 0 and work.update("--add", "--replace", "-z", "--index-info", input=row).returncode == 0:
        work.staged.raw.append(path)
    else:
        work.staged.left_out[path] = REFUSED


def drop_unsound(ask: Ask) -> list[bytes]:
    """Remove entries that no tree can hold: without an object's name, or a file where others need a directory. Their
    files, where there are any, come back with `stage`. The paths that were removed.
    """
    rows = [row.split(b"\t", 1) for row in _rows(ask("ls-files", "-s", "-z"))]
    paths = {path for _, path in rows}
    entries = [(path, head.split(b" ")[1]) for head, path in rows]
    bad = {path: name for path, name in entries if _NULL.fullmatch(name) or _below_a_file(path, paths)}
    if bad:
        lines = b"".join(b"0 %s\t%s\0" % (b"0" * len(name), path) for path, name in bad.items())
        ask("update-index", "-z", "--index-info", input=lines)
    return list(bad)


def _below_a_file(path: bytes, paths: Collection[bytes]) -> bool:
    parts = path.split(b"/")
    return any(b"/".join(parts[:depth]) in paths for depth in range(1, len(parts)))


def whole_index(path: str | os.PathLike[str]) -> bool:
    """Whether an index file is as git wrote it. Git itself does not look, and makes what it can of half a one."""
    with open(path, "rb") as file:  # noqa: PTH123 - also without pathlib
        raw = file.read()
    if not raw.startswith(b"DIRC"):
        return False
    ends = [(raw[-size:], kind(raw[:-size]).digest()) for size, kind in ((20, _sha1), (32, hashlib.sha256))]
    return any(end == digest for end, digest in ends) or not any(raw[-20:])  # zeros: `index.skipHash`


def _sha1(raw: bytes) -> hashlib._Hash:
    return hashlib.sha1(raw, usedforsecurity=False)


def _listed(done: Answer) -> list[bytes]:
    if done.returncode:
        raise StageError(_complaint(done))
    return _rows(done)


def _complaint(done: Answer) -> str:
    return done.stderr[-2000:].decode("utf-8", "replace").strip() or f"git: exit status {done.returncode}"


def _rows(done: Answer) -> list[bytes]:
    return [row for row in done.stdout.split(b"\0") if row]
