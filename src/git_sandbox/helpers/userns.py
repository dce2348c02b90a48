"""Enters a user namespace of subordinate ids and does one thing there: `python -I -S userns.py ORDER`, ORDER as JSON.

A program of its own, standard library only: it changes who it is, and then does not come back. `idspace` writes ORDER:

    op        serve | own | remove | measure | run
    place     the directory it is about (not for `run`)
    uids      rows of [id inside, id outside, count]; `gids` alike. Empty: no namespace, the caller is root and stays so
    direct    the caller is root and writes the maps himself; else newuidmap(1) and newgidmap(1) do
    parent    process id of whom this is started for: when that has ended, nothing is served
    argv      of `serve` and `run`: the program
    scoped    of `run`: how abstract sockets of this host are kept out of its reach (`scoped.way`); empty: they are not
    program   of `serve`: its file
    confined  of `serve`: whether `argv` is of one on PATH that runs it; that finds what is served at STAGED
    copied    of `serve`, confined: a copy of the program is at PROGRAM, for it is where nobody may go
    base      of `own`: [uid, gid] inside that owner 0 gets, and the ids after it accordingly
    owner     of `own`: [uid, gid] for every file, or null: those it has, from `base` on
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable
from typing import Any

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1
NOBODY, COUNT = 65534, 65536
DESCRIPTORS = 1_000_000  # what virtiofsd would like to have
TREE = "tree"  # what is served, below `place`
SERVED = "/mnt"  # where the served directory is in the server's own view of the file system
STAGED, PROGRAM = f"{SERVED}/{TREE}", f"{SERVED}/program"
LIBC = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def enter(order: dict[str, Any]) -> None:
    """Become id 0 of a new user namespace. The maps are written by a child that has stayed outside."""
    if not order["uids"]:
        return
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        ok = bool(os.read(reading, 1)) and write_maps(os.getppid(), order)
        os._exit(0 if ok else 1)
    try:
        check(LIBC.unshare(CLONE_NEWUSER), "user namespaces are not allowed here")
        os.write(writing, b"!")
    finally:
        os.close(writing)
        _, status = os.waitpid(child, 0)
    if status:
        raise OSError("the kernel, or newuidmap, refuses these subordinate ids")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def write_maps(pid: int, order: dict[str, Any]) -> bool:
    for kind in ("uid", "gid"):
        rows = order[f"{kind}s"]
        if order["direct"]:
            with open(f"/proc/{pid}/{kind}_map", "w", encoding="ascii") as target:  # noqa: PTH123 - no more imports
                target.write("".join(f"{inside} {outside} {count}\n" for inside, outside, count in rows))
            continue
        words = [f"new{kind}map", str(pid), *(str(number) for row in rows for number in row)]
        mapper = os.posix_spawnp(words[0], words, os.environ)
        if os.waitpid(mapper, 0)[1]:
            return False
    return True


def serve(order: dict[str, Any]) -> None:
    """Run a program that finds the directory at SERVED, in a mount namespace of its own, and nobody's rights."""
    program = os.open(order["program"], os.O_RDONLY)  # by descriptor: who is nobody cannot go through private homes
    place = os.open(order["place"], os.O_PATH | os.O_DIRECTORY)
    more_descriptors()
    enter(order)
    os.fchdir(place)
    check(LIBC.unshare(CLONE_NEWNS), "mount namespaces are not allowed here")
    check(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
    if order["confined"]:
        stage(program if order["copied"] else None)
    else:
        bind(TREE, SERVED)
    os.close(place)
    os.chdir("/")
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # once more: it is lost with a change of ids
    if os.getppid() == order["parent"]:
        if order["confined"]:
            os.execvpe(order["argv"][0], order["argv"], dict(os.environ))  # noqa: S606 - no shell is what we want
        os.execve(program, order["argv"], dict(os.environ))  # noqa: S606


def bind(source: str, target: str) -> None:
    check(LIBC.mount(source.encode(), target.encode(), None, MS_BIND, None), f"mount {target}")


def stage(program: int | None) -> None:
    """Both side by side in an empty file system at SERVED. A file that is open cannot be mounted: its mount is another
    namespace's by now.
    """
    left = 0 if program is None else os.fstat(program).st_size
    check(LIBC.mount(b"tmpfs", SERVED.encode(), b"tmpfs", 0, f"mode=755,size={left + 65536}".encode()), "mount tmpfs")
    os.mkdir(STAGED)  # noqa: PTH102
    bind(TREE, STAGED)
    if program is not None:
        copy = os.open(PROGRAM, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o700)
        while os.sendfile(copy, program, None, 1 << 20):
            pass
        os.close(copy)


def run(order: dict[str, Any]) -> None:
    """Run a program as id 0 of the namespace, which is nobody outside of it."""
    restrict = restriction() if order["scoped"] else None  # before: who is nobody cannot go where it is
    enter(order)
    if restrict is not None:
        restrict(order["scoped"], keep_privileges=True)
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # once more: it is lost with a change of ids
    if os.getppid() == order["parent"]:
        os.execvpe(order["argv"][0], order["argv"], dict(os.environ))  # noqa: S606 - no shell is what we want


def restriction() -> Callable[..., None]:
    """`scoped.restrict`, from beside this file: `-I` leaves that out of what is searched."""
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))  # noqa: PTH120 - no more imports
    from git_sandbox.helpers import scoped

    return scoped.restrict


