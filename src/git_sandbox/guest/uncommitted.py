"""What is not committed, as a commit. HEAD, index and worktree stay as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from git_sandbox.guest import large
from git_sandbox.guest.history import WORKTREE
from git_sandbox.guest.repository import Asked, ExportError, Repo, complaint, text

MAGIC = ":(top,exclude,literal)"
MAX_LEFT_OUT = 500  # files, the largest; they are arguments
MAX_POINTER = 4096 + 16  # bytes of a worktree's `gitdir`; a path has at most PATH_MAX


class TemporaryIndex:
    """A copy of the index to work on. Beside the real one: a split index finds its shared part by directory."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.path = repo.git_dir / f"sandbox-index-{os.getpid()}"
        self.env = {"GIT_INDEX_FILE": str(self.path)}
        # A required filter that fails is fatal, and all would be lost. Not required, it leaves the file as it is.
        self._lenient = [word for key in repo.required_filters for word in ("-c", f"{key}=false")]
        self._lacking = ("--missing-ok",) if repo.partial else ()
        # An empty command is none.
        self._none = [*self._lenient, *(word for key in repo.filters for word in ("-c", f"{key}="))]

    def __enter__(self) -> Self:
        index = self.repo.git_dir / "index"
        if index.exists():
            shutil.copy2(index, self.path)  # with its time stamp, by which git tells racily clean entries
        return self

    def __exit__(self, *_: object) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_name(f"{self.path.name}.lock").unlink(missing_ok=True)

    def ask(self, *args: str, input: bytes = b"", filters: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Filters only for `add`: every command that writes an index reads racily clean files again, and a filter's
        process that dies then would cost all of it. Without them such a file is only marked as one to look at.
        """
        options = self._lenient if filters else self._none
        env = self.env | ({"GIT_LITERAL_PATHSPECS": "0"} if any(each.startswith(MAGIC) for each in args) else {})
        return self.repo.ask(*options, *args, input=input, env=env)

    def _begin(self, *args: str) -> Asked:
        return self.repo.begin(*self._none, *args, env=self.env)

    def written(self) -> tuple[int, ...]:
        """Another value whenever git has written the index: that makes a new file of it."""
        try:
            seen = self.path.stat()
        except FileNotFoundError:
            return ()
        return seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size

    def tree(self) -> str | None:
        return _tree(self._begin("write-tree", *self._lacking).answer())

    def files(self, *args: str) -> list[bytes]:
        return _rows(self.ask("ls-files", "-z", *args))

    def tree_and_marks(self) -> tuple[str | None, list[bytes]]:
        """Its tree, and every file with the mark that may hide edits of it. (`write-tree` may replace the index, which
        does not disturb who reads it.)
        """
        tree, rows = self._begin("write-tree", *self._lacking), self._begin("ls-files", "-z", "-v")
        return _tree(tree.answer()), _rows(rows.answer())


def _tree(done: subprocess.CompletedProcess[bytes]) -> str | None:
    return text(done.stdout).strip() if done.returncode == 0 else None


def _rows(done: subprocess.CompletedProcess[bytes]) -> list[bytes]:
    return [row for row in done.stdout.split(b"\0") if row]


def unhide(index: TemporaryIndex, worktree: str, marked: list[bytes]) -> None:
    """Let `add` see edits to files marked assume-unchanged, or marked skip-worktree and there all the same."""
    rows = [(row[:1], row[2:]) for row in marked]
    top = os.fsencode(worktree) + b"/"
    assumed = [path for tag, path in rows if tag.islower()]
    skipped = [path for tag, path in rows if tag in b"Ss" and os.path.lexists(top + path)]
    for option, paths in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
        if paths:
            index.ask("update-index", option, "-z", "--stdin", input=b"".join(path + b"\0" for path in paths))


def rehash_lost(index: TemporaryIndex, worktree: str) -> None:
    """Make `add` read files again whose content is gone from the object store although the index has it."""
    rows = index.files("-s")
    present = index.repo.present([text(row.split(b" ")[1]) for row in rows])
    top = os.fsencode(worktree) + b"/"
    lost = [row for row in rows if text(row.split(b" ")[1]) not in present]
    there = [row + b"\0" for row in lost if os.path.lexists(top + row.split(b"\t", 1)[1])]
    index.ask("update-index", "-z", "--index-info", input=b"".join(there))


def add_all(index: TemporaryIndex) -> None:
    """Everything that is not ignored, or as much of it as can be read."""
    words = ("add", "-A", "--sparse", "--ignore-errors", *leave_out(index))
    done = index.ask(*words, filters=True)
    if done.returncode not in (0, 1):  # a filter that runs as a process and dies is fatal, required or not
        index.repo.warn(f"git add: {complaint(done)}: without filters, files are exported as they are")
        done = index.ask(*words)
    if done.returncode or b"filter" in done.stderr:
        index.repo.warn(f"git add: {complaint(done)}")
    if done.returncode:
        notice(index)


def leave_out(index: TemporaryIndex) -> list[str]:
    """What makes `add` leave out files that are too large to come home; where that is looked at."""
    if not large.careful():
        return []
    found = large.beyond(index.repo.worktree or "", index.files("-o", "-m", "--exclude-standard"))[-MAX_LEFT_OUT:]
    for path, size in found:
        index.repo.warn(f"{text(path)} is too large ({size >> 20} MiB): not exported, it stays on the sandbox's disk")
        index.repo.left_out[text(path)] = f"it is too large ({size >> 20} MiB)"
    specs = [f"{MAGIC}{os.fsdecode(path)}" for path, _ in found]
    return ["--", ":/", *specs] if specs else []


def notice(index: TemporaryIndex) -> None:
    """Say what the tree cannot hold: files `add` left out. (Repositories inside are exported by themselves.)"""
    for path in index.files("-o", "--exclude-standard"):
        if path.endswith(b"/"):  # a repository without a commit
            continue
        index.repo.warn(f"{text(path)} could not be read: not exported")
        index.repo.left_out[text(path)] = "it cannot be read"


def commit(repo: Repo, tree: str, parents: list[str], message: str) -> str:
    """Without hooks, without signing, and also where nobody has set an identity."""
    words = ("commit-tree", tree, *(word for oid in parents for word in ("-p", oid)), "-m", message)
    env = {f"GIT_{role}_DATE": repo.commit_date for role in ("AUTHOR", "COMMITTER") if repo.commit_date}
    done = repo.ask(*words, env=env)
    if done.returncode:
        nobody = {"NAME": "git-sandbox", "EMAIL": "git-sandbox@localhost"}
        env |= {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in nobody.items()}
        done = repo.ask(*words, env=env)
    if done.returncode:
        raise ExportError(f"git commit-tree: {complaint(done)}")
    return text(done.stdout).strip()


def uncommitted(
    repo: Repo, base: str | None, base_tree: str | None = None
) -> tuple[str | None, dict[str, str | None] | None]:
    """The tree of the worktree, and (unless all is committed) a commit of it in the shape of a stash.

    `base_tree`: that of the commit `base`, where it is known.
    """
    if repo.worktree is None:
        repo.warn("the repository has no worktree: uncommitted files are not exported")
        return None, None
    repo.cwd = repo.worktree
    with TemporaryIndex(repo) as index:
        staged, marked = index.tree_and_marks()
        unhide(index, repo.worktree, marked)
        if repo.mended:
            rehash_lost(index, repo.worktree)
        before = index.written()
        add_all(index)
        tree = index.tree() if staged is None or index.written() != before else staged
    if tree is None:
        repo.warn("the uncommitted files could not be written as a tree")
        return None, None
    empty = None if base else text(repo.git("hash-object", "-t", "tree", "-w", "--stdin")).strip()
    if base:
        base_tree = base_tree or repo.line("rev-parse", f"{base}^{{tree}}")
    if (base_tree if base else empty) == tree == staged:
        return tree, None
    below = [base] if base else []
    # Without HEAD there is no first parent; then the index is kept only where the other tree does not say it already.
    apart = staged is not None and (base is not None or staged not in (tree, empty))
    second = [commit(repo, str(staged), below, "sandbox: index")] if apart else []
    wip = commit(repo, tree, [*below, *second], "sandbox: uncommitted work")
    return tree, {"oid": wip, "tree": tree, "index_tree": staged}


def elsewhere(repo: Repo) -> list[list[str]]:
    """Uncommitted work in the other worktrees of the repository, as (commit, name as if it were a ref).

    Who lets several agents work in one sandbox gives each a worktree. The same work gives the same commit each time.
    """
    found = []
    for place in sorted((repo.git_dir / "worktrees").glob("*/gitdir")):
        name = place.parent.name
        path = os.path.dirname(os.fsdecode(place.read_bytes()[:MAX_POINTER]).strip()) if place.is_file() else ""  # noqa: PTH120
        try:
            wip = _of_worktree(repo, path)
        except (ExportError, OSError) as error:
            repo.warn(
                f"{path} is another worktree and cannot be read: its uncommitted files are not exported ({error})"
            )
            continue
        if wip and WORKTREE.fullmatch(name):
            found.append([str(wip["oid"]), f"refs/worktrees/{name}/wip"])
    return found


def _of_worktree(repo: Repo, path: str) -> dict[str, str | None] | None:
    other = Repo(path)
    common = other.line("rev-parse", "--path-format=absolute", "--git-common-dir")
    if not Path(common or path).samefile(repo.git_dir):  # the repository is mounted at several places
        raise ExportError("it belongs to another repository")
    head = other.line("rev-parse", "-q", "--verify", "HEAD")
    other.commit_date = (other.line("log", "-1", "--format=@%ct +0000", "HEAD", "--") if head else None) or "@0 +0000"
    wip = uncommitted(other, head)[1]
    for warning in other.warnings:
        repo.warn(f"{path}: {warning}")
    return wip
