"""The state at the start of a sandbox, written to its disk before user code runs: changes are measured against it.

It is written once. A later session of the same sandbox, a copy of its disk (fork) and a rescue machine read it, so what
has changed once stays changed. What init itself writes at a later boot is told apart.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from git_sandbox.guest.common import DISK, REPO, Config
from git_sandbox.guest.walk import touched

SYSTEM = "system/upper"  # everything outside of the workspace that differs from the image
PLACE = "start"
RECORD, CLOCK = "record.json", "clock"
TRUSTED, SET = (
    b"nobody set the clock\n",
    b"somebody set the clock",
)  # overwritten in place: the disk may be full by then
VERSION = 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SLACK = 1_000_000_000  # nanoseconds by which the clocks of host and guest may differ
AHEAD = 5.0  # seconds a file's stamp may be ahead of this machine's clock and be waited for
COPIED = 64 << 20  # bytes of an index that is copied where it cannot be linked


@dataclass
class Directory:
    """A directory as it was: what is in it, and what it is."""

    names: list[str]
    look: list[Any]


@dataclass
class Start:
    """`disk`, `share`: the moments (ctime, nanoseconds) since which whatever is touched is the user's; `share` 0
    when the workspace is on the disk. `watch`: which boot wrote it and how long that had run then, in nanoseconds:
    a share's stamps come from the host's clock, which is compared with this. `own`: paths of SYSTEM that init wrote
    at later boots, with their ctimes. `system` and `git`: directories of SYSTEM, and git directories of the
    workspace, as they were.
    """

    disk: int
    share: int = 0
    watch: tuple[str, int] = ("", 0)
    own: dict[str, int] = field(default_factory=dict)
    system: dict[str, Directory] = field(default_factory=dict)
    git: dict[str, Directory] = field(default_factory=dict)
    version: int = VERSION


class NoStartError(Exception):
    """The start is not known; the text says why."""


def load(disk: Path = DISK) -> Start:
    """Raises NoStartError."""
    try:
        record = json.loads((disk / PLACE / RECORD).read_text())
        if record["version"] != VERSION:
            raise NoStartError("the record of the start has another version")
        for name in ("system", "git"):
            record[name] = {path: Directory(**fields) for path, fields in record[name].items()}
        record["watch"] = tuple(record["watch"])
        return Start(**record)
    except FileNotFoundError:
        raise NoStartError("there is no record of the start") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoStartError(f"the record of the start cannot be read ({error})") from error


def trusted(disk: Path = DISK) -> bool:
    """Whether nobody set the clock, as far as process 1 has seen (`guest/clock.py`)."""
    try:
        return (disk / PLACE / CLOCK).read_bytes() == TRUSTED
    except OSError:
        return False


def distrust(disk: Path = DISK) -> None:
    """Somebody set the clock: from now on no stamp proves anything about this disk."""
    with contextlib.suppress(FileNotFoundError), (disk / PLACE / CLOCK).open("r+b", buffering=0) as mark:
        mark.write(SET)
        os.fsync(mark.fileno())


@dataclass(frozen=True)
class Boot:
    """A boot that is not finished. `earlier`: the start, if this is not the first boot; `users`: what of SYSTEM users
    had touched by then. `usable` False: something ran on this disk of which there is no record.
    """

    usable: bool
    earlier: Start | None = None
    users: frozenset[bytes] = frozenset()


def begin(disk: Path = DISK) -> Boot:
    """Called before init writes anything. An earlier boot that was cut off before `complete` had run nothing of the
    user's; a disk that was used without a record has one no more.
    """
    place = disk / PLACE
    if (place / RECORD).exists():
        try:
            earlier = load(disk)
        except NoStartError:
            return Boot(usable=False)
        system = os.fsencode(disk / SYSTEM)
        seen = touched(system, earlier.disk)
        if now(place) <= earlier.disk or seen.problems:
            distrust(disk)
        return Boot(usable=True, earlier=earlier, users=not_own(earlier, seen.directories | seen.others, system))
    if not place.is_dir():
        if any((disk / SYSTEM).iterdir()):
            return Boot(usable=False)
        place.mkdir(mode=0o700)
        sync(disk)
    return Boot(usable=True)


def complete(boot: Boot, config: Config, disk: Path = DISK, repo: Path = REPO) -> None:
    """Called when init has written everything, and nothing of the user's has run yet. It is on the disk afterwards."""
    if not boot.usable:
        return
    place = disk / PLACE
    if boot.earlier is not None:
        _write(place / RECORD, _encoded(_with_own(boot.earlier, boot.users, disk)))
        tick(place)
        return
    inside, linked = config.get("git_dirs"), config.get("worktrees")
    git_dirs = [".git", *(str(place) for place in inside)] if isinstance(inside, list) else [".git"]
    git_dirs += [f".git/worktrees/{name}" for name in linked] if isinstance(linked, dict) else []
    start = Start(
        0,
        system={os.fsdecode(path): directory(disk / SYSTEM, path) for path in _directories(disk / SYSTEM)},
        git={name: directory(repo, os.fsencode(name)) for name in git_dirs if _is_directory(repo / name)},
    )
    keep_indexes(start.git, repo, place)
    _wait_for_clock([repo, *repo.iterdir(), *(repo / ".git").glob("*")], place)
    if config.get("share"):
        start.share, start.watch = tick(repo / ".git") - 1, watch()
        tick(repo / ".git")
    _write(place / CLOCK, TRUSTED)
    start.disk = tick(place) - 1
    _write(place / RECORD, _encoded(start))
    tick(place)


