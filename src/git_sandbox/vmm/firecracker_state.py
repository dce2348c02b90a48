"""Saving a Firecracker machine and starting others from it, by its snapshots (Firecracker, docs/snapshotting).

A snapshot names the disks and the socket of the machine that was saved, and a restored one opens the same names. So
what is a sandbox's own has a name relative to the working directory, and each process has a directory of its own.
The memory file is mapped privately: pages are read when they are used, and those that nobody wrote are shared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from git_sandbox import process
from git_sandbox.vmm.machine import MachineSpec, Saved
from git_sandbox.vmm.rest import Api, Call

WITHIN = 180.0  # seconds to write all of a guest's memory
VSOCK = Path("vsock")  # in the working directory


def names(spec: MachineSpec) -> dict[str, Path]:
    """The disks that are a sandbox's own, by their name in the working directory: all but the first."""
    return {f"disk{number}": disk.path for number, disk in enumerate(spec.disks) if number}


def relative(spec: MachineSpec) -> MachineSpec:
    """The machine as it is described when its disks are found by these names. Pure."""
    own = {path: Path(name) for name, path in names(spec).items()}
    disks = (dataclasses.replace(disk, path=own.get(disk.path, disk.path)) for disk in spec.disks)
    return dataclasses.replace(spec, disks=tuple(disks))


def load_calls(saved: Saved, metrics: str) -> Iterator[Call]:
    """What stands for the description and the start of a machine. Pure."""
    yield Call("PUT", "/metrics", {"metrics_path": metrics})
    memory = {"backend_type": "File", "backend_path": str(saved.memory)}
    yield Call("PUT", "/snapshot/load", {"snapshot_path": str(saved.state), "mem_backend": memory})
    yield Call("PATCH", "/vm", {"state": "Resumed"})


def save_calls(saved: Saved) -> Iterator[Call]:
    """A full one. What Firecracker calls a diff would be sparse by itself, and lacks what the host has swapped out."""
    yield Call("PATCH", "/vm", {"state": "Paused"})
    files = {"snapshot_path": str(saved.state), "mem_file_path": str(saved.memory)}
    yield Call("PUT", "/snapshot/create", {"snapshot_type": "Full", **files})


def save(api: Api, saved: Saved) -> None:
    """Stop the machine and write memory and state. Raises MachineError.

    The file holds every page the guest has, most of them never used: as holes they take no space, and a file system
    that has none only needs more.
    """
    patient = dataclasses.replace(api, overall=WITHIN)
    for call in save_calls(saved):
        patient.send(call)
    process.run(["fallocate", "--dig-holes", str(saved.memory)], timeout=WITHIN)
