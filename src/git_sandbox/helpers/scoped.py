"""Run a program that reaches no abstract socket from before: `python -I -S scoped.py PROGRAM ARGUMENT…`.

Those are a matter of the network namespace, so whoever works on this host's network would reach X11's and D-Bus's.
Landlock says no since Linux 6.12 (landlock(7), LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET). A program of its own, standard
library only, because a thread cannot say so of another program it is about to start.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

CREATE, RESTRICT = 444, 446  # landlock_create_ruleset(2), landlock_restrict_self(2): the same number everywhere
ASK_VERSION = 1
SCOPES = 6  # the version of the interface that has them
ABSTRACT_SOCKETS = 1
PR_SET_NO_NEW_PRIVS = 38
LIBC = ctypes.CDLL(None, use_errno=True)


def possible() -> bool:
    """Whether this kernel has it, and has it switched on."""
    return bool(LIBC.syscall(CREATE, None, 0, ASK_VERSION) >= SCOPES)


def check(result: int, what: str) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def restrict() -> None:
    """For this process and all that it starts. Nothing is said of files and ports, so mounting stays allowed."""
    attributes = struct.pack("=QQQ", 0, 0, ABSTRACT_SOCKETS)
    rules = check(LIBC.syscall(CREATE, attributes, len(attributes), 0), "landlock_create_ruleset")
    check(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    check(LIBC.syscall(RESTRICT, rules, 0), "landlock_restrict_self")
    os.close(rules)


def main(argv: list[str]) -> int:
    restrict()
    os.execvp(argv[0], argv)  # noqa: S606 - what it is for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
