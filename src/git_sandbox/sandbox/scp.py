"""`sandbox cp`: files between the host and a running guest, as one tar(1) stream over the sandbox's session.

Links are copied as links, times and modes are kept, as rsync -a does. What a guest sends is unpacked in a fresh
directory first, judged there (`arrival`), and then moved into place name by name.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from git_sandbox import bounded_log, confine, process
from git_sandbox.errors import HostResourceError, SessionError, StateError, UsageError
from git_sandbox.guest.protocol import WORKSPACE
from git_sandbox.later import dataclass
from git_sandbox.process import Child, Limits
from git_sandbox.sandbox import arrival
from git_sandbox.sandbox.arrival import Arrival
from git_sandbox.session import Session
from git_sandbox.text import printable

_REMOTE = re.compile(r"((?:[a-z0-9-]{1,60}-[0-9a-f]{10,16}/)?[a-z0-9-]{1,40}):(.*)", re.DOTALL)  # KEY/ID or ID
LIMIT = 16 << 30  # bytes that may come out; what a workspace disk holds, if nobody says otherwise
SPARE = 1 << 30  # bytes that copies keep free of the host's disk
CHUNK = 1 << 20  # bytes
MAX_SAID = 1 << 20  # bytes of complaints; the guest's side can make ssh say anything
ARRIVED = "/arrived"  # where the tar that reads a guest's archive sees what it unpacks
MAX_MEMORY = 1 << 30  # bytes of address space for the tar that reads a guest's archive
LAST_WORDS = 5.0  # seconds for a sender to end once its archive has been read
FILE_TOO_LARGE = (-signal.SIGXFSZ, 128 + signal.SIGXFSZ)
SHOWN_EVERY = 4 << 20  # bytes between two words of progress
Progress = Callable[[str], None]

# In the guest. $1: what to send, $2: options of tar.
_SEND = r"""
case $1 in */) set -- "${1%/}" "$2" ;; esac
[ -n "$1" ] || set -- / "$2"
[ -e "$1" ] || [ -L "$1" ] || { printf n; exit 1; }
if [ -d "$1" ] && [ ! -L "$1" ]; then printf d; cd -- "$1" || exit 1; exec tar -cSf - $2 -- .; fi
printf f; cd -- "$(dirname -- "$1")" && exec tar -cSf - $2 -- "./$(basename -- "$1")"
"""
# In the guest. $1: where to, $2: the name of what comes, $3: d for a directory whose entries come, else f.
_RECEIVE = r"""
set -e
if [ -d "$1" ]; then to=$1/$2; else to=$1; fi
if [ "$3" = d ]; then mkdir -p -- "$to"; exec tar -xpf - --no-same-owner -C "$to"; fi
[ ! -d "$to" ] || { echo "$to is a directory" >&2; exit 1; }
fresh=$(mktemp -d -- "$(dirname -- "$to")/.sandbox-cp-XXXXXX"); trap 'rm -rf -- "$fresh"' EXIT
tar -xpf - --no-same-owner -C "$fresh"; mv -T -- "$fresh/$2" "$to"
"""


@dataclass(frozen=True)
class Place:
    """One side of a copy. `sandbox` None: a path of the host."""

    sandbox: str | None
    path: str


@dataclass(frozen=True)
class Copied:
    """Where it is now, and what was left out or deserves a look."""

    target: Path
    arrival: Arrival


def parse(text: str) -> Place:
    """`ID:PATH`, `KEY/ID:PATH` with the whole key, or a host path; one with a colon is written with a slash before it
    (`./a:b`), as for scp.
    """
    side = _REMOTE.fullmatch(text)
    return Place(side[1], side[2]) if side else Place(None, text)


def plan(source: str, target: str) -> tuple[Place, Place]:
    """Both sides. Raises UsageError unless exactly one is in a sandbox."""
    sides = parse(source), parse(target)
    if (sides[0].sandbox is None) is (sides[1].sandbox is None):
        raise UsageError("one side must be in a sandbox, the other on this host", hint="sandbox cp vm-1:file .")
    return sides


def remote(path: str) -> str:
    """The absolute guest path: a relative one is below the workspace."""
    return path if path.startswith("/") else f"{WORKSPACE}/{path}"


def upload(
    session: Session, source: Path, target: str, progress: Progress = lambda _text: None, *, follow: bool = False
) -> None:
    """A file, or a directory with all below it, into the guest. `follow`: what links point to, instead of the links.

    Raises UsageError when there is no such file, SessionError when the guest does not take it.
    """
    whole = source.is_dir() and (follow or not source.is_symlink() or os.fspath(source).endswith("/"))
    if not os.path.lexists(source) or "\0" in target:
        raise UsageError(f"there is no {source}")
    name = source.absolute().name
    top, entry = (source, ".") if whole else (source.absolute().parent, f"./{name}")
    send = ["tar", "-cSf", "-", *(["-h"] if follow else []), "-C", os.fspath(top.absolute()), "--", entry]
    receive = _in_guest(session, _RECEIVE, remote(target), name, "d" if whole else "f")
    with _sender(send) as (child, complaints):
        done = process.run(receive, feed=_metered(_chunks(child), progress), output=MAX_SAID)
        status = _ended(child)
    if done.returncode != 0 or status != 0:
        raise _unfinished(done.complaint if done.returncode else complaints())


def download(
    session: Session,
    source: str,
    target: Path,
    limit: int = LIMIT,
    progress: Progress = lambda _text: None,
    *,
    follow: bool = False,
    accept_risky: bool = False,
) -> Copied:
    """A file or a directory of the guest. Into `target` when that is a directory.

    Raises StateError when something of another kind, or a symbolic link, is in the way, when more than `limit` bytes
    come, when it holds a repository, or (without `accept_risky`) files that a program obeys by itself;
    HostResourceError before the host's disk is full. Then nothing has been copied.
    """
    name = os.path.basename(source.rstrip("/")) or "workspace"  # noqa: PTH119 - a guest's path
    if name in {".", ".."} or "\0" in source:
        raise UsageError(f"`{source}` has no file name", hint="name the directory itself")
    into = target.is_dir()
    parent = Path(os.path.realpath(target if into else target.absolute().parent))  # judged where it ends up
    if not parent.is_dir():
        raise UsageError(f"there is no directory {parent}")
    final = parent / (name if into else target.name)
    with tempfile.TemporaryDirectory(prefix=".sandbox-cp-", dir=parent) as fresh:
        arrived = _fetched(session, remote(source), Path(fresh), limit, progress, follow=follow)
        result = arrival.inspect(arrived, final, limit)
        if result.risky and not accept_risky:
            raise StateError(
                "not copied: programs on this host run or obey some of these files",
                cause="\n".join(result.risky),
                hint="`sandbox cp --yes` copies them as well",
            )
        if not os.path.lexists(arrived):
            raise StateError(
                f"not copied: {result.skipped[0]}", hint="`--follow-links` copies what a link of the guest points to"
            )
        arrival.put(arrived, final)
    return Copied(final, result)


def _fetched(session: Session, source: str, fresh: Path, limit: int, progress: Progress, *, follow: bool) -> Path:
    """Unpack what the guest sends; the one file or directory that came."""
    unpacked = fresh / "arrived"
    unpacked.mkdir(mode=0o700)
    receive = confined(["tar", "-xf", "-", "--no-same-owner", "--no-same-permissions", "-C", ARRIVED], unpacked)
    bounds = Limits(address_space=MAX_MEMORY, file_size=limit)
    with _sender(_in_guest(session, _SEND, source, "-h" if follow else "")) as (child, complaints):
        kind = child.stdout.read(1)
        feed = _metered(_bounded(_chunks(child), limit, fresh), progress)
        done = process.run(receive, feed=feed, output=MAX_SAID, limits=bounds)
        status = _ended(child)
    if done.returncode in FILE_TOO_LARGE:
        raise arrival.too_much(limit)
    if kind == b"n":
        raise UsageError(f"there is no {source} in the sandbox")
    if kind not in (b"d", b"f") or done.returncode != 0 or status != 0:
        raise _unfinished(complaints() or done.complaint)
    if kind == b"d":
        return unpacked
    entries = list(unpacked.iterdir())
    if len(entries) != 1:
        raise StateError(f"{len(entries)} files arrived instead of one: not copied")
    return entries[0]


def confined(words: list[str], unpacked: Path) -> list[str]:
    """`words`, which read a stranger's archive, where they see `unpacked` at ARRIVED and no other file; as they are
    where this host does not let us (each start says so).
    """
    if confine.unavailable():
        return [os.fspath(unpacked) if word == ARRIVED else word for word in words]
    return confine.argv(words, confine.owned(confine.View(writable=((unpacked, ARRIVED),))))


def _in_guest(session: Session, script: str, *words: str) -> list[str]:
    return session.argv(shlex.join(["sh", "-c", script, "sh", *words]), tty=False)


@contextlib.contextmanager
def _sender(argv: list[str]) -> Iterator[tuple[Child, Callable[[], str]]]:
    """A program whose output is the archive, and its complaints, bounded."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "complaints"
        with (
            bounded_log.log(log, MAX_SAID) as complaints,
            process.spawn(argv, stdout=process.PIPE, stderr=complaints) as child,
        ):
            yield child, lambda: log.read_text("utf-8", "replace") if log.exists() else ""


