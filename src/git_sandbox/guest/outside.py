"""Changes outside the workspace: the overlay's upper layer, compared with the start and with the image."""

from __future__ import annotations

import contextlib
import filecmp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from git_sandbox.guest import protocol, start
from git_sandbox.guest.account import home_of
from git_sandbox.guest.boot import kernel_word
from git_sandbox.guest.common import Config
from git_sandbox.guest.mounts import MS_RDONLY, mount, own_mounts
from git_sandbox.guest.start import Start
from git_sandbox.guest.system import device
from git_sandbox.guest.walk import Touched

IMAGE = "/dev/vda"
COMPARED = 64 << 20  # bytes of a file that is compared with the image's
# What a login leaves behind without anybody having done anything, and why nobody misses it. They alone keep no sandbox;
# it goes to the trash with them. `~` is the user's home, `USER` the name.
TRACES = {
    "/var/log/wtmp": "sshd's list of logins",
    "/var/log/btmp": "sshd's list of failed logins",
    "/var/log/lastlog": "sshd's list of last logins",
    "/var/log/wtmp.db": "the list of logins as Debian 13 keeps it (pam_wtmpdb)",
    "/var/log/wtmp.db-journal": "what SQLite leaves of it when a machine is killed",
    "/var/lib/wtmpdb/wtmp.db": "the same as newer versions keep it",
    "/var/lib/wtmpdb/wtmp.db-journal": "what SQLite leaves of it when a machine is killed",
    "/var/lib/lastlog/lastlog2.db": "the list of last logins as Debian 13 keeps it (pam_lastlog2)",
    "/var/lib/lastlog/lastlog2.db-journal": "what SQLite leaves of it when a machine is killed",
    "/var/lib/sudo/lectured/USER": "sudo remembers that it has explained itself",
    "~/.sudo_as_admin_successful": "a mark of sudo's by which bash does not explain it",
    "~/.bash_history": "what was typed; a shell that only exits writes one, too",
    "~/.ash_history": "the same of busybox's shell",
    "~/.cache/motd.legal-displayed": "a mark of PAM's that a notice was shown",
}
# Attributes of the overlay's own that say nothing of a change.
PLAIN = frozenset(f"trusted.overlay.{name}" for name in ("origin", "impure", "nlink", "uuid"))


def changed(began: Start, seen: Touched, disk: Path, config: Config, at: Path) -> list[bytes]:
    """Names to show, absolute in the guest; a directory only when nothing that changed is right below it.

    `seen`: what was touched below `disk`, without the workspace. `at`: where the image may be mounted for a moment.
    """
    every = seen.directories | seen.others
    top = os.fsencode(start.SYSTEM)
    inner = {path[len(top) + 1 :] for path in every if path == top or path.startswith(top + b"/")}
    elsewhere = [path for path in every if path != top and not path.startswith(top + b"/")]
    system = os.fsencode(disk / start.SYSTEM)
    left = start.not_own(began, inner - traces(config), system)
    if left:
        with image(at, foreign=bool(config.get("root"))) as lower:
            left = frozenset(path for path in left if differs(began, system, lower, path))
    above = {os.path.dirname(path) for path in left if path}  # noqa: PTH120 - bytes
    return [b"/" + path for path in left if path not in above] + [b"(disk)/" + path for path in elsewhere]


def traces(config: Config) -> set[bytes]:
    """The files of TRACES, relative to the root."""
    user = config["user"]
    assert isinstance(user, dict)  # noqa: S101 - written by our own host side
    name, home = str(user["name"]), home_of(user)
    return {os.fsencode(trace.replace("USER", name).replace("~", home))[1:] for trace in TRACES}


@contextlib.contextmanager
def image(at: Path, *, foreign: bool = False) -> Iterator[bytes]:
    """What the system is laid over, mounted where only this process sees it. Empty: it cannot be had.

    `foreign`: that is a root image, and what it lacks (`guest/roots.py`).
    """
    try:
        own_mounts()
        at.mkdir(mode=0o700, exist_ok=True)
        if foreign:
            from git_sandbox.guest import roots  # late: other machines do without

            mount("tmpfs", at, "tmpfs", 0, "mode=0700")
            layers = roots.lower(at, Path("/"), device(roots.DEVICE))
            (at / "whole").mkdir()
            mount("overlay", at / "whole", "overlay", MS_RDONLY, f"lowerdir={layers}")
            at /= "whole"
        else:
            mount_layers(at)
    except OSError:
        yield b""
        return
    yield os.fsencode(at)  # gone when this process is


def mount_layers(at: Path) -> None:
    mount(IMAGE, at, "ext4", MS_RDONLY, "noload")
    if name := kernel_word(protocol.LAYER):
        over = at.with_name(f"{at.name}-layer")
        over.mkdir(mode=0o700, exist_ok=True)
        mount(f"/dev/{name}", over, "ext4", MS_RDONLY)
        mount("overlay", at, "overlay", MS_RDONLY, f"lowerdir={over}:{at}")


def differs(began: Start, system: bytes, lower: bytes, path: bytes) -> bool:
    """Whether a touched path is another than at the start. What cannot be compared is."""
    there = os.path.join(system, path)  # noqa: PTH118 - bytes
    try:
        was = began.system.get(os.fsdecode(path))
        if os.path.isdir(there) and not os.path.islink(there):  # noqa: PTH112, PTH114 - bytes
            if was is not None:
                now = start.directory(Path(os.fsdecode(system)), path)
                return now.look != was.look or not set(was.names) <= set(now.names) or not _plain(there)
            below = os.path.join(lower, path)  # noqa: PTH118 - bytes
            return not lower or not _plain(there) or start.look(there) != start.look(below)
        above, name = os.path.split(path)
        known = began.system.get(os.fsdecode(above))
        if not lower or (known is not None and os.fsdecode(name) in known.names):
            return True
        return not _alike(there, os.path.join(lower, path))  # noqa: PTH118 - bytes
    except OSError:
        return True


def _plain(path: bytes) -> bool:
    """Whether the overlay shows what the image has below a directory as well, and at the same place."""
    attributes = [
        attribute for attribute in os.listxattr(path, follow_symlinks=False) if attribute.startswith("trusted.overlay.")
    ]
    return all(name in PLAIN for name in attributes)


def _alike(one: bytes, other: bytes) -> bool:
    """Whether a file was only copied up: opened to be written, and not written."""
    if start.look(one) != start.look(other) or not _plain(one):
        return False
    seen, was = os.lstat(one), os.lstat(other)
    if (seen.st_size, seen.st_mtime_ns, seen.st_nlink) != (was.st_size, was.st_mtime_ns, was.st_nlink):
        return False
    if stat.S_ISLNK(seen.st_mode):
        return os.readlink(one) == os.readlink(other)  # noqa: PTH115 - bytes
    if not stat.S_ISREG(seen.st_mode) or seen.st_size > COMPARED:
        return False
    return filecmp.cmp(one, other, shallow=False)
