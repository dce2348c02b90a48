"""A running machine whose VMM is any program, for what needs no guest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from git_sandbox import process
from git_sandbox.vmm.launch import RunningProcess
from git_sandbox.vmm.machine import MachineLogs


def running(explain: Callable[[int], str], vsock: Path, child: process.Child | None = None) -> RunningProcess:
    logs = MachineLogs(Path("/nowhere/console"), Path("/nowhere/vmm"))
    return RunningProcess("VMM", cast("process.Child", child), vsock, logs, explain)