def more_descriptors() -> None:
    """Every file the guest remembers is an open descriptor of its server. Only root may raise the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (max(hard, DESCRIPTORS), hard):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return


def own(order: dict[str, Any]) -> None:
    """Give every file below the directory to subordinate ids. Set-id bits, which that takes away, are put back."""
    place = os.open(order["place"], os.O_PATH | os.O_DIRECTORY)
    os.fchdir(place)
    if order["owner"]:
        one_group(os.getgid())
    enter(order)
    base, owner = order["base"], order["owner"]
    os.chown(".", *base)  # first: from then on it is told by its owner whose the rest is
    for path, seen in everything():
        uid, gid = owner or ((number if number < COUNT else NOBODY) for number in (seen.st_uid, seen.st_gid))
        os.chown(path, base[0] + uid, base[1] + gid, follow_symlinks=False)
        if stat.S_ISREG(seen.st_mode) and seen.st_mode & (stat.S_ISUID | stat.S_ISGID):
            os.chmod(path, stat.S_IMODE(seen.st_mode))  # noqa: PTH101 - a regular file of ours


def one_group(gid: int) -> None:
    """Files of other groups the caller is in: a namespace without these groups could not give them away."""
    for path, seen in everything():
        if seen.st_gid != gid:
            os.chown(path, -1, gid, follow_symlinks=False)


def everything() -> list[tuple[str, os.stat_result]]:
    processes, waiting = [], [TREE]
    while waiting:
        path = waiting.pop()
        seen = os.lstat(path)
        processes.append((path, seen))
        if stat.S_ISDIR(seen.st_mode):
            with os.scandir(path) as entries:
                waiting += [entry.path for entry in entries]
    return processes


def remove(order: dict[str, Any]) -> None:
    """By rm(1): a guest can nest directories deeper than any path is long."""
    os.chdir(os.path.dirname(order["place"]))  # noqa: PTH120
    enter(order)
    os.execvp("rm", ["rm", "-rf", "--", os.path.basename(order["place"])])  # noqa: S606, PTH119


def measure(order: dict[str, Any]) -> None:
    """By du(1), for the same reason: it writes how many bytes the directory takes."""
    os.chdir(os.path.dirname(order["place"]))  # noqa: PTH120
    enter(order)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)  # what it cannot read has names of a guest's
    os.execvp("du", ["du", "-sx", "--block-size=1", "--", os.path.basename(order["place"])])  # noqa: S606, PTH119


def main() -> None:
    order = json.loads(sys.argv[1])
    try:
        {"serve": serve, "own": own, "remove": remove, "measure": measure, "run": run}[order["op"]](order)
    except OSError as error:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