def _encoded(start: Start) -> bytes:
    return json.dumps(asdict(start)).encode()


def _with_own(start: Start, users: frozenset[bytes], disk: Path) -> Start:
    """With what init wrote just now. What the user had touched before stays touched."""
    system = os.fsencode(disk / SYSTEM)
    seen = touched(system, start.disk)
    for path in (seen.directories | seen.others) - users:
        start.own[os.fsdecode(path)] = ctime(system, path)
    return start


def not_own(start: Start, paths: Iterable[bytes], system: bytes) -> frozenset[bytes]:
    """Those of the touched `paths` of SYSTEM that init was not the last to touch."""
    return frozenset(path for path in paths if start.own.get(os.fsdecode(path)) != ctime(system, path))


def ctime(root: bytes, path: bytes) -> int:
    """0 for what is gone."""
    try:
        return os.lstat(os.path.join(root, path)).st_ctime_ns  # noqa: PTH118 - bytes
    except OSError:
        return 0


def keep_indexes(git: dict[str, Directory], repo: Path, place: Path) -> None:
    """The index of every repository, by which `changes` tells one that git only refreshed: git never writes into an
    index, but puts another file in its place.
    """
    for number, name in enumerate(git):
        source, target = repo / name / "index", place / f"index-{number}"
        target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            try:
                os.link(source, target, follow_symlinks=False)
            except OSError:
                if source.stat().st_size <= COPIED and not source.is_symlink():
                    shutil.copy2(source, target)
                    seen = source.stat()
                    os.chown(target, seen.st_uid, seen.st_gid)


def directory(root: Path, path: bytes) -> Directory:
    place = os.path.join(os.fsencode(root), path)  # noqa: PTH118 - bytes
    return Directory(sorted(os.fsdecode(name) for name in os.listdir(place)), look(place))  # noqa: PTH208 - bytes


def look(path: bytes) -> list[Any]:
    """Everything about an inode but its content and its times."""
    seen = os.lstat(path)
    names = sorted(attribute for attribute in attributes(path) if not attribute.startswith("trusted.overlay"))
    values = [[attribute, os.getxattr(path, attribute, follow_symlinks=False).hex()] for attribute in names]
    return [seen.st_mode, seen.st_uid, seen.st_gid, values]


def attributes(path: bytes) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # a share without them
            return []
        raise


def _directories(root: Path) -> Iterable[bytes]:
    top = os.fsencode(root)
    return (os.path.relpath(place, top) if place != top else b"" for place, _, _ in os.walk(top))


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def now(place: Path) -> int:
    """The present moment as the file system of the directory `place` would stamp it, in nanoseconds."""
    seen = place.stat()
    os.utime(place, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    return place.stat().st_ctime_ns


def watch() -> tuple[str, int]:
    return BOOT_ID.read_text().strip(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def lost(start: Start, repo: Path) -> bool:
    """Whether a share's clock may have been set back since the start. Asked of the git directory's stamp, which does
    not count by itself.
    """
    boot, began = start.watch
    this, present = watch()
    return this != boot or now(repo / ".git") - start.share < present - began - SLACK


def tick(place: Path) -> int:
    """Wait until that file system's clock has moved on (a tick is a jiffy), so that no stamp is on both sides."""
    before = now(place)
    while (after := now(place)) == before:
        time.sleep(0.001)
    return after


def _wait_for_clock(paths: Iterable[Path], place: Path) -> None:
    """The host's clock, which stamped the copy, may be a little ahead of this machine's."""
    newest = max((path.lstat().st_ctime_ns for path in paths), default=0)
    deadline = time.monotonic() + AHEAD
    while now(place) <= newest and time.monotonic() < deadline:
        time.sleep(0.01)


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and on the disk."""
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(path)
    sync(path.parent)


def sync(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
