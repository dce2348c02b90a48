"""The owners of a shared working copy's files: subordinate ids (subuid(5)) that no account of this host uses.

The guest's id N is the host's id BASE + N. The user's own programs cannot go where those files are, git refuses them
as somebody else's, and what serves them to the guest has no rights to anything else. `helpers/userns` runs there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from git_sandbox import process
from git_sandbox.errors import HostResourceError, RequirementError, SandboxError
from git_sandbox.helpers import userns
from git_sandbox.later import dataclass
from git_sandbox.text import printable

COUNT = userns.COUNT  # ids a guest has; the usual range of an ordinary user
ROOTS = 0x70000000  # root's range, unless the tables give root one; unused by convention (systemd, UIDS-GIDS.md)
CAP_SYS_RESOURCE = 24
MEASURING = 600.0  # seconds
RESERVED = 1024  # of a server's descriptors, for itself and for files that are open at the same time
Rows = list[tuple[int, int, int]]


@dataclass(frozen=True)
class IdSpace:
    """`uid`, `gid`: where the range begins, on the host."""

    uid: int
    gid: int

    @classmethod
    def of(cls, directory: Path) -> IdSpace:
        """The one a shared directory was given to: the tables may have changed since."""
        seen = directory.lstat()
        return cls(seen.st_uid, seen.st_gid)

    @classmethod
    def ours(cls) -> IdSpace:
        """What this user may use. Raises RequirementError."""
        uid, gid = (_range(Path(table), os.getuid(), _name()) for table in ("/etc/subuid", "/etc/subgid"))
        if uid is None or gid is None:
            if os.getuid() == 0:
                return cls(ROOTS, ROOTS)
            hint = f"`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {_name()}`"
            raise RequirementError(f"`--transport share` needs {COUNT} subordinate ids for {_name()}", hint=hint)
        process.require(*(() if os.getuid() == 0 else ("newuidmap", "newgidmap")))
        return cls(uid, gid)

    def give(self, directory: Path) -> None:
        """Everything in `directory`, and itself, to these ids. Raises HostResourceError."""
        _run(give_order(self, directory), f"cannot give {directory} to subordinate ids")

    def remove(self, directory: Path) -> None:
        """Delete a directory that was given away, as far as that can be done."""
        process.run(_argv(remove_order(self, directory)))

    def size(self, directory: Path) -> int:
        """Bytes that a directory takes which was given away; what cannot be looked at counts nothing."""
        with contextlib.suppress(SandboxError):
            output = process.run(_argv(measure_order(self, directory)), timeout=MEASURING, output=4096).stdout
            match = re.match(rb"[0-9]{1,18}\b", output)
            return int(match[0]) if match else 0
        return 0


def files_at_once() -> int:
    """How many files a guest can have in its memory: its server holds a descriptor of each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(hard, userns.DESCRIPTORS) if _may_raise(Path("/proc/self/status").read_text()) else hard
    return max(0, most - RESERVED)


def _may_raise(status: str) -> bool:
    """Whether a process with this `status` (proc(5)) may raise its hard limits; root in a container often may not."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(match and int(match[1], 16) >> CAP_SYS_RESOURCE & 1)


def give_order(space: IdSpace, directory: Path) -> dict[str, object]:
    """Pure but for who we are. Root gives files of anybody; what others copy is theirs, whatever group it had."""
    order = _with_us(space, directory)
    if os.getuid() == 0:
        return order | {"op": "own", "base": (space.uid, space.gid), "owner": None}
    return order | {"op": "own", "base": (1, 1), "owner": (slot(os.getuid()), slot(os.getgid()))}


def remove_order(space: IdSpace, directory: Path) -> dict[str, object]:
    return _with_us(space, directory) | {"op": "remove"}


def measure_order(space: IdSpace, directory: Path) -> dict[str, object]:
    return _with_us(space, directory) | {"op": "measure"}


def serve_argv(
    space: IdSpace, directory: Path, program: Path, argv: Sequence[str], *, confined: bool = False, copied: bool = False
) -> list[str]:
    """A command that runs `program` with nobody's rights; it finds the directory's tree at `userns.SERVED`.

    `confined`: `argv` are the words of another one that does so; for that it is at `userns.STAGED`. `copied`: and the
    program at `userns.PROGRAM`.
    """
    order = {
        "op": "serve", "place": str(directory), "direct": os.getuid() == 0, "parent": os.getpid(),
        "uids": rows(space.uid, os.getuid()), "gids": rows(space.gid, os.getgid()),
        "program": str(program), "argv": list(argv), "confined": confined, "copied": copied,
    }  # fmt: skip
    return _argv(order)


def run_argv(space: IdSpace, argv: Sequence[str], parent: int, scoped: str = "") -> list[str]:
    """A command that runs `argv` as root of a user namespace whose ids are all of `space`; `parent` starts it.

    `scoped`: how abstract sockets of this host are kept out of its reach, see `helpers/scoped.way`.
    """
    return _argv({
        "op": "run", "direct": os.getuid() == 0, "parent": parent, "argv": list(argv), "scoped": scoped,
        "uids": [(0, space.uid, COUNT)], "gids": [(0, space.gid, COUNT)],
    })  # fmt: skip


def slot(own: int) -> int:
    """Where an id of ours is in the range: at its own number, or at the end when that is too large."""
    return own if own < COUNT else COUNT - 1


def rows(base: int, own: int) -> Rows:
    """The guest's ids on the host. One of ours that is beyond the range takes the place of its last one."""
    if own < COUNT:
        return [(0, base, COUNT)]
    return [(0, base, COUNT - 1), (own, base + COUNT - 1, 1)]


def _with_us(space: IdSpace, directory: Path) -> dict[str, object]:
    """Root needs no namespace for it; others are id 0 of one, and the range begins at 1."""
    place = {"place": str(directory), "direct": False}
    if os.getuid() == 0:
        return place | {"uids": (), "gids": ()}
    return place | {
        "uids": ((0, os.getuid(), 1), (1, space.uid, COUNT)),
        "gids": ((0, os.getgid(), 1), (1, space.gid, COUNT)),
    }


def _range(table: Path, uid: int, name: str) -> int | None:
    """The first range of ours that is large enough."""
    lines = table.read_text().splitlines() if table.exists() else []
    for line in lines:
        owner, _, numbers = line.partition(":")
        first, _, count = numbers.partition(":")
        if owner in (name, str(uid)) and first.isdecimal() and count.isdecimal() and int(count) >= COUNT:
            return int(first)
    return None


def _name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _argv(order: Mapping[str, object]) -> list[str]:
    # -S and -I: nothing but the standard library, whatever this user's environment says.
    return [sys.executable, "-I", "-S", userns.__file__, msgspec.json.encode(order).decode()]


def _run(order: Mapping[str, object], complaint: str) -> None:
    done = process.run(_argv(order), timeout=3600)
    if done.returncode != 0:
        raise HostResourceError(complaint, cause=printable(done.complaint, limit=1000))
