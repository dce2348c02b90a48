"""The repository as a directory of the host, over virtio-fs."""

from __future__ import annotations

import time
from pathlib import Path

from git_sandbox.guest.common import REPO, Config, fork_task
from git_sandbox.guest.mounts import MS_BIND, MS_NOATIME, mount
from git_sandbox.guest.protocol import SYSTEM
from git_sandbox.guest.system import in_system

FORGET_AT = 0.6  # of what may be remembered
FORGET_EVERY = 0.5  # seconds


def begin_share(config: Config) -> None:
    """The repository may be a directory of the host's."""
    if config.get("share"):
        in_system(config, lambda: mount_share(str(config["share"])))
        if config.get("root"):  # it can be mounted once only
            mount(f"/proc/1/fd/{SYSTEM}{REPO}", REPO, flags=MS_BIND)
        most = int(str(config["share_files"]))
        fork_task(lambda: keep_forgetting(most))


def mount_share(tag: str) -> None:
    """The repository is a directory of the host's. Whatever root of an earlier boot left at its place makes way."""
    if REPO.is_symlink() or not REPO.is_dir():
        REPO.unlink(missing_ok=True)
        REPO.mkdir(mode=0o755)
    mount(tag, REPO, "virtiofs", MS_NOATIME)


def keep_forgetting(most: int) -> None:
    """The host's end holds a descriptor of every file this kernel remembers, and may have so many only."""
    caches = Path("/proc/sys/vm/drop_caches")
    while True:
        if remembered(Path("/proc/slabinfo").read_text()) > most * FORGET_AT:
            caches.write_text("2")  # names and inodes that nobody uses; what was read of them with it
        time.sleep(FORGET_EVERY)


def remembered(slabinfo: str) -> int:
    """How many files of virtio-fs the kernel has in memory."""
    rows = (line.split() for line in slabinfo.splitlines())
    return next((int(row[1]) for row in rows if row and row[0] == "fuse_inode"), 0)
