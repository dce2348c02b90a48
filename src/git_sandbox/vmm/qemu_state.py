"""Saving a QEMU machine's state and starting others from it, by migration to a file.

The guest's memory is a file of its own. The machine that is saved maps it shared, so it holds the memory when that
machine has ended, and the state is only what the devices and processors know (a few hundred KiB). Restored machines map
it privately: nothing is read that is not used, and pages that nobody wrote are shared by all of them. QEMU calls it
`x-ignore-shared` (its docs/system/vm-templating.rst) and has it since 4.0.
"""

from __future__ import annotations

import time

import msgspec

from git_sandbox import files
from git_sandbox.errors import MachineError
from git_sandbox.vmm.machine import Saved
from git_sandbox.vmm.qmp import Qmp

WITHIN = 60.0  # seconds for one migration; it takes well under one
_IGNORE_SHARED = [{"capability": "x-ignore-shared", "state": True}]


def words(saved: Saved, memory: int) -> list[str]:
    """Options beside the usual ones: memory (MiB) in a file, and waiting for a state when that is to be restored."""
    backend = {
        "qom-type": "memory-backend-file", "id": "ram", "size": memory << 20, "mem-path": str(saved.memory),
        "share": not saved.restore,
    }  # fmt: skip
    found = ["-object", msgspec.json.encode(backend).decode(), "-machine", "memory-backend=ram"]
    return [*found, "-incoming", "defer"] if saved.restore else found


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
        told = monitor.execute("query-migrate")
        if told.get("status") == "completed":
            return
        if told.get("status") in ("failed", "cancelled"):
            raise MachineError("QEMU cannot save or restore the machine", cause=str(told.get("error-desc", "")))
        time.sleep(0.002)
    raise MachineError("QEMU cannot save or restore the machine", cause=f"not done within {WITHIN:g} s")
