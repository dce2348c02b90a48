"""Runs a program that cannot reach abstract sockets created before: `python -I -S scoped.py PROGRAM ARGUMENT…`.

Those are a matter of the network namespace, so whoever works on this host's network would reach X11's and D-Bus's.
Landlock says no since Linux 6.12 (landlock(7), LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET). Where it cannot, a filter of
system calls (seccomp(2)) leaves no unix socket that could be connected or sent from: pairs of streams are all there is.

A program of its own, standard library only, because a thread cannot say so of another program it is about to start.
`userns`, which is one already, imports it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

LANDLOCK, FILTER = "landlock", "filter"  # the ways
CREATE, RESTRICT = 444, 446  # landlock_create_ruleset(2), landlock_restrict_self(2): the same number everywhere
ASK_VERSION = 1
SCOPES = 6  # the version of the interface that has them
ABSTRACT_SOCKETS = 1
PR_SET_NO_NEW_PRIVS, PR_GET_SECCOMP, PR_SET_SECCOMP, MODE_FILTER = 38, 21, 22, 2
LIBC = ctypes.CDLL(None, use_errno=True)

# Of each processor: what the kernel calls it (linux/audit.h), and the numbers of socket(2) and socketpair(2).
PROCESSORS = {"x86_64": (0xC000003E, 41, 53), "aarch64": (0xC00000B7, 198, 199)}
IO_URING_SETUP = 425  # it makes sockets that no filter sees
X32 = 0x40000000  # x86_64 has a second table of calls from there
NUMBER, PROCESSOR, FIRST, SECOND = 0, 4, 16, 24  # of struct seccomp_data; the lower half of an argument: an int
LOAD, MASK, EQUAL, AT_LEAST, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06  # linux/bpf_common.h
ALLOW, REFUSE = 0x7FFF0000, 0x00050000  # linux/seccomp.h


def landlock() -> bool:
    """Whether this kernel has the scope, and has it switched on."""
    return bool(LIBC.syscall(CREATE, None, 0, ASK_VERSION) >= SCOPES)


def filters() -> bool:
    """Whether the filter is known for this processor, and this kernel has filters."""
    return platform.machine() in PROCESSORS and bool(LIBC.prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0)


def ways() -> list[str]:
    """How it can be done on this host, the best first."""
    return [name for name, there in ((LANDLOCK, landlock()), (FILTER, filters())) if there]


def way() -> str:
    """The best one; empty where there is none."""
    return next(iter(ways()), "")


def check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def restrict(how: str, *, keep_privileges: bool = False) -> None:
    """For this process and all that it starts. Nothing is said of files and ports, so mounting stays allowed.

    `keep_privileges`: set-id programs go on working; for root of a user namespace, of whom the kernel asks no less.
    """
    if not keep_privileges:
        check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    {LANDLOCK: scope, FILTER: block}[how]()


def scope() -> None:
    attributes = struct.pack("=QQQ", 0, 0, ABSTRACT_SOCKETS)
    rules = check(LIBC.syscall(CREATE, attributes, len(attributes), 0), "landlock_create_ruleset")
    check(LIBC.syscall(RESTRICT, rules, 0), "landlock_restrict_self")
    os.close(rules)


def block() -> None:
    words = program(*PROCESSORS[platform.machine()])
    buffer = ctypes.create_string_buffer(words, len(words))
    head = struct.pack("HP", len(words) // 8, ctypes.addressof(buffer))
    check(LIBC.prctl(PR_SET_SECCOMP, MODE_FILTER, head, 0, 0), "seccomp")


def program(processor: int, sockets: int, pairs: int) -> bytes:
    """The filter. Calls for another processor (i386) or by the second table, and io_uring, are as if not there.

    A pair of datagram sockets (raw ones are that, too) is refused: each can send to any name. A pair of streams cannot.
    """
    absent, family = REFUSE | errno.ENOSYS, REFUSE | errno.EAFNOSUPPORT
    rows: list[tuple[int, int, int, int]] = [
        (LOAD, PROCESSOR, 0, 0), (EQUAL, processor, 1, 0), (RETURN, absent, 0, 0),
        (LOAD, NUMBER, 0, 0), (AT_LEAST, X32, 0, 1), (RETURN, absent, 0, 0),
        (EQUAL, IO_URING_SETUP, 0, 1), (RETURN, absent, 0, 0),
        (EQUAL, sockets, 2, 0), (EQUAL, pairs, 4, 0), (RETURN, ALLOW, 0, 0),
        (LOAD, FIRST, 0, 0), (EQUAL, socket.AF_UNIX, 0, 7), (RETURN, family, 0, 0),  # of socket(2)
        (LOAD, FIRST, 0, 0), (EQUAL, socket.AF_UNIX, 0, 4),  # of socketpair(2)
        (LOAD, SECOND, 0, 0), (MASK, 0xF, 0, 0),
        (EQUAL, socket.SOCK_STREAM, 1, 0), (EQUAL, socket.SOCK_SEQPACKET, 0, 1), (RETURN, ALLOW, 0, 0),
        (RETURN, family, 0, 0),
    ]  # fmt: skip
    return b"".join(struct.pack("HBBI", code, yes, no, value) for code, value, yes, no in rows)


def main(argv: list[str]) -> int:
    restrict(argv[0])
    os.execvp(argv[1], argv[1:])  # noqa: S606 - what it is for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
