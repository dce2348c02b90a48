"""Saving a QEMU machine's state and starting others from it, by migration to a file.

The guest's memory is a file of its own. The machine that is saved maps it shared, so it holds the memory when that
machine has ended, and the state is only what the devices and processors know (a few hundred KiB). Restored machines map
it privately: nothing is read that is not used, and pages that nobody wrote are shared by all of them. QEMU calls it
`x-ignore-shared` (its docs/system/vm-templating.rst) and has it since 4.0.

Before 8.2 QEMU opens what it maps privately to write, too. So that no guest which takes it over can change what others
start from, it then gets a copy of its own: one that shares its blocks where the file system can.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec

from git_sandbox import files, process
from git_sandbox.errors import HostResourceError, MachineError
from git_sandbox.text import printable
from git_sandbox.vmm.machine import Saved
from git_sandbox.vmm.qmp import Qmp

WITHIN = 60.0  # seconds for one migration; it takes well under one
ONLY_READS = (8, 2)  # the version from which QEMU can map memory privately that it may only read
COPY_WITHIN = 120.0  # seconds
SPARE = 1 << 30  # bytes the host's disk keeps free beside that copy
_IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]


def words(saved: Saved, memory: int) -> list[str]:
    """Options beside the usual ones: memory (MiB) in a file, and waiting for a state when that is to be restored."""
    backend = {
        "qom-type": "memory-backend-file", "id": "ram", "size": memory << 20,
        "mem-path": str(saved.private or saved.memory), "share": not saved.restore,
    }  # fmt: skip
    if saved.restore and saved.private is None:
        backend |= {"readonly": True, "rom": "off"}
    options = ["-object", msgspec.json.encode(backend).decode(), "-machine", "memory-backend=ram"]
    return [*options, "-incoming", "defer"] if saved.restore else options


@contextlib.contextmanager
def memory_of(saved: Saved | None, version: tuple[int, ...], place: Path) -> Iterator[Saved | None]:
    """`saved` with a copy of its memory in the directory `place`, where this version of QEMU needs one.

    Raises HostResourceError. Once QEMU runs the copy needs no name any more, see `forget`.
    """
    copy = place / "memory"
    copy.unlink(missing_ok=True)  # of a supervisor that was killed
    if saved is None or not saved.restore or version >= ONLY_READS:
        yield saved
        return
    _require_room(saved.memory, place)
    with_copy = replace(saved, private=copy)
    try:
        words = ["cp", "--reflink=auto", "--sparse=auto", "--", str(saved.memory), str(with_copy.private)]
        done = process.run(words, timeout=COPY_WITHIN)
        if done.returncode != 0:
            raise HostResourceError("cannot copy the memory of a saved machine", cause=printable(done.complaint))
        yield with_copy
    finally:
        forget(with_copy)


def _require_room(memory: Path, place: Path) -> None:
    """The repository may be on its way to the same disk, and a full one would end that."""
    need = memory.stat().st_blocks * 512 + SPARE
    if shutil.disk_usage(place).free < need:
        raise HostResourceError(f"a copy of a saved machine's memory needs {need >> 20} MiB below {place}")


def forget(saved: Saved | None) -> None:
    """Take the name from a copy that QEMU has opened: it is gone with QEMU, whatever ends that."""
    if saved is not None and saved.private is not None:
        saved.private.unlink(missing_ok=True)


def save(monitor: Qmp, saved: Saved) -> None:
    """Stop the machine and write its state. Raises MachineError, OSError."""
    monitor.execute("stop")
    with files.opened(saved.state, "wb") as file:
        _migrate(monitor, "migrate", file.fileno())


def load(monitor: Qmp, saved: Saved) -> None:
    """Let the machine take up its state and run. Raises MachineError, OSError."""
    with saved.state.open("rb") as file:
        _migrate(monitor, "migrate-incoming", file.fileno())
    monitor.execute("cont")


def show(monitor: Qmp, device: str, node: str) -> None:
    """Have a running machine's device show another node. QEMU can since 6.2. Raises MachineError, OSError."""
    monitor.execute("qom-set", path=f"/machine/peripheral/{device}", property="drive", value=node)


def _migrate(monitor: Qmp, command: str, descriptor: int) -> None:
    """By descriptor, because QEMU's sandbox forbids it to start the `cat` of an `exec:`, and 7.2 has no `file:` yet."""
    monitor.execute("migrate-set-capabilities", capabilities=_IGNORE_SHARED)
    monitor.give("state", descriptor)
    monitor.execute(command, uri="fd:state")
    _finished(monitor)


def _finished(monitor: Qmp) -> None:
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        status = monitor.execute("query-migrate")
        if status.get("status") == "completed":
            return
        if status.get("status") in ("failed", "cancelled"):
            raise MachineError("QEMU cannot save or restore the machine", cause=str(status.get("error-desc", "")))
        time.sleep(0.002)
    raise MachineError("QEMU cannot save or restore the machine", cause=f"not done within {WITHIN:g} s")
