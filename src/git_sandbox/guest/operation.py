"""A merge, cherry-pick, rebase and the like in progress: what is needed to continue it elsewhere.

It comes home as refs below `refs/operation/`: the commits that it is about, and `state`, a commit on HEAD whose tree
has

    git/NAME        the operation's own files in the git directory, as far as they are small
    worktree        the tree of all files, as in the commit of the uncommitted work
    0 1 2 3         the stages of the index, a tree each; 1 to 3 only where paths are in conflict
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from git_sandbox.guest import protocol
from git_sandbox.guest.repository import ExportError, Repo, text
from git_sandbox.guest.scratch import Scratch
from git_sandbox.guest.uncommitted import commit

HEADS = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")
FILES = (*HEADS, "MERGE_MSG", "MERGE_MODE", "SQUASH_MSG", "AUTO_MERGE", "REBASE_HEAD", "BISECT_LOG", "BISECT_TERMS")
FOLDERS = ("rebase-merge", "rebase-apply", "sequencer")
MAX_FILE = 1 << 20  # bytes
MAX_FILES = 1000
NO_DATE = "@0 +0000"  # the same state is the same commit each time


def refs(
    repo: Repo, scratch: Scratch, head: str | None, worktree: str | None, known: list[str]
) -> tuple[list[dict[str, str | None]], list[str]]:
    """The refs, and the paths in conflict. Call it only while there is an operation, or where paths may be in conflict.

    What cannot be had is said, and holds up nothing.
    """
    try:
        rows = _rows(repo)
        unmerged = list(dict.fromkeys(text(path) for _, stage, path in rows if stage != b"0"))
        listed = [{"name": f"refs/operation/{name}", "oid": oid} for name, oid in _heads(repo) if oid not in known]
        if worktree:
            listed.append({"name": "refs/operation/state", "oid": _state(repo, scratch, head, worktree, rows)})
    except (ExportError, OSError) as error:
        repo.warn(f"the operation in progress cannot be read: {error}")
        return [], []
    return [dict(row) for row in listed], unmerged[: protocol.MAX_ROWS]


def _rows(repo: Repo) -> list[tuple[bytes, bytes, bytes]]:
    """(mode and object, stage, path) of every entry of the index."""
    rows = [row.split(b"\t", 1) for row in repo.git("ls-files", "-s", "-z").split(b"\0") if row]
    return [(words[:-2], words[-1:], path) for words, path in rows]


def _heads(repo: Repo) -> list[tuple[str, str]]:
    """Commits that the operation is about, by the name of the file that says so; an octopus has several."""
    files = []
    for name in HEADS:
        for number, oid in enumerate(text(_content(repo.real_dir / name) or b"").split()[:100]):
            if re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", oid) and repo.present([oid]):
                files.append((f"{name}-{number + 1}" if number else name, oid))
    return files


def _content(path: Path) -> bytes | None:
    if not path.is_file() or path.stat().st_size > MAX_FILE:
        return None
    return path.read_bytes()[:MAX_FILE]


def _state(
    repo: Repo, scratch: Scratch, head: str | None, worktree: str, rows: list[tuple[bytes, bytes, bytes]]
) -> str:
    place = scratch.directory("operation")
    parts = {name: _stage(repo, place, rows, name) for name in ("0", "1", "2", "3")}
    parts |= {"worktree": worktree, "git": _files(repo, place)}
    listed = "".join(f"040000 tree {oid}\t{name}\n" for name, oid in parts.items() if oid)
    repo.commit_date, date = NO_DATE, repo.commit_date
    try:
        tree = text(repo.git("mktree", "--missing", input=listed.encode())).strip()
        return commit(repo, tree, [head] if head else [], "sandbox: operation in progress")
    finally:
        repo.commit_date = date


def _stage(repo: Repo, place: Path, rows: list[tuple[bytes, bytes, bytes]], stage: str) -> str | None:
    lines = [words + b" 0\t" + path + b"\0" for words, number, path in rows if number == stage.encode()]
    return _tree(repo, place, lines) if lines or stage == "0" else None


def _files(repo: Repo, place: Path) -> str | None:
    below = [path for name in FOLDERS for path in sorted((repo.real_dir / name).rglob("*")) if not path.is_symlink()]
    paths = [*(repo.real_dir / name for name in FILES), *below][:MAX_FILES]
    lines = []
    for path in paths:
        content = None if path.is_symlink() else _content(path)
        if content is not None:
            oid = repo.git("hash-object", "-w", "--stdin", input=content).strip()
            lines.append(b"100644 " + oid + b" 0\t" + os.fsencode(path.relative_to(repo.real_dir)) + b"\0")
    return _tree(repo, place, lines) if lines else None


def _tree(repo: Repo, place: Path, lines: list[bytes]) -> str | None:
    """A tree of entries as `update-index --index-info` takes them."""
    index = place / "index"
    index.unlink(missing_ok=True)
    env = {"GIT_INDEX_FILE": str(index)}
    done = repo.ask("update-index", "-z", "--index-info", input=b"".join(lines), env=env)
    process = repo.ask("write-tree", "--missing-ok", env=env)
    if done.returncode or process.returncode:
        raise ExportError("its stages could not be written")
    return text(process.stdout).strip()
