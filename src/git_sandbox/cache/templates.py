"""Saved machines for warm starts: one directory each, complete or absent, and never required.

A template is good until the host boots again: nothing here has to be on the disk to be used, so nothing waits for the
disk, and what a power failure leaves is not believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, paths
from git_sandbox.cache import entries
from git_sandbox.cache.entries import Entries
from git_sandbox.errors import SandboxError
from git_sandbox.later import dataclass

KEPT = 12  # templates, the most recently used: one for each kind of machine and layer
KEPT_BYTES = 4 << 30  # of all together
READ = 8 << 20  # bytes; files up to this size are compared by what is in them
_INFO = "template.json"
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
    """Why a warm start failed; kept beside the templates as `KEY.failed`."""

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
        return self.root / _INFO

    @property
    def info(self) -> TemplateInfo:
        """Raises OSError, ValueError."""
        return jsontext.load(self.description, TemplateInfo)

    @property
    def size(self) -> int:
        """Bytes on disk; the memory is sparse."""
        return entries.size(self.root)

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


def _entries() -> Entries:
    return Entries(root(), _INFO)


def every() -> list[Template]:
    return [Template(path) for path in _entries().every()]


@contextlib.contextmanager
def used(key: str) -> Iterator[Template | None]:
    """The template with that key, not to be removed while the block runs; None when there is none that is sound."""
    template = Template(root() / key)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_entries().used(template.root, "removes this template"))
        except OSError:
            yield None
            return
        if not template.sound():
            yield None
            return
        with contextlib.suppress(OSError):  # a cache that cannot be written still has good templates
            os.utime(template.description)
        yield template


@contextlib.contextmanager
def building() -> Iterator[Path | None]:
    """A private place to build in, for one process at a time; None when another one builds."""
    own = _entries()
    with own.turn(within=0.0, what="") as ours:
        if not ours:
            yield None
            return
        with own.building() as place:
            yield place


def publish(place: Path, key: str, image: str, shape: str) -> None:
    """Make what was built in `place` the template `key`, and let old ones go."""

    def described() -> bytes:
        return msgspec.json.encode(TemplateInfo(key, image, host_boot(), shape, _files(place), _digests(place)))

    discard(Template(root() / key))
    _evict(_entries().publish(place, key, described, durable=False))


def _files(place: Path) -> dict[str, tuple[int, int]]:
    seen = {path.name: path.stat() for path in place.iterdir() if path.name != _INFO}
    return {name: (state.st_size, state.st_mtime_ns) for name, state in seen.items()}


def _digests(place: Path) -> dict[str, str]:
    small = [name for name, (size, _) in _files(place).items() if size <= READ and name != "initrd"]
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in small}


def _evict(fresh: Path) -> None:
    """Remove what the host's last boot left, then the longest unused, until number and size are within bounds."""
    others = [template for template in every() if template.root != fresh]
    stale = [template for template in others if not template.sound()]
    good = [template for template in others if template not in stale]
    good.sort(key=lambda template: template.description.stat().st_mtime, reverse=True)
    room = KEPT_BYTES - Template(fresh).size
    for number, template in enumerate(good, start=1):
        room -= template.size
        if number >= KEPT or room < 0:
            stale.append(template)
    for template in stale:
        remove(template)


def remove(template: Template) -> bool:
    """False while a machine is being started from it, and where nothing can be removed. One that runs keeps its pages:
    they are only unlinked.
    """
    try:
        return _entries().remove_unused(template.root)
    except BlockingIOError:
        return False


def discard(template: Template) -> None:
    """Remove it even if a machine is being started from it: that start fails and a cold one follows."""
    _entries().remove(template.root)


def prune() -> int:
    """Remove all templates, what dead builds left and the notes about failures; the number of templates that went."""
    with contextlib.suppress(OSError):
        for note in root().glob("*.failed"):
            note.unlink(missing_ok=True)
    gone = sum(remove(template) for template in every())
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
    noted = {}
    for note in root().glob("*.failed"):
        with contextlib.suppress(OSError, ValueError):
            failure = jsontext.load(note, Failure)
            if time.time() - failure.when < NOT_AGAIN_WITHIN:
                noted[note.stem] = failure
    return noted
