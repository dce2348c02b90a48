"""The user's processes in the guest, and how they end: SIGTERM, a grace period, SIGKILL.

Everything is the user's but the kernel's threads, process 1, what that has forked (`common.FORKED`), and their
children. Of sshd's children those are the user's that lead a session: shells and commands.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from git_sandbox.guest.common import FORKED

PROC = Path("/proc")
KERNEL = 0x00200000  # flag of the kernel's threads (PF_KTHREAD, linux/sched.h)
SHELLS = ("ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "tcsh", "zsh")
HOLDERS = ("tmux: server", "screen")  # names of processes
NAMED = 10  # processes that an answer names
PAUSE = 0.05  # seconds between two looks
KILLED_WITHIN = 5.0  # seconds in which a killed process goes, unless the kernel holds it
EXIT_CODES = 0.5  # seconds for a session's shell to say how its command was killed


class Process(NamedTuple):
    """The beginning of /proc/PID/stat (proc(5)). `foreground`: process group its terminal listens to, or -1."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int
    terminal: int
    foreground: int
    flags: int

    @property
    def leads(self) -> bool:
        return self.pid == self.session


def look(pid: int) -> Process | None:
    try:
        text = (PROC / str(pid) / "stat").read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    before, _, after = text.rpartition(")")
    state, *numbers = after.split()[:7]
    return Process(pid, before.partition("(")[2], state, *map(int, numbers))


def everybody() -> dict[int, Process]:
    """Every process but threads of the kernel and zombies."""
    seen = [look(int(pid)) for pid in os.listdir(PROC) if pid.isdecimal()]  # noqa: PTH208 - hundreds of names
    return {
        process.pid: process for process in seen if process and not process.flags & KERNEL and process.state not in "ZX"
    }


def of_user() -> list[Process]:
    there = everybody()
    ours: dict[int, bool] = {0: True, 1: True, os.getpid(): True, **dict.fromkeys(FORKED, True)}

    def is_ours(pid: int) -> bool:
        if pid not in ours:
            process = there.get(pid)
            ours[pid] = False
            ours[pid] = bool(process and process.parent > 1 and is_ours(process.parent) and not _of_session(process))
        return ours[pid]

    return [process for process in there.values() if not is_ours(process.pid)]


def _of_session(process: Process) -> bool:
    """Whether one whose parent is ours is a session's shell or command."""
    return process.leads and program(process.parent).startswith("sshd")


def program(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "exe").readlink().name
    return ""


def send(processes: Iterable[Process], *numbers: signal.Signals) -> None:
    for process in processes:
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def ask() -> None:
    """SIGTERM for all; SIGCONT, without which a stopped one would not hear of it.

    Not for who holds the terminals of others: it would take them away at once, and their SIGHUP would cut off what they
    do because of SIGTERM. It ends with the last of them.
    """
    send([process for process in of_user() if process.name not in HOLDERS], signal.SIGTERM, signal.SIGCONT)


def wait(seconds: float) -> list[Process]:
    """Who is left when all have ended or `seconds` are over."""
    deadline = time.monotonic() + seconds
    while True:
        left = of_user()
        hang_up(left)
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(PAUSE)


def hang_up(left: list[Process]) -> None:
    """SIGHUP for interactive shells, which take no notice of SIGTERM. One that still has a program would pass it on to
    that, which may be saving its work because of SIGTERM: so the program's end comes first.
    """
    sessions = [process.session for process in left]
    alone = [process for process in left if process.leads and process.terminal and sessions.count(process.session) == 1]
    send([process for process in alone if is_prompt(process)], signal.SIGHUP)


def is_prompt(process: Process) -> bool:
    """Whether a process is a shell that was given neither a script nor a command."""
    try:
        words = (PROC / str(process.pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")[1:]
    except OSError:
        return False
    return process.name in SHELLS and all(
        word.startswith(b"--") or (word.startswith(b"-") and b"c" not in word) for word in words
    )


def kill() -> list[Process]:
    """SIGKILL for all, those last that can tell the host how a command ended. Who is left: the kernel holds them."""
    _until_gone(lambda process: not _of_session(process), EXIT_CODES)
    return _until_gone(lambda _each: True, KILLED_WITHIN)


def _until_gone(meant: Callable[[Process], bool], seconds: float) -> list[Process]:
    deadline = time.monotonic() + seconds
    while True:
        left = [process for process in of_user() if meant(process)]
        send(left, signal.SIGSTOP)  # first all of them: who is stopped starts no others
        send(left, signal.SIGKILL)
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(PAUSE / 10)


def end(grace: float) -> None:
    """All of it: when the machine is powered off from inside."""
    ask()
    if wait(grace):
        kill()


def named(left: list[Process]) -> dict[str, object]:
    """For the host: how many, and the names of some."""
    return {"count": len(left), "names": [process.name for process in left[:NAMED]]}
