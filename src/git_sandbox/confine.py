"""Run a program that sees only the files it needs: bubblewrap(1), with its own namespaces.

For what works on data that somebody else made. Pure functions build the command line; `available` says whether this
host lets us.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from git_sandbox import answers, process
from git_sandbox.helpers import scoped
from git_sandbox.later import dataclass, replace
from git_sandbox.text import one_line

PROGRAM = "bwrap"
PROVED = "confinement"  # what is remembered
SWITCHES = (  # of the kernel's, for user namespaces: everywhere, Debian's, Ubuntu's
    "user/max_user_namespaces", "kernel/unprivileged_userns_clone", "kernel/apparmor_restrict_unprivileged_userns",
)  # fmt: skip
MERGED = ("bin", "sbin", "lib", "lib32", "lib64")  # links into /usr on every distribution that is supported
PROGRAMS = Path("/usr")  # what most views have
# How a view's /proc is. With none, what a program holds open to read cannot be opened once more to write; one that
# makes a user namespace of its own has to write there.
NONE, READ, WRITE = "", "read", "write"
HOSTS = tuple(f"/proc/{file}" for file in ("sys", "sysrq-trigger", "irq", "bus", "fs"))  # what is the host's of it
PASS = "CAP_DAC_OVERRIDE"  # noqa: S105 - the right to pass by permissions


@dataclass(frozen=True)
class View:
    """What a confined program sees besides `/usr`: pairs of (path here, path there).

    `network`: this host's, else none; without its abstract sockets (`helpers/scoped`), to which with `root` who starts
    it sees (`idspace.run_argv`). `root`: keep the user namespace the program is started in, with all of its
    capabilities, for one that mounts and changes its root. `devices` of this host are there by their names.
    `first`: the command is process 1 of its namespace and stays in our process group, so that what we send reaches it;
    it has to handle SIGTERM itself. `programs`: whether `/usr` is there. `proc`: how `/proc` is, see below. `rights`:
    capabilities, for root only, who then keeps the host's ids and has no user namespace of his own.
    """

    readonly: tuple[tuple[Path, str], ...] = ()
    writable: tuple[tuple[Path, str], ...] = ()
    network: bool = False
    root: bool = False
    devices: tuple[Path, ...] = ()
    first: bool = False
    programs: bool = True
    proc: str = READ
    rights: tuple[str, ...] = ()


def named(*paths: Path) -> tuple[tuple[Path, str], ...]:
    """Files that have the same name on both sides."""
    return tuple((path, os.fspath(path)) for path in paths)


def argv(command: Sequence[str], view: View, directory: str = "/", *, alone: bool = False) -> list[str]:
    """The words that run `command`, an absolute path or a program of `/usr`, in `directory` of its view.

    `alone`: they are started in a session of their own, which it then has, too; else it gets one.
    """
    words = [
        *(_scoped() if view.network and not view.root else ()),
        PROGRAM,
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    words += [] if view.network else ["--unshare-net"]
    words += _rights(view)
    words += ["--die-with-parent", *(["--as-pid-1"] if view.first else [] if alone else ["--new-session"])]
    words += ["--perms", "0755", "--dir", "/etc"]  # else 0700, where one that becomes another user cannot go
    if view.programs:
        words += ["--ro-bind", "/usr", "/usr"]
        for name in MERGED:
            words += ["--symlink", f"usr/{name}", f"/{name}"]
    words += ["--proc", "/proc"] if view.proc else []
    words += ["--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--dir", "/var/tmp"]  # noqa: S108
    if not view.root:
        words += _sealed(view)
    bound = (
        ("--ro-bind-try", view.readonly),
        ("--bind", view.writable),
        ("--dev-bind", named(*view.devices)),
    )
    for option, pairs in bound:
        for here, there in pairs:
            words += [option, os.fspath(here), there]
    return [*words, "--chdir", directory, "--", *command]


@functools.cache
def _scoped() -> tuple[str, ...]:
    """The words before bubblewrap's that keep the abstract sockets of this host out of reach.

    Not for a view of root's: in the namespace of subordinate ids that it is for, nobody may start our Python.
    """
    way = scoped.way()
    return (sys.executable, "-I", "-S", scoped.__file__, way) if way else ()


def _sealed(view: View) -> list[str]:
    """A root without any right still owns what is below /proc/sys, `core_pattern` of the whole host among it."""
    if view.proc == WRITE:
        return [word for path in HOSTS for word in ("--ro-bind-try", path, path)]
    return ["--remount-ro", "/proc"] if view.proc else []


def _rights(view: View) -> list[str]:
    if view.root:
        return ["--cap-add", "ALL"]
    if view.rights:
        return ["--cap-drop", "ALL", *(word for right in view.rights for word in ("--cap-add", right))]
    return ["--unshare-user", "--cap-drop", "ALL"]


# How the linker finds libraries, and what a library's name stands for; neither says anything about a user.
LINKER = named(Path("/etc/ld.so.cache"), Path("/etc/alternatives"))


@functools.cache
def unavailable() -> str:
    """Why nothing can be confined here; empty when it can. That it can is proved once for each boot and circumstance,
    and remembered: should it be over, what is started confined does not start.
    """
    path = process.which(PROGRAM)
    if path is None:
        return "bubblewrap is not installed"
    asked = _circumstances(path)
    if answers.kept(PROVED, asked) is not None:
        return ""
    if not (why := refusal()):
        answers.keep(PROVED, asked, "")
    return why


def _circumstances(program: str) -> str:
    """What decides whether `program` may make namespaces, as far as it can be read."""
    named = (*(f"/proc/sys/{name}" for name in SWITCHES), "/proc/self/attr/current", "/proc/sys/kernel/random/boot_id")
    texts = [answers.program(program), str(os.getuid())]
    for place in map(Path, named):
        with contextlib.suppress(OSError):
            texts.append(f"{place} {place.read_text().strip()}")
    rows = Path("/proc/self/status").read_text().splitlines()
    texts += [row for row in rows if row.startswith(("Cap", "NoNewPrivs:", "Seccomp:"))]
    return "\n".join((*texts, *(str(Path("/proc/self/ns", name).readlink()) for name in ("user", "mnt", "pid", "net"))))


def refusal() -> str:
    """The proof itself: why bubblewrap does not work here; empty when it does. A failure is remembered by nobody."""
    for view in (View(), *([View(rights=(PASS,))] if os.getuid() == 0 else [])):  # root needs both, see `owned`
        done = process.run(argv(["true"], view), timeout=process.ASKED)
        if done.returncode != 0:
            answers.forget(PROVED)
            return f"bubblewrap does not work ({one_line(done.complaint, limit=200)})"
    return ""


def available() -> bool:
    """Whether bubblewrap is installed and the kernel lets this user make its namespaces."""
    return not unavailable()


@functools.cache
def obstacle(program: str) -> str:
    """Why `program` cannot be confined here; empty when it can, and when it is not installed."""
    path = process.which(program)
    if path is None:
        return ""
    place = Path(path).resolve()
    if (why := unavailable()) or not elsewhere(place) or not interpreted(place):
        return why
    done = process.run(argv([os.fspath(place), "--version"], needed(place, View())), timeout=process.ASKED)
    return "" if done.returncode == 0 else f"{place} needs libraries outside {PROGRAMS}"


def elsewhere(program: Path) -> bool:
    """Whether no view has it by itself."""
    return not program.is_relative_to(PROGRAMS)


def interpreted(program: Path) -> bool:
    """Whether a program needs another one to be started: an ELF its dynamic linker (PT_INTERP), a script its shell."""
    with contextlib.suppress(OSError), program.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return True  # a script, or of 32 bits: nothing that is known to work alone
        (offset,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
        return any(table[at : at + 4] == b"\x03\0\0\0" for at in range(0, len(table), size or 1))
    return True


def needed(program: Path, view: View, shown: Path | None = None) -> View:
    """`view` with what the program itself needs: one that is linked statically needs no `/usr`.

    `shown`: where a file outside of `/usr` is found when the view is made, if not at its own path.
    """
    alone = not interpreted(program)
    here = shown if shown and elsewhere(program) else program
    own = ((here, os.fspath(program)),) if alone or elsewhere(program) else ()
    return replace(view, readonly=(*(() if alone else LINKER), *own, *view.readonly), programs=not alone)


def owned(view: View) -> View:
    """`view` with the right to pass by permissions, for root whose files in it are somebody else's.

    A root without any right reads his own files only, and the user namespace he has otherwise would not help: in there
    he has rights over his own files alone.
    """
    files = [here for here, _ in (*view.readonly, *view.writable) if here.exists()]
    devices = [device for device in view.devices if device.exists()]
    if os.getuid() != 0 or view.root or view.rights:
        return view
    if all(_roots(file) for file in files) and all(_roots(device) or _anybodys(device) for device in devices):
        return view
    return replace(view, rights=(PASS,))


def _roots(path: Path) -> bool:
    """Whether root reaches `path` without the right to pass by permissions."""
    above = (parent.stat() for parent in path.absolute().parents)
    return path.stat().st_uid == 0 and all(status.st_uid == 0 or status.st_mode & stat.S_IXOTH for status in above)


def _anybodys(device: Path) -> bool:
    """Whether every user may read and write `device`, as distributions let them do with /dev/kvm."""
    mode = stat.S_IROTH | stat.S_IWOTH
    return device.stat().st_mode & mode == mode


@contextlib.contextmanager
def spawned(
    command: Sequence[str],
    view: View,
    *,
    required: bool = True,
    directory: Path = Path("/"),
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
    yields: bool = False,
) -> Iterator[process.Child]:
    """`process.spawn` of a command that sees `view` alone and begins in `directory`; of the same one, not confined,
    where that is not `required` or this host does not let us (`obstacle`). `yields` as there.

    When it is to end, one that is `first` is asked itself; bubblewrap, when it is asked, kills the others. Bubblewrap
    ties its child to itself with its last step before the program: until then `watched` ends both with us, and for that
    they stay in one process group.
    """
    if not required or obstacle(command[0]):
        with process.spawn(
            command, cwd=directory, stdout=stdout, stderr=stderr, pass_fds=pass_fds, yields=yields
        ) as child:
            yield child
        return
    place = Path(process.which(command[0]) or command[0]).resolve()
    reading, writing = os.pipe()
    with open(reading, "rb") as report, contextlib.ExitStack() as stack:  # noqa: PTH123 - a descriptor
        os.set_blocking(reading, False)
        with open(writing, "wb"):  # noqa: PTH123
            words = argv([os.fspath(place), *command[1:]], owned(needed(place, view)), os.fspath(directory), alone=True)
            at = words.index(PROGRAM) + 1
            words[at:at] = ["--info-fd", str(writing)]
            child = stack.enter_context(
                process.spawn(
                    words, stdout=stdout, stderr=stderr, pass_fds=(*pass_fds, writing), yields=yields, watched=True
                )
            )
            child.report, child.first = report, view.first
        yield child
