"""`sandbox cp`: files between the host and a running guest, with scp(1) over the sandbox's session.

What a guest sends lands in a fresh directory first and is then moved into place name by name: scp makes no symbolic
links (a link arrives as what it points to, seen from inside the guest), and no move goes through one either.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from git_sandbox import process
from git_sandbox.errors import HostResourceError, SessionError, StateError, UsageError
from git_sandbox.session import Session
from git_sandbox.text import one_line, printable

_REMOTE = re.compile(r"([a-z0-9-]{1,40}):(.*)", re.DOTALL)
_GLOB = re.compile(r"([*?\[\]\\])")  # scp expands these in a remote path also when nobody asked for it
WORKSPACE = "/workspace"
LIMIT = 16 << 30  # bytes that may come out; what a workspace disk holds, if nobody says otherwise
SPARE = 1 << 30  # bytes that copies keep free of the host's disk
SMALL = 16 << 20  # bytes; what is smaller fits all the same
ENTRY = 4096  # bytes the smallest file counts for
MAX_SAID = 1 << 20  # bytes of complaints; the guest's side can make scp say anything
_BARE = {"head", "objects", "refs"}


@dataclass(frozen=True)
class Place:
    """One side of a copy. `sandbox` None: a path of the host."""

    sandbox: str | None
    path: str


def parse(text: str) -> Place:
    """`ID:PATH`, or a host path; one with a colon is written with a slash before it (`./a:b`), as for scp."""
    found = _REMOTE.fullmatch(text)
    return Place(found[1], found[2]) if found else Place(None, text)


def plan(source: str, target: str) -> tuple[Place, Place]:
    """Both sides. Raises UsageError unless exactly one is in a sandbox."""
    sides = parse(source), parse(target)
    if (sides[0].sandbox is None) is (sides[1].sandbox is None):
        raise UsageError("one side must be in a sandbox, the other on this host", hint="sandbox cp vm-1:file .")
    return sides


def remote(path: str) -> str:
    """A guest path for scp: relative to the workspace, nothing in it expanded."""
    full = path if path.startswith("/") else f"{WORKSPACE}/{path}"
    return _GLOB.sub(r"\\\1", full)


def upload(session: Session, source: Path, target: str) -> None:
    """A file, or a directory with all below it, into the guest. Links are followed, as scp does."""
    if not source.exists():
        raise UsageError(f"there is no {source}")
    _scp(session, os.fspath(source.absolute()), f"{session.host}:{remote(target)}")


def refuse_repositories(arrived: Path, name: str) -> None:
    """Raises StateError for a repository in what arrived as `name`: git would run what its configuration and hooks say.

    A bare one as well: git takes any directory for one that has what `_BARE` names, and looks above it, too.
    """
    found = "." if name.casefold() == ".git" else None
    for place, directories, files in os.walk(arrived):
        here = {each.casefold() for each in (*directories, *files)}
        if ".git" in here or here >= _BARE:
            found = os.path.relpath(place, arrived)
    if found is not None:
        raise StateError(
            f"there is a git repository in it, at {one_line(found)}: not copied",
            cause="git would run what the guest wrote into its configuration and hooks",
            hint="commits come home by themselves or with `sandbox sync`; copy the other files one by one",
        )


def download(session: Session, source: str, target: Path, limit: int = LIMIT) -> Path:
    """A file or a directory of the guest; where it is now. Into `target` when that is a directory.

    Raises StateError when something of another kind, or a symbolic link, is in the way, or when more than `limit` bytes
    come; HostResourceError before the host's disk is full. Then nothing has been copied.
    """
    name = os.path.basename(source.rstrip("/")) or "workspace"  # noqa: PTH119 - a guest's path
    if name in {".", ".."}:
        raise UsageError(f"`{source}` has no name to be called by here", hint="name the directory itself")
    into = target.is_dir()
    parent = target if into else target.absolute().parent
    if not parent.is_dir():
        raise UsageError(f"there is no directory {parent}")
    with tempfile.TemporaryDirectory(prefix=".sandbox-cp-", dir=parent) as fresh:
        arrived = Path(fresh) / "arrived"
        _scp(session, f"{session.host}:{remote(source)}", os.fspath(arrived), Guard(Path(fresh), limit))
        final = parent / (name if into else target.name)
        refuse_repositories(arrived, final.name)
        put(arrived, final)
    return final


def put(arrived: Path, target: Path) -> None:
    """Move `arrived` to `target`, into a directory that is there already, over a file, never through a link."""
    mode = _mode(target)
    if not stat.S_ISDIR(arrived.lstat().st_mode):
        if mode is not None and stat.S_ISDIR(mode):
            raise StateError(f"{target} is a directory, and a file of that name was to be copied")
        arrived.replace(target)
    elif mode is None:
        arrived.rename(target)
    elif stat.S_ISDIR(mode):
        for each in sorted(arrived.iterdir()):
            put(each, target / each.name)
    else:
        kind = "a symbolic link" if stat.S_ISLNK(mode) else "not a directory"
        raise StateError(f"{target} is {kind}, and a directory of that name was to be copied", hint="move it away")


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return None


class Guard:
    """Looks at what arrives below `place`: a guest's file may have no end, and a directory no last file.

    What is there is counted now and then, so a little more than `limit` may have arrived by the time it is noticed.
    """

    def __init__(self, place: Path, limit: int) -> None:
        self._place, self._limit = place, limit
        self._next = 0.0

    def __call__(self) -> None:
        if time.monotonic() >= self._next:
            begun = time.monotonic()
            self.count()
            self._next = time.monotonic() + 4 * (time.monotonic() - begun)  # a fifth of the time, at most

    def count(self) -> None:
        """Raises StateError when there is too much, HostResourceError when it is about to fill the disk."""
        found = 0
        for directory, names, files in os.walk(self._place):
            for name in (*names, *files):
                with contextlib.suppress(OSError):
                    found += max(ENTRY, os.lstat(os.path.join(directory, name)).st_size)  # noqa: PTH118 - many
                if found > self._limit:
                    raise StateError(
                        f"more than {self._limit >> 20} MiB came: the copy was stopped",
                        hint="`--limit SIZE` allows more; a guest's file may have no end",
                    )
        if found > SMALL and shutil.disk_usage(self._place).free < SPARE:
            raise HostResourceError(
                f"the copy was stopped: this host's disk has less than {SPARE >> 20} MiB free",
                hint="free some space, or copy less",
            )


def _scp(session: Session, source: str, target: str, guard: Guard | None = None) -> None:
    argv = ["scp", "-q", "-s", "-r", "-F", os.fspath(session.config), "--", source, target]
    done = process.run(argv, output=MAX_SAID, watch=guard)
    if guard is not None:
        guard.count()  # the last of it may have come since
    if done.returncode != 0:
        raise SessionError("the copy was not finished", cause=printable(done.complaint, limit=2000))
