"""Firecracker in its jail (jailer(1), its own): who gets one, what is in it, and under which names.

Inside, Firecracker is a user of its own without any right, its root directory holds its own program, the machine's
files, KVM and a directory with its sockets, and there is no network and no other process. `helpers/jail` makes that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from git_sandbox import paths, process
from git_sandbox.errors import RequirementError
from git_sandbox.helpers import jail
from git_sandbox.text import one_line
from git_sandbox.vmm import identity, launch
from git_sandbox.vmm.machine import Disk, MachineSpec, Saved

PROGRAM = "jailer"
UIDS = 0x71000000  # the supervisor's process id on top: no two jails have the same. Unused by convention, see `idspace`
SPARE = 4 << 20  # bytes of the jail's file system beside Firecracker's program, of which the jailer makes a copy
RUN = "run"  # name of the directory with the sockets, inside and on the host
AUTO, NO = "auto", "no"
Row = tuple[str, str, str]


@dataclass(frozen=True)
class Jail:
    """Programs to make one with."""

    jailer: Path
    firecracker: Path

    def fingerprint(self) -> str:
        return f"jailed {identity.program(str(self.jailer))}"


@dataclass(frozen=True)
class Choice:
    jail: Jail | None
    reason: str


def choose(wanted: str, program: str) -> Choice:
    """Whether `program` (Firecracker) is put into a jail. `wanted`: auto, yes or no.

    Raises RequirementError when one is asked for and cannot be had.
    """
    if wanted == NO:
        return Choice(None, "switched off")
    try:
        places = {_existing(each) for each in (paths.state_root(), paths.cache_root(), Path(tempfile.gettempdir()))}
        return Choice(_possible(program, tuple(sorted(places))), "root's machines get one where it works")
    except RequirementError as error:
        if wanted == AUTO:
            return Choice(None, error.cause)
        raise


@functools.cache
def _possible(program: str, places: tuple[Path, ...]) -> Jail:
    """Raises RequirementError with what is in the way. `places`: where a machine's files are."""
    if os.geteuid() != 0:
        raise _impossible("only root can make a jail")
    found = process.which(program)
    if found is None:
        raise _impossible(f"{program} is not installed")
    beside = Path(found).resolve().with_name(PROGRAM)
    jailer = str(beside) if os.access(beside, os.X_OK) else process.which(PROGRAM)
    if jailer is None:
        raise _impossible(f"there is no {PROGRAM} beside {found} or on PATH")
    if launch.version(jailer) != launch.version(found):
        raise _impossible(f"{jailer} and {found} are of different versions")
    if interpreted(Path(found)):
        raise _impossible(
            f"{found} is linked dynamically, and a jail has no libraries: the published builds are static"
        )
    order = {
        "op": "try", "paths": [str(each) for each in places], "uid": UIDS, "gid": UIDS,
        "mount": tempfile.gettempdir(), "room": SPARE,
    }  # fmt: skip
    done = process.run(_argv(order), timeout=20)
    if done.returncode != 0:
        raise _impossible(one_line(done.complaint))
    return Jail(Path(jailer), Path(found).resolve())


def _impossible(cause: str) -> RequirementError:
    return RequirementError(
        "Firecracker cannot be put into a jail here", cause=cause, hint="`--jailer auto` does without where it must"
    )


def interpreted(program: Path) -> bool:
    """Whether an ELF program needs another one, its dynamic linker, to be started (PT_INTERP)."""
    with program.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02":
            return True  # a script, or of 32 bits: nothing that is known to work
        (offset,), (size, count) = struct.unpack_from("<Q", head, 32), struct.unpack_from("<HH", head, 54)
        file.seek(offset)
        table = file.read(size * count)
    return any(table[at : at + 4] == b"\x03\0\0\0" for at in range(0, len(table), size or 1))


def inside(spec: MachineSpec) -> tuple[MachineSpec, list[Row]]:
    """The machine with the names its files have in the jail, and the files that appear there. Pure."""
    rows = [] if spec.saved and spec.saved.restore else [_row(spec.kernel, "kernel"), _row(spec.initrd, "initrd")]
    rows += [_of_disk(disk, f"disk{number}") for number, disk in enumerate(spec.disks)]
    if spec.saved:
        kind = "ro" if spec.saved.restore else "rw"
        rows += [_row(each, each.name, kind) for each in (spec.saved.memory, spec.saved.state)]
    disks = (dataclasses.replace(disk, path=Path(f"/disk{number}")) for number, disk in enumerate(spec.disks))
    return dataclasses.replace(
        spec, kernel=Path("/kernel"), initrd=Path("/initrd"), disks=tuple(disks),
        saved=Saved(Path("/"), spec.saved.restore) if spec.saved else None,
    ), rows  # fmt: skip


def _row(path: Path, name: str, kind: str = "ro") -> Row:
    return str(path), name, kind


def _of_disk(disk: Disk, name: str) -> Row:
    return _row(disk.path, name, "block" if disk.block else "ro" if disk.readonly else "rw")


@dataclass(frozen=True)
class Cell:
    """What one jail has on the host: two directories in `runtime`, which are gone afterwards.

    `user`: id of its user and its group.
    """

    runtime: Path
    user: int

    @classmethod
    def ours(cls, runtime: Path) -> Cell:
        """For one that this process makes; it has one at a time."""
        return cls(runtime, UIDS + os.getpid())

    @property
    def sockets(self) -> Path:
        """The one that is seen in the jail, too."""
        return self.runtime / RUN

    @property
    def place(self) -> Path:
        """Where the jail's file system is mounted, for those who see it: empty for everybody else."""
        return self.runtime / "jail"

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        try:
            for each in (self.sockets, self.place):
                each.mkdir(mode=0o700)
            self.give(self.sockets)
            yield
        finally:
            for each in (self.sockets, self.place):
                shutil.rmtree(each, ignore_errors=True)

    def give(self, path: Path) -> None:
        os.chown(path, self.user, self.user)

    def seal(self) -> None:
        """From now on nothing can be made or renamed with the sockets. To be called before any code of the guest runs.

        Or a machine that broke out could put a symbolic link where we connect, and lead us to other sockets of root's.
        """
        os.chown(self.sockets, 0, 0)
        self.sockets.chmod(0o711)


def argv(jail: Jail, cell: Cell, name: str, rows: Sequence[Row], own: Sequence[str]) -> list[str]:
    """The command line of `helpers/jail`. `own`: arguments of Firecracker, but for its id, from the jailer."""
    program, user = jail.firecracker, cell.user
    words = [
        str(jail.jailer), "--id", name, "--exec-file", str(program), "--uid", str(user), "--gid", str(user),
        "--chroot-base-dir", str(cell.place), "--", *own,
    ]  # fmt: skip
    order = {
        "op": "run", "mount": str(cell.place), "root": str(cell.place / program.name / name / "root"),
        "room": program.stat().st_size + SPARE, "uid": user, "gid": user,
        "binds": [(str(cell.sockets), RUN, "dir"), *rows], "argv": words,
    }  # fmt: skip
    return _argv(order)


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _argv(order: Mapping[str, object]) -> list[str]:
    return [sys.executable, "-I", "-S", jail.__file__, msgspec.json.encode(order).decode()]
