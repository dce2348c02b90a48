"""Make a jail and run Firecracker's jailer in it: `python -I -S jail.py ORDER`, ORDER as JSON. Root runs this.

A program of its own, standard library only: it leaves the host's namespaces and does not come back. All of the jail is
a file system in memory that only these processes see; what is on the host's disks appears in it by mounts, and to its
user as his, while on the disk it stays root's ("idmapped", mount_setattr(2)). So nothing is left by whatever death.

`jail` writes ORDER, for `op` run:

    mount     a directory; the jail's file system is mounted there
    root      below that: what the jailer will make its root directory
    room      bytes that the jail's file system may have
    uid, gid  whose all of this is, inside
    binds     rows of [path, name in the root, ro | rw | dir | block]
    argv      the jailer

and for `op` try, which says what of this is not possible here: `paths`, directories to show; uid, gid, mount, room.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import stat
import sys
from collections.abc import Iterator
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
ALONE = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
MS_NOSUID, MS_REC, MS_PRIVATE = 2, 16384, 1 << 18
PR_SET_PDEATHSIG = 1
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC, ATTR_IDMAP = 0x1, 0x2, 0x4, 0x8, 0x00100000
LIBC = ctypes.CDLL(None, use_errno=True)


class Attributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


def check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    """Errors say so."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{what}: {error.strerror}") from None


def mapping(uid: int, gid: int) -> int:
    """A user namespace in which the ids 0 are `uid` and `gid`: its descriptor. It lives as long as that."""
    told, tell = os.pipe()
    wait, done = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(done)  # so that our end is its end, too
        if LIBC.unshare(CLONE_NEWUSER) == 0:
            os.write(tell, b"!")
            os.read(wait, 1)
        os._exit(0)
    try:
        os.close(tell)
        if not os.read(told, 1):
            raise OSError("the kernel gives root no user namespace")
        for kind, own in (("uid", uid), ("gid", gid)):
            path = f"/proc/{child}/{kind}_map"
            with doing(f"a map of {kind}s"), open(path, "w", encoding="ascii") as table:  # noqa: PTH123 - no more imports
                table.write(f"0 {own} 1\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for each in (told, wait, done):
            os.close(each)
        os.waitpid(child, 0)


def shown(path: str, flags: int, ids: int | None) -> int:
    """A mount of `path` that is nowhere yet. `ids`: the mapping that its files are shown with."""
    found = check(LIBC.syscall(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), OPEN_TREE_CLONE | os.O_CLOEXEC), path)
    wanted = Attributes(flags | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC, 0, 0, 0)
    if ids is not None:
        wanted.attr_set |= ATTR_IDMAP
        wanted.userns_fd = ids
    size = ctypes.sizeof(wanted)
    check(LIBC.syscall(SYS_MOUNT_SETATTR, found, b"", AT_EMPTY_PATH, ctypes.byref(wanted), size), f"idmap {path}")
    return found


def put(order: dict[str, Any], path: str, name: str, kind: str, ids: int) -> None:
    """Let something of the host's appear in the jail. A block device gets a node of its own there, nothing else can."""
    target = os.path.join(order["root"], name)  # noqa: PTH118 - no more imports
    if kind == "block":
        os.mknod(target, stat.S_IFBLK | 0o600, os.stat(path).st_rdev)  # noqa: PTH116
        os.chown(target, order["uid"], order["gid"])
        return
    if kind == "dir":
        os.mkdir(target)  # noqa: PTH102
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    mount = shown(path, ATTR_RDONLY if kind == "ro" else 0, None if kind == "dir" else ids)
    words = (mount, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)
    check(LIBC.syscall(SYS_MOVE_MOUNT, *words), f"mount {target}")
    os.close(mount)


def leave(order: dict[str, Any]) -> None:
    """Into namespaces of our own, and an empty file system that only they have."""
    check(LIBC.unshare(ALONE), "namespaces")
    check(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
    room = f"mode=755,size={order['room']},nr_inodes=256".encode()
    check(LIBC.mount(b"jail", os.fsencode(order["mount"]), b"tmpfs", MS_NOSUID, room), "mount the jail")


def furnish(order: dict[str, Any]) -> None:
    """Leave the host's namespaces; the next child is process 1 of ours."""
    ids = mapping(order["uid"], order["gid"])
    leave(order)
    os.makedirs(order["root"])  # noqa: PTH103
    for path, name, kind in order["binds"]:
        put(order, path, name, kind, ids)
    os.close(ids)
    os.setgroups([])


def first(order: dict[str, Any], alive: int) -> int:
    """Process 1 of the jail, as root: the jailer loses PR_SET_PDEATHSIG when it becomes its user, this does not.

    With it the kernel ends everything in the namespace.
    """
    check(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")
    os.write(alive, b"!")  # fails when our parent had gone before
    os.close(alive)
    child = os.fork()
    if child == 0:
        os.execv(order["argv"][0], order["argv"])  # noqa: S606 - no shell is what we want
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def run(order: dict[str, Any]) -> int:
    """The status of Firecracker; 128 + N when signal N ended it. SIGTERM ends all of the jail at once."""
    furnish(order)
    reading, writing = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os._exit(guarded(lambda: first(order, writing)))
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def try_(order: dict[str, Any]) -> int:
    """All of it goes with this process. The device is what the jailer is going to make."""
    ids = mapping(order["uid"], order["gid"])
    for path in order["paths"]:
        os.close(shown(path, ATTR_RDONLY, ids))
    leave(order)
    device = os.path.join(order["mount"], "kvm")  # noqa: PTH118 - no more imports
    with doing("make a device"):
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(10, 232))
        os.chown(device, order["uid"], order["gid"])
    return 0


def guarded(work: Any) -> int:
    try:
        return int(work())
    except OSError as error:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"cannot make the jail: {error.strerror or error}\n")
        return 1


def main() -> None:
    order = json.loads(sys.argv[1])
    sys.exit(guarded(lambda: {"run": run, "try": try_}[order["op"]](order)))


if __name__ == "__main__":
    main()
