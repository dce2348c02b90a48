"""cp(1) with a list of files: modes, nanosecond times, links, holes and extended attributes are kept, reflinks used.

cp cannot leave anything out, so it is given the largest subtrees that are wanted whole (see `selection`), in one
process per quarter of a megabyte of names. The few directories above them are made here first and get their
attributes last: made by `cp --parents`, a read-only one would refuse its second entry.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from git_sandbox import process
from git_sandbox.errors import HostResourceError, RepositoryError
from git_sandbox.git import bounds
from git_sandbox.later import dataclass, regex
from git_sandbox.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

NAMES_PER_PROCESS = 256 * 1024  # bytes of argv; Linux allows 2 MiB under the usual stack limit
_GONE = regex(r"(?:No such file or directory|Not a directory|as it was replaced while being copied|Stale file handle)$")
# The content is there; the file system of the copy cannot hold its access control list, or its owner.
_HARMLESS = regex(r"cp: (?:preserving|failed to preserve|setting) (?:permissions|ownership|attribute|times)")
_DENIED = regex(r"(?:Permission denied|Operation not permitted)$")
_FULL = regex(r"(?:No space left on device|Disk quota exceeded)$")


@dataclass(frozen=True)
class Outcome:
    """What cp said it could not copy, as its own messages."""

    vanished: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(self.vanished + other.vanished, self.denied + other.denied)


def copy(
    source: Path, target: Path, entries: Sequence[str], *options: str, meter: Callable[[int], None] | None = None
) -> Outcome:
    """Copy `entries` (relative to `source`) to the same places below `target`, both absolute.

    What vanishes or may not be read while it runs is reported, not raised. `meter` hears now and then how many bytes
    are written. Raises HostResourceError when the disk is full, RepositoryError for anything else cp complains about.
    """
    above = parents(entries)
    for parent in above:
        (target / parent).mkdir(mode=0o700, parents=True, exist_ok=True)
    outcome = Outcome()
    counted = _Counted(meter) if meter else None
    for chunk in chunks(entries):
        outcome += _cp(source, target, chunk, options, counted)
    for parent in reversed(above):
        clone_directory(source / parent, target / parent)
    return outcome


class _Counted:
    """Bytes that several programs wrote, one after the other."""

    def __init__(self, meter: Callable[[int], None]) -> None:
        self._meter = meter
        self._before = self._now = 0

    def next(self) -> None:
        self._before, self._now = self._before + self._now, 0

    def __call__(self, written: int) -> None:
        self._now = written
        self._meter(self._before + written)


def _cp(
    source: Path, target: Path, names: Sequence[str], options: tuple[str, ...], counted: _Counted | None
) -> Outcome:
    if counted:
        counted.next()
    done = process.run(
        ["cp", "-a", "--force", "--reflink=auto", "--parents", *options, f"--target-directory={target}", "--", *names],
        cwd=source,
        env=process.environment({"LC_ALL": "C"}),
        meter=counted,
    )
    return _understand(done.stderr.decode("utf-8", "replace").splitlines(), source) if done.returncode else Outcome()


def _understand(complaints: Iterable[str], source: Path) -> Outcome:
    vanished: list[str] = []
    denied: list[str] = []
    for line in complaints:
        if _HARMLESS.match(line):
            continue
        if _GONE.search(line):
            vanished.append(line)
        elif _DENIED.search(line):
            denied.append(line)
        elif _FULL.search(line):
            raise HostResourceError(
                f"the disk filled up while {source} was copied",
                cause=one_line(line),
                hint="free some space, or set XDG_STATE_HOME to a larger disk",
            )
        else:
            raise RepositoryError(f"{source} could not be copied", cause=one_line(line))
    return Outcome(tuple(vanished), tuple(denied))


def clone_directory(source: Path, target: Path) -> None:
    """Give `target` the mode, times, attributes and (for root) the owner of `source`, unless that has gone."""
    try:
        seen = source.stat()
        if not stat.S_ISDIR(seen.st_mode):
            return
        if os.geteuid() == 0:
            os.chown(target, seen.st_uid, seen.st_gid)
        shutil.copystat(source, target)
    except FileNotFoundError:
        return


def parents(entries: Iterable[str]) -> list[str]:
    """Every directory above `entries`, outer ones first."""
    directories: set[str] = set()
    for entry in entries:
        above = os.path.dirname(entry)  # noqa: PTH120 - ten times quicker than pathlib on long lists
        while above and above not in directories:
            directories.add(above)
            above = os.path.dirname(above)  # noqa: PTH120
    return sorted(directories)


def chunks(names: Iterable[str]) -> Iterator[list[str]]:
    """`names` in lots that fit on a command line."""
    sizes = ((name, len(os.fsencode(name)) + 9) for name in names)  # with its NUL and its pointer
    return bounds.batches(sizes, NAMES_PER_PROCESS)


def can_reflink(source: Path, directory: Path) -> bool:
    """Does a copy of the file `source` into `directory` share its blocks?"""
    probe = directory / ".reflink-probe"
    done = process.run(["cp", "--reflink=always", "--", str(source), str(probe)])
    probe.unlink(missing_ok=True)
    return done.returncode == 0
