"""Where saved machines are kept for warm starts: one directory each, complete or absent, and never required.

A template is good until the host boots again: nothing here has to be on the disk to be used, so nothing waits for the
disk, and what a power failure leaves is not believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, locks, paths
from git_sandbox.errors import SandboxError

KEPT = 4  # templates, the most recently used
KEPT_BYTES = 4 << 30  # of all together
READ = 8 << 20  # bytes; files up to this size are compared by what is in them
BLOCK = 512  # bytes; what st_blocks counts
NOT_AGAIN_WITHIN = 600.0  # seconds after a failure


class TemplateInfo(msgspec.Struct, frozen=True):
    """`template.json`. `files`: name -> size and time of change (ns) of the others, which never change again.

    `digests`: name -> SHA-256 of the small ones. QEMU would take up a damaged state without a word; the memory is too
    large to be read.
    """

    key: str
    image: str
    boot_id: str  # of the host
    shape: str  # for people
    files: dict[str, tuple[int, int]]
    digests: dict[str, str]


class Failure(msgspec.Struct, frozen=True):
    """Why a warm start did not work; kept beside the templates as `KEY.failed`."""

    reason: str
    when: float  # seconds since the epoch


@dataclass(frozen=True)
class Template:
    root: Path

    @property
    def initrd(self) -> Path:
        return self.root / "initrd"

    @property
    def description(self) -> Path:
        return self.root / "template.json"

    @property
    def info(self) -> TemplateInfo:
        """Raises OSError, ValueError."""
        return jsontext.load(self.description, TemplateInfo)

    @property
    def size(self) -> int:
        """Bytes on disk; the memory is sparse."""
        return sum(each.stat().st_blocks * BLOCK for each in self.root.iterdir())

    def sound(self) -> bool:
        """Whether it is what was published, on this boot of the host."""
        try:
            info = self.info
            unchanged = info.boot_id == host_boot() and info.files == _files(self.root)
            return unchanged and info.digests == _digests(self.root)
        except (OSError, ValueError):
            return False


def root() -> Path:
    return paths.cache_root() / "templates"


def host_boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def every() -> list[Template]:
    found = root().iterdir() if root().is_dir() else []
    return [Template(each) for each in sorted(found) if not each.name.startswith(".") and each.is_dir()]


@contextlib.contextmanager
def used(key: str) -> Iterator[Template | None]:
    """The template with that key, not to be removed while the block runs; None when there is none that is sound."""
    found = Template(root() / key)
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(found.description.open("rb"))
        except OSError:
            yield None
            return
        locks.awaited(handle, within=locks.BRIEFLY, what="removes this template", shared=True)
        if not found.sound():
            yield None
            return
        with contextlib.suppress(OSError):  # a cache that cannot be written still has good templates
            os.utime(found.description)
        yield found


@contextlib.contextmanager
def building() -> Iterator[Path | None]:
    """A place to build in, for one process at a time; None when another one builds. What died in here goes first."""
    here = paths.private_directory(root())
    with files.opened(here / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        _sweep(here)
        place = here / f".build-{os.getpid()}"
        place.mkdir(mode=0o700)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _sweep(here: Path) -> None:
    """Remove what dead builds left: as large as a machine's memory. Only for who holds the lock."""
    for stale in here.glob(".build-*"):
        shutil.rmtree(stale, ignore_errors=True)


def publish(place: Path, key: str, image: str, shape: str) -> None:
    """Make what was built in `place` the template `key`, and let old ones go."""
    info = TemplateInfo(key, image, host_boot(), shape, _files(place), _digests(place))
    files.write(place / "template.json", msgspec.json.encode(info))
    final = root() / key
    if final.exists():
        discard(Template(final))
    place.rename(final)
    _evict(final)


def _files(place: Path) -> dict[str, tuple[int, int]]:
    seen = {each.name: each.stat() for each in place.iterdir() if each.name != "template.json"}
    return {name: (found.st_size, found.st_mtime_ns) for name, found in seen.items()}


def _digests(place: Path) -> dict[str, str]:
    small = [name for name, (size, _) in _files(place).items() if size <= READ and name != "initrd"]
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in small}


def _evict(fresh: Path) -> None:
    """Remove what the host's last boot left, then the longest unused, until number and size are within bounds."""
    others = [each for each in every() if each.root != fresh]
    stale = [each for each in others if not each.sound()]
    good = [each for each in others if each not in stale]
    good.sort(key=lambda each: each.description.stat().st_mtime, reverse=True)
    room = KEPT_BYTES - Template(fresh).size
    for number, each in enumerate(good, start=1):
        room -= each.size
        if number >= KEPT or room < 0:
            stale.append(each)
    for each in stale:
        remove(each)


def remove(template: Template) -> bool:
    """False while a machine is being started from it, and where nothing can be removed. One that runs keeps its pages:
    they are only unlinked.
    """
    try:
        with template.description.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            discard(template)
    except BlockingIOError:
        return False
    except OSError:  # half removed already
        discard(template)
    return not template.root.exists()


def discard(template: Template) -> None:
    """Remove it even if a machine is being started from it: that start fails and a cold one follows."""
    gone = root() / f".build-old-{time.time_ns()}"
    with contextlib.suppress(OSError):
        template.root.rename(gone)  # never seen in part
        shutil.rmtree(gone, ignore_errors=True)


def prune() -> int:
    """Remove all templates, what dead builds left and the notes about failures; the number of templates that went."""
    with contextlib.suppress(OSError):
        for note in root().glob("*.failed"):
            note.unlink(missing_ok=True)
    gone = sum(remove(each) for each in every())
    if root().is_dir():
        with contextlib.suppress(OSError, SandboxError), building():
            pass
    return gone


def failed(key: str, reason: str) -> None:
    """Note that starting from (or making) that template did not work, so that it is not tried again and again.

    Where that cannot be noted, in a cache nobody may write for one, it is tried again: no reason to fail.
    """
    discard(Template(root() / key))
    with contextlib.suppress(OSError, SandboxError):
        paths.private_directory(root())
        files.write(root() / f"{key}.failed", msgspec.json.encode(Failure(reason, time.time())))


def failures() -> dict[str, Failure]:
    """What did not work lately, by key."""
    found = {}
    for note in root().glob("*.failed"):
        with contextlib.suppress(OSError, ValueError):
            told = jsontext.load(note, Failure)
            if time.time() - told.when < NOT_AGAIN_WITHIN:
                found[note.stem] = told
    return found