def _ended(child: Child) -> int:
    """Exit status of a sender whose archive has been read, or that nobody reads any more."""
    status = child.wait(LAST_WORDS)
    return child.stop() if status is None else status


def _chunks(child: Child) -> Iterator[bytes]:
    while chunk := child.stdout.read(CHUNK):
        yield chunk


def _metered(chunks: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    total, next_word = 0, 0
    for chunk in chunks:
        total += len(chunk)
        if total >= next_word:
            progress(f"Copying: {total >> 20} MiB")
            next_word = total + SHOWN_EVERY
        yield chunk


def _bounded(chunks: Iterable[bytes], limit: int, place: Path) -> Iterator[bytes]:
    """Raises StateError beyond `limit` bytes and HostResourceError before the disk is full, or out of inodes."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit + CHUNK:  # an archive is a little larger than its files
            raise arrival.too_much(limit)
        state = os.statvfs(place)
        if state.f_bavail * state.f_frsize < SPARE or (state.f_files and state.f_favail < CHUNK // 512):
            raise HostResourceError(
                f"the copy was stopped: this host's disk has less than {SPARE >> 20} MiB (or few files) free",
                hint="free some space, or copy less",
            )
        yield chunk


def _unfinished(complaint: str) -> SessionError:
    return SessionError("the copy is incomplete", cause=printable(complaint.strip(), limit=2000))
