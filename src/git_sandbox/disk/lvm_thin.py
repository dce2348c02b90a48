"""Snapshots of a base in the user's LVM thin pool: block devices, which only root can have.

The pool is never made, changed in size or removed by us; in it there is one volume for each base and one for each
sandbox. A sandbox's directory has a link to its volume's device, made before the volume: whoever removes the one knows
the other. What somebody removed by hand is found by its tag (`strays`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from git_sandbox import files, locks, paths, process
from git_sandbox.disk.delta_archive import Appended
from git_sandbox.errors import HostResourceError, StateError
from git_sandbox.later import dataclass, regex
from git_sandbox.text import one_line

CONTROL = Path("/dev/mapper/control")
UDEV = Path("/run/udev/control")  # there while udev runs
TIMEOUT = 120.0  # seconds
_POOL = regex(r"[A-Za-z0-9_.][A-Za-z0-9_.+-]{0,60}/[A-Za-z0-9_.][A-Za-z0-9_.+-]{0,60}")
_CHUNK = 1 << 20
_BASE, _SANDBOX = "sandbox-base-", "sandbox-"


def trouble(pool: str) -> str:
    """Why that pool (VG/POOL) cannot be used; nothing when it can."""
    if not _POOL.fullmatch(pool):
        return f"`{one_line(pool, limit=100)}` is not of the form VG/POOL"
    if os.geteuid() != 0:
        return "thin volumes need root"
    if process.which("lvcreate") is None or not CONTROL.exists():
        return f"lvm2 is not installed or there is no {CONTROL}"
    kind = _lvm("lvs", "--noheadings", "--options", "segtype", pool)
    if kind.returncode != 0:
        return one_line(kind.complaint)
    return "" if kind.text.strip() == "thin-pool" else f"{pool} is not a thin pool"


def lay(pool: str, image: Path, link: Path, tail: Appended | None) -> None:
    """Make a volume that shows `image`, with `tail` behind its end; `link` leads to it.

    The first sandbox of a base brings that into the pool. Raises HostResourceError when LVM refuses.
    """
    volume = Volume.beside(pool, _fresh())
    with _alone():
        base = _imported(pool, image)
        _point(link, volume)
        _do(*snapshot(base, volume, tag(paths.state_root())))
        if tail is not None:
            _do("lvextend", "--size", f"+{-(-tail.size // 512) * 512}b", volume.name)
    if tail is not None:
        with volume.device.open("r+b", buffering=0) as out:
            out.seek(image.stat().st_size)
            for chunk in tail.chunks():
                _write(out.fileno(), chunk)
            os.fsync(out.fileno())


def clone(source: Path, link: Path) -> None:
    """A snapshot of the volume that `source` leads to, which nobody writes to meanwhile."""
    activate(source)
    origin = Volume.of(source)
    volume = Volume.beside(origin.name, _fresh())
    with _alone():
        _point(link, volume)
        _do(*snapshot(origin, volume, tag(paths.state_root())))


def activate(link: Path) -> None:
    """After the host has booted, a volume may be there without its device. Raises StateError when it is gone."""
    volume = Volume.of(link)
    if not volume.device.exists() and (done := _lvm("lvchange", "-ay", "-K", volume.name)).returncode != 0:
        cause = one_line(done.complaint)
        raise StateError(f"the volume {volume.name} cannot be used", cause=cause, hint="see `lvs`")


def discard(link: Path) -> None:
    """Remove the volume that `link` leads to, if it is there, and the link. Raises HostResourceError: both stay."""
    volume = Volume.of(link)
    with _alone():
        if volume.ours and _lvm("lvs", volume.name).returncode == 0:
            _do("lvremove", "--yes", volume.name)
    link.unlink(missing_ok=True)


def strays(pool: str, needed: Callable[[], tuple[list[Path], list[Path]]]) -> int:
    """Remove our volumes that nobody needs; how many. `needed`: images of bases, and disks of sandboxes.

    It is asked while no other process of ours makes a volume.
    """
    tags = f"lv_tags={{{tag(paths.state_root())}}} || lv_tags={{{tag(paths.cache_root())}}}"
    listing = ("lvs", "--noheadings", "--options", "lv_name", "--select", tags, pool.partition("/")[0])
    with _alone():
        listed = _lvm(*listing).text.split()
        images, links = needed()
        # As the links say: a sandbox in the trash, or whose directory was renamed, still has the volume it had.
        keep = {Volume.of(path).name.split("/")[-1] for path in links} | {base_name(path) for path in images}
        gone = [name for name in listed if name not in keep]
        for name in gone:
            _do("lvremove", "--yes", Volume.beside(pool, name).name)
    return len(gone)


@dataclass(frozen=True)
class Volume:
    """`name`: VG/LV."""

    name: str

    @classmethod
    def beside(cls, other: str, name: str) -> Volume:
        """The one called `name` in the volume group of `other` (VG/LV)."""
        return cls(f"{other.partition('/')[0]}/{name}")

    @classmethod
    def of(cls, link: Path) -> Volume:
        return cls("/".join(link.readlink().parts[-2:]))

    @property
    def device(self) -> Path:
        return Path("/dev", self.name)

    @property
    def ours(self) -> bool:
        """A link may be anybody's: what does not have our kind of name is not removed."""
        return self.name.partition("/")[2].startswith(_SANDBOX)


