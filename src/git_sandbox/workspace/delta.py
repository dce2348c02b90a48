"""The difference to a base: what must be removed from, and written over, a copy of the base."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from git_sandbox.git import gitdirs
from git_sandbox.later import dataclass
from git_sandbox.workspace.base_content import unproved
from git_sandbox.workspace.base_index import Known
from git_sandbox.workspace.incremental import ChangeTracker, SourceChanged, believed, digest
from git_sandbox.workspace.stat_scan import Entry, glance, path_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from git_sandbox.git.command import Git
    from git_sandbox.git.gitdirs import GitDir


@dataclass(frozen=True)
class Difference:
    """`remove`: roots of what goes. `write`: entries of the copy, directories before what is in them.

    Nothing in `remove` is below a path that will not be a directory: removing it twice does no harm.
    """

    remove: tuple[str, ...]
    write: tuple[str, ...]
    bytes: int  # content of the files in `write`
    lost: frozenset[str]  # paths at which the base has content that this state has not there


def difference(copy: Path, tracker: ChangeTracker) -> Difference:
    base = tracker.base
    assert base is not None  # noqa: S101 - without one everything is written
    staged = glance(copy)
    gone = tracker.missing() - staged.keys()
    remove = _roots(gone, tracker.fresh | staged)
    fresh = {path for path in staged if not _same(base, copy, path)}
    changed = {path for path in fresh if not staged[path].is_directory}
    touched = {above for path in (*changed, *remove) for above in _above(path) if above in staged}
    write = sorted(fresh | touched, key=lambda path: path.split("/"))
    lost = frozenset(gone | _rewritten(tracker, staged, write))
    return Difference(remove, tuple(write), sum(staged[path].size for path in changed), lost)


def _rewritten(tracker: ChangeTracker, staged: Mapping[str, Entry], write: Iterable[str]) -> set[str]:
    """Where the base has other content, or content of which nobody knows whether it is the same. Directories that stay
    directories have none.
    """
    assert tracker.base is not None  # noqa: S101 - as above
    stale, unsure = tracker.stale(), tracker.base.again | tracker.base.digests.keys()
    files, rest = set(), set()
    for path in write:
        if path in stale:
            files |= set() if stale[path].is_directory and staged[path].is_directory else {path}
        elif path in unsure:
            files.add(path)
        elif not staged[path].is_directory and path not in tracker.fresh:
            rest.add(path)  # another name of a file that changed, perhaps
    with believed():
        return files | rest.intersection(path_of(row) for row in (tracker.base.rows if rest else ()))


def confirm_lasting(tracker: ChangeTracker, difference: Difference, git_dirs: Sequence[GitDir]) -> None:
    """Prove that the repository still has all that the base has: the guest can read it. Raises NotIncremental."""
    base = tracker.base
    assert base is not None  # noqa: S101 - as above
    labels = {
        "/",
        *(
            f"{path}/"
            for path in (*difference.lost, *difference.write)
            if path in difference.lost or path in tracker.fresh
        ),
    }
    tracker.require(
        base.private.isdisjoint(difference.lost | labels), "content that exists nowhere else was removed or changed"
    )
    gone = next(unproved(sorted(difference.lost), base.layout, base.trees, git_dirs), None)
    tracker.require(gone is None, "the base has content that is no longer in any commit")


def _roots(gone: set[str], new: dict[str, Entry]) -> tuple[str, ...]:
    """Those of `gone` that do not go with another. `new`: what the base has not, or not so."""
    roots = []
    for path in gone:
        above = os.path.dirname(path)  # noqa: PTH120 - hot
        if above in gone or (above in new and not new[above].is_directory):
            continue  # goes with the directory, or when something else takes its place
        roots.append(path)
    return tuple(sorted(roots))


def _same(base: Known, copy: Path, path: str) -> bool:
    held = base.digests.get(path)
    return held is not None and held == digest(copy / path)


def _above(path: str) -> Iterable[str]:
    above = os.path.dirname(path)  # noqa: PTH120 - hot
    while above:
        yield above
        above = os.path.dirname(above)  # noqa: PTH120


def confirm_still(git: Git, tracker: ChangeTracker) -> None:
    """Prove that the worktree of `git` is as it was before the copy. Raises SourceChanged when it is not.

    Whatever was read from the live worktree between the capture and now is then true of base and copy together as well,
    if `confirm_young` has been asked, too. Ignored files may have changed: they come as they were at some moment, as in
    a whole copy, and are in no snapshot.
    """
    if moved := _not_ignored(git, tracker.moved()):
        raise SourceChanged(f"the worktree changed while it was copied (entries: {len(moved)})")


def confirm_young(git: Git, copy: Path, tracker: ChangeTracker, git_dirs: Sequence[GitDir]) -> None:
    """Prove that what may have changed unseen, within one tick of the clock, is as it was copied. Raises SourceChanged.

    `git_dirs`: those of the copy, in which the `.git` file of a checkout says another place than its source. It is as
    it was copied when the source still leads to the same git directory.
    """
    top = git.worktree or git.git_dir
    leads = {f"{git_dir.checkout}/.git": git_dir.private for git_dir in git_dirs if git_dir.checkout}
    if _not_ignored(git, {
        path for path in tracker.young()
        if not (_equal(top / path, copy / path) or (path in leads and gitdirs.pointed(top / path) == leads[path]))
    }):  # fmt: skip
        raise SourceChanged("a file changed twice while it was copied")


def _not_ignored(git: Git, paths: set[str]) -> set[str]:
    if not paths:
        return paths
    # check-ignore refuses literal pathspecs; behind `./` no name has a special meaning.
    names = b"".join(b"./" + os.fsencode(path) + b"\0" for path in paths)
    asked = git.with_env(GIT_LITERAL_PATHSPECS="0").try_run("check-ignore", "-z", "--stdin", input=names)
    if asked.returncode not in (0, 1):
        return paths
    return paths - {os.fsdecode(path).removeprefix("./") for path in asked.stdout.split(b"\0")}


def _equal(one: Path, other: Path) -> bool:
    try:
        with one.open("rb") as left, other.open("rb") as right:
            while (chunk := left.read(1 << 20)) == right.read(1 << 20):
                if not chunk:
                    return True
    except OSError:
        return False
    return False
