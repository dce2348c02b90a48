"""Shared by the parts of the guest's init: paths, the log, and starting programs."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from git_sandbox.guest import protocol

HERE = Path(protocol.HERE)
DISK = Path(protocol.DISK)
REPO = DISK / "repo"
TOOLS = Path(protocol.TOOLS)
OWN = HERE / "own"  # the root of our own processes, where the system's root is a stranger's (`guest/roots.py`)
BIN = Path(protocol.BIN)
SCRATCH = DISK / "scratch"  # what an export writes and nobody keeps
WORKSPACE = Path(protocol.WORKSPACE)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
Config = dict[str, object]
T = TypeVar("T")
FORKED: set[int] = set()  # processes that process 1 has begun and not yet reaped: these are ours, not the user's


def grace(config: Config) -> float:
    """Seconds between SIGTERM and SIGKILL for the user's programs."""
    return float(str(config.get("stop_timeout", 10)))


def log(text: str) -> None:
    with contextlib.suppress(OSError):
        Path("/dev/console").write_text(f"git-sandbox: {text}\n")


def background(argv: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        become(argv)
    FORKED.add(pid)
    return pid


def fork_task(task: Callable[[], object]) -> int:
    """Run `task` in a child; when it fails, the log says so. The child's process id."""
    pid = os.fork()
    if pid == 0:
        try:
            task()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - a child of init must end here whatever happened
            log(f"failed: {error!r}")
        finally:
            os._exit(1)
    FORKED.add(pid)
    return pid


def default_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)


def shed(uid: int, gid: int, keep: int | None = None) -> None:
    """Make a fork of process 1 an ordinary process of a user's, with descriptors 0 to 2, `keep`, and nothing else of
    ours.
    """
    default_signals()
    gc.freeze()  # what process 1 left for collection would close descriptors by number, and these are others here
    close_others(keep)
    os.environ.clear()
    os.environ.update(ENVIRONMENT)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)  # away from 0, all capabilities go with it


def close_others(keep: int | None = None) -> None:
    """All descriptors but 0 to 2 and `keep`."""
    first = 3
    if keep is not None:
        os.closerange(first, keep)
        first = max(first, keep + 1)
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def become(argv: list[str]) -> None:
    """Replace a forked child by a program; never returns."""
    try:
        default_signals()
        os.setsid()
        os.execvpe(argv[0], argv, ENVIRONMENT)
    except OSError as error:
        log(f"{argv[0]}: {error}")
    finally:
        os._exit(127)


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
