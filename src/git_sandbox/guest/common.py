"""What the parts of the guest's init share: places, the log, and starting programs."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

HERE = Path("/run/git-sandbox")
DISK = HERE / "disk"
REPO = DISK / "repo"
WORKSPACE = Path("/workspace")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Config = dict[str, object]
# The host looks for this on the console, and for what initramfs-init.sh says.
UNUSABLE = "cannot use the workspace disk"


def log(text: str) -> None:
    with contextlib.suppress(OSError):
        Path("/dev/console").write_text(f"git-sandbox: {text}\n")


def background(argv: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        become(argv)
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
    return pid


def become(argv: list[str]) -> None:
    """Replace a forked child by a program; never returns."""
    try:
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(each, signal.SIG_DFL)
        os.setsid()
        os.execvpe(argv[0], argv, {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"})
    except OSError as error:
        log(f"{argv[0]}: {error}")
    finally:
        os._exit(127)


def write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
