"""Run a program where it sees only the files it needs: bubblewrap(1), with namespaces of its own.

For what works on data that somebody else made. Pure functions build the command line; `available` says whether this
host lets us.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from git_sandbox import process

PROGRAM = "bwrap"
MERGED = ("bin", "sbin", "lib", "lib32", "lib64")  # links into /usr on every distribution that is supported
PROBE_TIMEOUT = 20.0  # seconds
PROGRAMS = Path("/usr")  # what every view has


@dataclass(frozen=True)
class View:
    """What a confined program sees besides `/usr`: pairs of (path here, path there).

    `network`: this host's, else none. `root`: keep the user namespace the program is started in, with all of its
    capabilities, for one that mounts and changes its root. `devices` of this host are there by their names.
    `first`: the command is process 1 of its namespace and stays in our process group, so that what we send reaches it;
    it has to handle SIGTERM itself.
    """

    readonly: tuple[tuple[Path, str], ...] = ()
    writable: tuple[tuple[Path, str], ...] = ()
    network: bool = False
    root: bool = False
    devices: tuple[Path, ...] = ()
    first: bool = False


def named(*paths: Path) -> tuple[tuple[Path, str], ...]:
    """Files that have the same name on both sides."""
    return tuple((each, os.fspath(each)) for each in paths)


def argv(command: Sequence[str], view: View, directory: str = "/") -> list[str]:
    """The command line that runs `command`, an absolute path or a program of `/usr`, in `directory` of its view."""
    words = [PROGRAM, "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    words += [] if view.network else ["--unshare-net"]
    words += ["--cap-add", "ALL"] if view.root else ["--unshare-user", "--cap-drop", "ALL"]
    words += ["--die-with-parent", "--as-pid-1" if view.first else "--new-session", "--ro-bind", "/usr", "/usr"]
    for name in MERGED:
        words += ["--symlink", f"usr/{name}", f"/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--dir", "/var/tmp"]  # noqa: S108
    # A root without any right still owns what is below /proc/sys, `core_pattern` of the whole host among it.
    words += [] if view.root else ["--remount-ro", "/proc"]
    bound = (
        ("--ro-bind-try", view.readonly),
        ("--bind", view.writable),
        ("--dev-bind", named(*view.devices)),
    )
    for option, pairs in bound:
        for here, there in pairs:
            words += [option, os.fspath(here), there]
    return [*words, "--chdir", directory, "--", *command]


# How the linker finds libraries, and what a library's name stands for; neither says anything about a user.
LINKER = named(Path("/etc/ld.so.cache"), Path("/etc/alternatives"))


@functools.cache
def available() -> bool:
    """Whether bubblewrap is installed and the kernel lets this user make its namespaces."""
    if process.which(PROGRAM) is None:
        return False
    return process.run(argv(["true"], View()), timeout=PROBE_TIMEOUT).returncode == 0


def fits(program: str, view: View) -> bool:
    """Whether `program` can be confined here: it is a part of what every view has, and may read what is its own."""
    found = process.which(program)
    if found is None or not Path(found).resolve().is_relative_to(PROGRAMS) or not available():
        return False
    return os.getuid() != 0 or all(_roots(here) for here, _ in (*view.readonly, *view.writable) if here.exists())


def _roots(path: Path) -> bool:
    """Whether root reaches `path` without the right to pass by permissions, which a confined one does not have."""
    above = (each.stat() for each in path.absolute().parents)
    return path.stat().st_uid == 0 and all(each.st_uid == 0 or each.st_mode & stat.S_IXOTH for each in above)


@contextlib.contextmanager
def spawned(
    command: Sequence[str],
    view: View,
    *,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[process.Child]:
    """`process.spawn` of a command that sees `view` alone, where this host lets us confine it; of the same one else.

    When it is to end, the command itself is asked, not bubblewrap, which would kill it.
    """
    if not fits(command[0], view):
        with process.spawn(command, stdout=stdout, stderr=stderr, pass_fds=pass_fds) as child:
            yield child
        return
    reading, writing = os.pipe()
    with open(reading, "rb") as report, contextlib.ExitStack() as stack:  # noqa: PTH123 - a descriptor
        os.set_blocking(reading, False)
        with open(writing, "wb"):  # noqa: PTH123
            full = [process.which(command[0]) or command[0], *command[1:]]
            words = argv(full, view)
            words[1:1] = ["--info-fd", str(writing)]
            given = (*pass_fds, writing)
            child = stack.enter_context(process.spawn(words, stdout=stdout, stderr=stderr, pass_fds=given))
        child.report = report if view.first else None
        yield child