def base_name(image: Path) -> str:
    """Of the volume with what is in `image`: bound to that file, wherever it is renamed to."""
    seen = image.stat()
    return f"{_BASE}{_digest(f'{seen.st_dev} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns}')}"


def tag(root: Path) -> str:
    """By which one directory's volumes are told from those of other users of the pool."""
    return f"git-sandbox.{_digest(os.fspath(root))}"


def snapshot(origin: Volume, volume: Volume, label: str) -> list[str]:
    """The command. `-kn`: active again after a boot. The snapshot takes no space until something is written."""
    name = volume.name.split("/")[1]
    return ["lvcreate", "--quiet", "--snapshot", "-kn", "-ay", "--addtag", label, "--name", name, origin.name]


def create(pool: str, volume: Volume, size: int, label: str) -> list[str]:
    """The command for an empty volume of `size` bytes."""
    name = volume.name.split("/")[1]
    words = ["--virtualsize", f"{size}b", "--thinpool", pool, "--addtag", label, "--name", name]
    return ["lvcreate", "--quiet", "--yes", "--wipesignatures", "n", *words]


def _imported(pool: str, image: Path) -> Volume:
    """The volume with the content of `image`, brought into the pool if it is not there; complete or absent."""
    final = Volume.beside(pool, base_name(image))
    if _lvm("lvs", final.name).returncode == 0:
        return final
    fresh = Volume.beside(pool, f"{base_name(image)}-new")
    if _lvm("lvs", fresh.name).returncode == 0:  # of a process that was killed; nobody else is at it
        _do("lvremove", "--yes", fresh.name)
    _do(*create(pool, fresh, image.stat().st_size, tag(paths.cache_root())))
    try:
        with image.open("rb") as source, fresh.device.open("r+b", buffering=0) as out:
            copy_data(source.fileno(), out.fileno(), image.stat().st_size)
            os.fsync(out.fileno())
        _do("lvchange", "--permission", "r", fresh.name)
        _do("lvrename", fresh.name, final.name)
    except BaseException:
        _lvm("lvremove", "--yes", fresh.name)
        raise
    return final


def copy_data(source: int, target: int, size: int) -> None:
    """Copy what is no hole, to the same places. Descriptors; `size` in bytes."""
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        end = os.lseek(source, at, os.SEEK_HOLE)
        os.lseek(target, at, os.SEEK_SET)
        while at < end:
            chunk = os.pread(source, min(_CHUNK, end - at), at)
            if not chunk:
                return
            _write(target, chunk)
            at += len(chunk)


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _fresh() -> str:
    """A name that no volume has. Not made of the sandbox's: a renamed one keeps its volume."""
    return f"{_SANDBOX}{os.urandom(8).hex()}"


def _point(link: Path, volume: Volume) -> None:
    if link.is_symlink():  # of an attempt that failed
        former = Volume.of(link)
        if former.ours and _lvm("lvs", former.name).returncode == 0:
            _do("lvremove", "--yes", former.name)
        link.unlink()
    link.symlink_to(volume.device)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One process of ours at a time changes volumes: what is unfinished then was left by a dead one."""
    lock = paths.private_directory(paths.cache_root()) / "thin.lock"
    with files.opened(lock, "a") as handle:
        locks.awaited(handle, within=10 * TIMEOUT, what="changes thin volumes")
        yield


def _lvm(*argv: str) -> process.Completed:
    own = {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}  # it complains about every descriptor it inherits
    if not UDEV.exists():
        own["DM_DISABLE_UDEV"] = "1"  # otherwise it leaves the devices' nodes to somebody who is not there
    return process.run(argv, env=process.environment(own), timeout=TIMEOUT)


def _do(*argv: str) -> None:
    done = _lvm(*argv)
    if done.returncode != 0:
        cause = one_line(done.complaint, limit=500)
        raise HostResourceError(f"`{argv[0]}` failed", cause=cause, hint="look at the pool with `lvs -a`")


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
