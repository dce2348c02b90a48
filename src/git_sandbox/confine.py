"""Run a program where it sees only the files it needs: bubblewrap(1), with namespaces of its own.

For what works on data that somebody else made. Pure functions build the command line; `available` says whether this
host lets us.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from git_sandbox import process

PROGRAM = "bwrap"
MERGED = ("bin", "sbin", "lib", "lib32", "lib64")  # links into /usr on every distribution that is supported
PROBE_TIMEOUT = 20.0  # seconds


@dataclass(frozen=True)
class View:
    """What a confined program sees besides `/usr`: pairs of (path here, path there).

    `network`: this host's, else none. `root`: keep the user namespace the program is started in, with all of its
    capabilities, for one that mounts and changes its root.
    """

    readonly: tuple[tuple[Path, str], ...] = ()
    writable: tuple[tuple[Path, str], ...] = ()
    network: bool = False
    root: bool = False


def argv(command: Sequence[str], view: View, directory: str = "/") -> list[str]:
    """The command line that runs `command`, an absolute path or a program of `/usr`, in `directory` of its view."""
    words = [PROGRAM, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += [] if view.network else ["--unshare-net"]
    words += ["--cap-add", "ALL"] if view.root else ["--unshare-user"]
    words += ["--die-with-parent", "--new-session", "--ro-bind", "/usr", "/usr"]
    for name in MERGED:
        words += ["--symlink", f"usr/{name}", f"/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--dir", "/var/tmp"]  # noqa: S108
    for option, pairs in (("--ro-bind-try", view.readonly), ("--bind", view.writable)):
        for here, there in pairs:
            words += [option, os.fspath(here), there]
    return [*words, "--chdir", directory, "--", *command]


@functools.cache
def available() -> bool:
    """Whether bubblewrap is installed and the kernel lets this user make its namespaces."""
    if process.which(PROGRAM) is None:
        return False
    return process.run(argv(["true"], View()), timeout=PROBE_TIMEOUT).returncode == 0
