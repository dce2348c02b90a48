"""A repository's way through a base: an earlier copy, the difference to it, and the guest's own code applying it."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from git_sandbox.disk import delta_archive
from git_sandbox.git import snapshot
from git_sandbox.git.command import Git
from git_sandbox.git.repo import discover
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.guest import tail as guest
from git_sandbox.workspace import stat_scan
from git_sandbox.workspace.base_content import divide
from git_sandbox.workspace.base_index import Known
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.delta import Difference, confirm_still, confirm_young, difference
from git_sandbox.workspace.incremental import ChangeTracker, NotIncremental
from git_sandbox.workspace.paths_of_copy import Layout
from git_sandbox.workspace.survey import CapturePolicy

Listing = dict[str, tuple[object, ...]]


@dataclass
class Base:
    """A copy as it would be on a disk, and what is known of it."""

    root: Path
    known: Known


def policy() -> CapturePolicy:
    return CapturePolicy(patience=1)


def make(source: Path, target: Path) -> Base:
    tracker = ChangeTracker()
    captured = capture(discover(source), target, policy(), tracker=tracker)
    held = divide(target, tracker.layout, captured.git_dirs)
    known = tracker.known(target).holding(held)
    for each in held.roots:
        _forget(target / each)
    return Base(target, Known.decoded(known.encoded()))


def _forget(place: Path) -> None:
    """As if it had never been there."""
    seen = place.parent.stat()
    shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
    os.utime(place.parent, ns=(seen.st_atime_ns, seen.st_mtime_ns))


def follow(source: Path, base: Base, scratch: Path) -> tuple[Difference, Snapshot]:
    """Make `base` what `source` is now, as a sandbox would. Raises NotIncremental."""
    repo, tracker = discover(source), ChangeTracker(base.known)
    captured = capture(repo, scratch, policy(), tracker=tracker)
    with tempfile.TemporaryDirectory() as place:
        taken = snapshot.take(repo.git, captured.index, Path(place))
    confirm_young(repo.git, scratch, tracker, captured.git_dirs)
    confirm_still(repo.git, tracker)
    found = difference(scratch, tracker)
    apply(base.root, scratch, found)
    return found, taken


def apply(root: Path, copy: Path, found: Difference) -> None:
    """Twice: a boot may be cut off, and the next one begins anew."""
    made = delta_archive.build(copy, found.remove, found.write)
    archive = b"".join(made.chunks())
    assert len(archive) == made.size
    for _ in range(2):
        guest.apply_archive(io.BytesIO(archive[delta_archive.BLOCK :]), len(made.manifest), os.fsencode(root))


def proved(source: Path, base: Base, scratch: Path) -> Difference:
    """Like `follow`, and prove that the outcome and its snapshot are what a whole copy gives."""
    repo = discover(source)
    captured = capture(repo, scratch / "whole", policy())  # first: taking a snapshot adds objects to the repository
    found, taken = follow(source, base, scratch / "difference")
    with tempfile.TemporaryDirectory() as place:
        git = Git(repo.git_dir, scratch / "whole")
        expected = snapshot.take(git, captured.index, Path(place))  # no stamp fits: every file is read
    layout = base.known.layout
    different = differing(listing(base.root, layout), listing(scratch / "whole", layout))
    assert not different, different
    assert taken == expected
    return found


def listing(root: Path, layout: Layout) -> Listing:
    """Everything a disk image keeps of a tree, apart from the times of what git may touch at any time (its stores) and
    of what a capture rewrites itself.
    """
    found: Listing = {}
    names: dict[tuple[int, int], str] = {}
    for directory, directories, files in os.walk(root):
        for path in sorted(Path(directory, each) for each in (*directories, *files)):
            seen, name = path.lstat(), os.fspath(path.relative_to(root))
            other = names.setdefault((seen.st_dev, seen.st_ino), name)
            owner = layout.owner(name)
            timeless = owner and (
                name == owner or name[len(owner) + 1 :].startswith(("objects", "alt", "config", "modules"))
            )
            found[name] = (
                seen.st_mode, seen.st_uid, seen.st_gid, 0 if timeless else int(seen.st_mtime), other,
                _content(path, seen),
                [(each, os.getxattr(path, each, follow_symlinks=False))
                 for each in sorted(os.listxattr(path, follow_symlinks=False))],
            )  # fmt: skip
    return found


def _content(path: Path, seen: os.stat_result) -> object:
    if stat.S_ISREG(seen.st_mode):
        return path.read_bytes()
    return os.fspath(path.readlink()) if stat.S_ISLNK(seen.st_mode) else None


def differing(one: Listing, other: Listing) -> list[str]:
    """One short line for each path at which the two differ."""
    names = sorted(one.keys() | other.keys())
    return [
        f"{each!r}: {_short(one, each)} | {_short(other, each)}" for each in names if one.get(each) != other.get(each)
    ]


def _short(found: Listing, name: str) -> str:
    return repr(found.get(name))[:120]


def age(base: Base, seed: int) -> None:
    """Turn `base` into one of an earlier state, of which the present one is a successor: files that are there now were
    missing or different then, and others were there.
    """
    choose = random.Random(seed)
    layout = base.known.layout
    rows = {stat_scan.entry_of(row).path: row for row in base.known.rows}
    again, digests = set(base.known.again), dict(base.known.digests)

    def forget(path: str) -> None:
        rows.pop(path, None)
        again.discard(path)
        digests.pop(path, None)

    for path in sorted({*rows, *again, *digests}):
        place = base.root / path
        if not place.is_symlink() and place.is_dir() and path:
            continue
        match choose.randrange(4):
            case 0:
                place.unlink()
                forget(path)
            case 1 if place.is_file() and not place.is_symlink():
                place.unlink()
                place.write_bytes(b"what it was")
                forget(path)
                again.add(path)
            case 2 if not layout.kept_whole(path):
                place.unlink()
                place.mkdir()
                (place / "inside").write_bytes(b"gone since")
                forget(path)
                again.update((path, f"{path}/inside"))
            case _:
                pass
    base.known = Known(frozenset(rows.values()), frozenset(again), digests, git_dirs=base.known.git_dirs)


@contextlib.contextmanager
def settled_at_once() -> Iterator[None]:
    """Two seconds are for file systems that count in seconds; in these tests nothing happens twice within a tick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stat_scan, "SETTLED", 0)
        yield


def through(source: Path, scratch: Path, seed: int = 1) -> str:
    """Prove that `source` arrives exactly when it goes through an aged base; why it does not go there, otherwise."""
    with settled_at_once():
        base = make(source, scratch / "base")
        age(base, seed)
        try:
            proved(source, base, scratch)
        except NotIncremental as reason:
            return str(reason)
    return ""
