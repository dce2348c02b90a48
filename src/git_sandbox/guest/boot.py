"""From the read-only image to the sandbox's own system: disks, workspace, overlay, switch of the root.

What `data/init.sh` leaves to do, in a machine that boots at once, in a template's when it is personalized.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from git_sandbox.guest import protocol
from git_sandbox.guest.common import DISK, log
from git_sandbox.guest.mounts import MS_MOVE, MS_NOATIME, MS_RDONLY, mount

OUTSIDE = 3  # descriptor of the initramfs's root, left open by init.sh
IMAGE = "/image"  # where that mounted the root image
LAYER = Path("/layer")  # and what lies over it
# noinit_itable: else the kernel writes zeros over holes of the inode tables, some 80 MB of the host's disk.
# dioread_lock: else a rename that puts a new file in an old one's place can reach the disk before its content, which is
# zeros then (git's index after `commit -a`). commit: seconds until names and sizes are written, for what is not synced.
OPTIONS = "noinit_itable,dioread_lock,commit=1"
VIRTIO = Path("/sys/bus/virtio")
BLOCK_DEVICE = "0x0002"  # virtio's number of that kind
DISKS_WITHIN = 10.0  # seconds for the disks to appear
WORKSPACE, LAID_OVER = "/dev/vdb", "/dev/dm-0"
CHUNK = 8  # sectors of a dm-snapshot: a block of the file system, so nothing is ever copied


class DiskError(OSError):
    """The workspace disk cannot be used, and the console says so."""


def disks_without_driver() -> list[str]:
    """The devices that are going to be the workspace and what is mounted besides, in their order; init.sh kept every
    driver away from them.
    """
    disks = [path for path in (VIRTIO / "devices").iterdir() if (path / "device").read_text().strip() == BLOCK_DEVICE]
    names = [path.name for path in disks if not (path / "driver").exists()]
    return sorted(names, key=lambda name: int(name.removeprefix("virtio")))


def awaited_disks() -> list[str]:
    """The same of a machine that has just started; there is one at the least."""
    end = time.monotonic() + DISKS_WITHIN
    while not (names := disks_without_driver()):
        if time.monotonic() > end:
            raise FileNotFoundError("the disks did not appear")
        time.sleep(0.05)
    return names


def kernel_word(name: str, cmdline: str = "/proc/cmdline") -> str:
    """The value of NAME=VALUE on the kernel's command line; empty without one."""
    words = (word.partition("=") for word in Path(cmdline).read_text("utf-8", "replace").split())
    return next((value for key, _, value in words if key == name), "")


def enter_system(disks: list[str], *, mode: str, base: str = "", foreign: bool = False) -> None:
    """Returns in the sandbox's own system, with its disk at `DISK`. `base`: NAME,SECTORS, see `_laid_over`. `foreign`:
    the system's root is not the tools'; returns in the latter (`guest/roots.py`).

    Raises OSError for an image, or a layer of one, that cannot be mounted.
    """
    if foreign:
        from git_sandbox.guest import (
            roots,
        )  # late, other machines do without; and here, for later nothing can be imported
    for disk in disks:
        (VIRTIO / "drivers/virtio_blk/bind").write_text(disk)
    try:
        mount(_laid_over(base) if base else WORKSPACE, DISK, "ext4", MS_NOATIME, OPTIONS)
    except (OSError, subprocess.CalledProcessError) as error:  # the latter: dmsetup's
        log(f"{protocol.CANNOT_USE}: {error}")
        raise DiskError(str(error)) from error
    os.fchdir(OUTSIDE)
    os.chroot(".")
    os.close(OUTSIDE)
    mount(f"{IMAGE}{DISK}", Path("/disk"), flags=MS_MOVE)
    system, lower = _system(mode), lower_directories(foreign=foreign)
    layers = f"lowerdir={lower},upperdir={system}/upper,workdir={system}/work"
    mount("overlay", Path("/root"), "overlay", 0, layers)
    for name in ("proc", "sys", "dev", "run"):
        mount(f"{IMAGE}/{name}", Path("/root", name), flags=MS_MOVE)
    mount("/disk", Path(f"/root{DISK}"), flags=MS_MOVE)
    if foreign:
        roots.show_tools(Path("/root"), IMAGE)
    os.chdir("/root")
    mount(".", Path("/"), flags=MS_MOVE)
    os.chroot(".")
    os.chdir("/")
    if foreign:
        roots.enter_tools()


def lower_directories(*, foreign: bool) -> str:
    """For overlayfs: the image, and over it the layer that the host names, with the packages that were added; or the
    root image.
    """
    if foreign:
        from git_sandbox.guest import roots

        return roots.lower(Path("/foreign"), Path(IMAGE), Path(IMAGE, "dev", roots.DEVICE))
    name = kernel_word(protocol.LAYER, f"{IMAGE}/proc/cmdline")
    if not name:
        return IMAGE
    LAYER.mkdir()
    mount(f"{IMAGE}/dev/{name}", LAYER, "ext4", MS_RDONLY)
    return f"{LAYER}:{IMAGE}"


def _system(mode: str) -> Path:
    """Where changes of the guest's system go. Nothing that the guest left on its disk runs in a rescue machine."""
    system = Path("/disk/system")
    if mode == protocol.RESCUE:
        system = Path("/scratch")
        system.mkdir()
        mount("tmpfs", system, "tmpfs")
    for name in ("upper", "work"):
        (system / name).mkdir(parents=True, exist_ok=True)
    return system


def _laid_over(base: str) -> str:
    """The workspace of a base that is only read and, on the second disk, the chunks that differ. What that disk has
    from SECTORS on follows the base's end.
    """
    name, _, sectors = base.partition(",")
    size, whole = (int(Path("/sys/block", device, "size").read_text()) for device in (name, "vdb"))
    table = f"0 {size} snapshot /dev/{name} {WORKSPACE} P {CHUNK}\n"
    rest = whole - int(sectors)
    table += f"{size} {rest} linear {WORKSPACE} {sectors}\n" if rest > 0 else ""
    argv = ("/usr/sbin/dmsetup", "create", "work", "--noudevsync", "--noudevrules")
    subprocess.run(argv, input=table.encode(), stdout=subprocess.DEVNULL, check=True)
    return LAID_OVER
