"""Uncommitted work, as a commit. HEAD, index and worktree are not touched.

No file can fail the whole: what git cannot convert goes in as the bytes it is, what the user may not read root reads,
and what cannot come at all is named. Nor can a full disk: then all is written to memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from git_sandbox.guest import large, stage, unreadable
from git_sandbox.guest.history import WORKTREE
from git_sandbox.guest.index import TemporaryIndex
from git_sandbox.guest.protocol import MAX_POINTER
from git_sandbox.guest.repository import ExportError, Repo, complaint, text
from git_sandbox.guest.scratch import Scratch, in_memory, memory_left, roomy
from git_sandbox.guest.stage import StageError

MAX_SAID = 20  # files that warnings name; all are in `left_out`
NO_ROOM = "there is no room to store it"
TOO_LARGE = "it is too large to export"
LOST = "its content is lost, and the file is gone"
Wip = dict[str, str | None]


def unhide(index: TemporaryIndex, worktree: str, marked: list[bytes]) -> None:
    """Let `add` see edits to files marked assume-unchanged, or marked skip-worktree and there all the same."""
    rows = [(row[:1], row[2:]) for row in marked]
    top = os.fsencode(worktree) + b"/"
    assumed = [path for tag, path in rows if tag.islower()]
    skipped = [path for tag, path in rows if tag in b"Ss" and os.path.lexists(top + path)]
    for option, paths in (("--no-assume-unchanged", assumed), ("--no-skip-worktree", skipped)):
        if paths:
            index.ask("update-index", option, "-z", "--stdin", input=b"".join(path + b"\0" for path in paths))


def read_again(index: TemporaryIndex) -> None:
    """Have `add` read files again whose stamps say nothing: of the same size and time as before, and touched all the
    same. Where it is not known which were touched, that is every one.
    """
    repo = index.repo
    if not repo.touched and not (repo.touched is None and repo.doubtful):
        return
    touched = None if repo.touched is None else set(map(os.fsencode, repo.touched))
    rows = [row for row in index.files("-s") if touched is None or row.split(b"\t", 1)[1] in touched]
    if rows:
        index.ask("update-index", "-z", "--index-info", input=b"".join(row + b"\0" for row in rows))


def rehash_lost(index: TemporaryIndex, worktree: str) -> list[bytes]:
    """Make `add` read files again whose content is gone from the object store although the index has it. The paths of
    those that have no file, either.
    """
    rows = index.files("-s")
    present = index.repo.present([text(row.split(b" ")[1]) for row in rows])
    top = os.fsencode(worktree) + b"/"
    lost = [row for row in rows if text(row.split(b" ")[1]) not in present and not row.startswith(b"160000")]
    there = [row + b"\0" for row in lost if os.path.lexists(top + row.split(b"\t", 1)[1])]
    index.ask("update-index", "-z", "--index-info", input=b"".join(there))
    return [path for row in lost if not os.path.lexists(top + (path := row.split(b"\t", 1)[1]))]


def fill(index: TemporaryIndex, most: int | None) -> None:
    """Everything that is not ignored into the index, or as much of it as can be. `most`: bytes that may be written."""
    if most is None and not large.careful() and not index.repo.apart:
        words = ("add", "-A", "--sparse", "--ignore-errors", "--no-warn-embedded-repo")
        done = index.ask(*words, filters=True)
        if done.returncode == 0 and not done.stderr:
            return
        if b"filter" in done.stderr:
            index.repo.warn(f"git add: {complaint(done)}: without filters, files are exported as they are")
    repo = index.repo
    top = os.fsencode(repo.worktree or "")
    staged = stage.stage(index.ask, top, os.fspath(index.path), _chooser(top, most, repo.apart))
    reason = TOO_LARGE if most is None else NO_ROOM
    left_out = {path: why for path, why in staged.left_out.items() if why != stage.NO_COMMIT}  # exported by themselves
    left_out |= dict.fromkeys((path for path in staged.apart if path not in repo.apart), reason)
    if staged.raw and not repo.shadow and not index.converts():
        raise ExportError("git does not understand its configuration")  # then none is to blame, and filters count
    if staged.raw:
        repo.warn(f"without filters, files are exported as they are: {_few(staged.raw)}")
    closed = [path for path, why in left_out.items() if why in (stage.UNREADABLE, stage.REFUSED)]
    if closed and repo.opener:
        for path in closed:
            del left_out[path]
        left_out |= unreadable.take(index, repo.opener, repo.objects_dir, closed)
    repo.left_out |= {text(path): why for path, why in left_out.items()}
    for path, why in list(left_out.items())[:MAX_SAID]:
        repo.warn(f"{text(path)}: {why}: not exported, it stays on the sandbox's disk")


def _few(paths: Sequence[bytes]) -> str:
    more = f" and {len(paths) - MAX_SAID} more" if len(paths) > MAX_SAID else ""
    return ", ".join(map(text, paths[:MAX_SAID])) + more


def _chooser(
    top: bytes, most: int | None, apart: Collection[bytes]
) -> Callable[[Sequence[bytes], Sequence[bytes]], Collection[bytes]]:
    """What to leave as the index has it: `apart`, and the largest files, where all together are too much."""
    limit = large.MOST if most is None else min(most, large.MOST)
    limited = most is not None or large.careful()

    def choose(untracked: Sequence[bytes], modified: Sequence[bytes]) -> Collection[bytes]:
        every = (*untracked, *modified)
        rest = [path for path in every if path not in apart]
        beyond = [path for path, _ in large.beyond(os.fsdecode(top), rest, limit)] if limited else []
        return [*(path for path in every if path in apart), *beyond]

    return choose


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
        raise StageError(f"git commit-tree: {complaint(done)}")
    return text(done.stdout).strip()


def uncommitted(
    repo: Repo, scratch: Scratch, base: str | None, base_tree: str | None = None
) -> tuple[str | None, Wip | None]:
    """The tree of the worktree, and (unless all is committed) a commit of it in the shape of a stash.

    `base_tree`: that of the commit `base`, where it is known. Written to the repository itself, or where that cannot
    be, to the disk beside it, or to memory.
    """
    if repo.worktree is None:
        repo.warn("the repository has no worktree: uncommitted files are not exported")
        return None, None
    repo.cwd = repo.worktree
    why = "the disk is full"
    warnings, left_out = list(repo.warnings), dict(repo.left_out)
    for place, most in _places(repo, scratch):
        repo.warnings, repo.left_out = list(warnings), dict(left_out)
        try:
            return _taken(repo, place, most, base, base_tree)
        except (StageError, OSError) as error:
            why = str(error)
    raise ExportError(why)


def _places(repo: Repo, scratch: Scratch) -> Iterator[tuple[Path, int | None]]:
    """Where to write, one after the other, and how many bytes may be; None: as many as there are."""
    if roomy(repo.git_dir) and roomy(repo.objects_dir):
        yield repo.git_dir, None
    for memory in (False, True):
        place = scratch.directory("objects", memory=memory)
        repo.write_to(place)
        yield scratch.directory("index", memory=memory), memory_left() if in_memory(place) else None


def _taken(
    repo: Repo, place: Path, most: int | None, base: str | None, base_tree: str | None
) -> tuple[str | None, Wip | None]:
    with TemporaryIndex(repo, place) as index:
        staged, tree = _trees(index, most, base)
    if tree is None:
        raise ExportError("the uncommitted files could not be written as a tree")
    empty = None if base else _empty_tree(repo)
    if base:
        base_tree = base_tree or repo.line("rev-parse", f"{base}^{{tree}}")
    nothing_new = base_tree if base else empty
    if nothing_new == tree and (staged == tree or index.damaged):
        return tree, None
    below = [base] if base else []
    # Without HEAD there is no first parent; then the index is kept only where the other tree does not say it already.
    apart = staged is not None and (base is not None or staged not in (tree, empty))
    second = [commit(repo, str(staged), below, "sandbox: index")] if apart else []
    wip = commit(repo, tree, [*below, *second], "sandbox: uncommitted work")
    return tree, {"oid": wip, "tree": tree, "index_tree": staged}


def _empty_tree(repo: Repo) -> str:
    done = repo.ask("hash-object", "-t", "tree", "-w", "--stdin")
    if done.returncode:
        raise StageError(f"git hash-object: {complaint(done)}")
    return text(done.stdout).strip()


def _trees(index: TemporaryIndex, most: int | None, base: str | None) -> tuple[str | None, str | None]:
    """The tree that is staged, if there can be one, and that of all files."""
    repo = index.repo
    read = None if index.damaged else index.tree_and_marks()
    if read is None:
        repo.warn("the index is damaged: nothing counts as staged, the files are compared with HEAD")
        repo.set_aside["index"] = "it is damaged: nothing counts as staged"
        index.begin_again(base)
        read = None, []
    staged, marked = read
    worktree = repo.worktree or ""
    unhide(index, worktree, marked)
    read_again(index)
    if repo.mended:
        rehash_lost(index, worktree)
    before = index.written()
    fill(index, most)
    if staged is not None and index.written() == before:
        return staged, staged
    return staged, index.tree() or _without_lost(index, worktree, most)


def _without_lost(index: TemporaryIndex, worktree: str, most: int | None) -> str | None:
    """The tree without entries that no tree can hold: their files come from the worktree, where they are."""
    stage.drop_unsound(index.ask)
    gone = rehash_lost(index, worktree)
    if gone:
        index.ask("update-index", "--force-remove", "-z", "--stdin", input=b"".join(path + b"\0" for path in gone))
        index.repo.left_out |= {text(path): LOST for path in gone}
    fill(index, most)
    return index.tree()


def elsewhere(repo: Repo, scratch: Scratch) -> list[list[str]]:
    """Uncommitted work in the other worktrees of the repository, as (commit, name as if it were a ref).

    Who lets several agents work in one sandbox gives each a worktree. The same work gives the same commit each time.
    """
    paths = []
    for place in sorted((repo.git_dir / "worktrees").glob("*/gitdir")):
        name = place.parent.name
        path = os.path.dirname(os.fsdecode(place.read_bytes()[:MAX_POINTER]).strip()) if place.is_file() else ""  # noqa: PTH120
        try:
            wip = _of_worktree(repo, scratch, path, repo.worktrees.get(name))
        except (ExportError, OSError) as error:
            repo.warn(
                f"{path} is another worktree and cannot be read: its uncommitted files are not exported ({error})"
            )
            continue
        if wip and WORKTREE.fullmatch(name):
            paths.append([str(wip["oid"]), f"refs/worktrees/{name}/wip"])
    return paths


def _tell(other: Repo, outer: Repo, below: str) -> None:
    """What is known of files in the outer worktree, of those of one that is `below` it."""
    start = os.fsencode(below) + b"/"
    other.apart = frozenset(path.removeprefix(start) for path in outer.apart if path.startswith(start))
    if outer.touched is not None and not below.startswith(".."):
        other.touched = [path.removeprefix(f"{below}/") for path in outer.touched if path.startswith(f"{below}/")]


def _of_worktree(repo: Repo, scratch: Scratch, path: str, started: list[str | None] | None) -> Wip | None:
    """`started`: what it was like when it went in; as it was then there is nothing to bring home."""
    other = Repo(path)
    common = other.line("rev-parse", "--path-format=absolute", "--git-common-dir")
    if not Path(common or path).samefile(repo.real_dir):  # the repository is mounted at several places
        raise ExportError("it belongs to another repository")
    head = other.line("rev-parse", "-q", "--verify", "HEAD")
    other.commit_date = (other.line("log", "-1", "--format=@%ct +0000", "HEAD", "--") if head else None) or "@0 +0000"
    other.env |= repo.objects_env
    _tell(other, repo, os.path.relpath(os.path.realpath(path), os.path.realpath(repo.worktree or path)))
    wip = uncommitted(other, scratch, head)[1]
    repo.env |= other.objects_env
    for warning in other.warnings:
        repo.warn(f"{path}: {warning}")
    repo.left_out |= {os.path.join(path, name): why for name, why in other.left_out.items()}  # noqa: PTH118
    return None if wip and started == [head, wip["tree"], wip["index_tree"]] else wip
