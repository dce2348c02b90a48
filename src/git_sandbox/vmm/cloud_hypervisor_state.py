"""Saving a Cloud Hypervisor machine and starting others from it, by its snapshots (its docs/snapshot_restore.md).

The guest's memory is a zone in a file of its own: shared by the machine that is saved, which is why no copy of it is in
the snapshot, and mapped privately by the restored ones. A snapshot is a directory with the machine's configuration
and its state. A restored machine gets the same state and a configuration of its own: our description of it, in which
its disk, its socket and how it maps its memory differ. Nothing of what was saved is read by us.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from git_sandbox import files
from git_sandbox.vmm.machine import Saved
from git_sandbox.vmm.rest import Api, Call

CONFIG, STATE = "config.json", "state.json"  # Cloud Hypervisor's names


def memory(saved: Saved | None, mebibytes: int, *, shared: bool) -> dict[str, object]:
    """The part of the configuration that says what the guest's memory is. Pure. `shared`: with a file system's server,
    which a machine with a saved state never has.
    """
    size = mebibytes << 20
    if saved is None:
        return {"size": size, "shared": shared}
    return {"size": 0, "zones": [{"id": "ram", "size": size, "file": str(saved.memory), "shared": not saved.restore}]}


def landlock_rules(saved: Saved | None) -> list[dict[str, str]]:
    """What a machine may open besides what its configuration names: one that is saved, the place where that goes."""
    return [{"path": str(saved.place), "access": "rw"}] if saved and not saved.restore else []


def make_room(saved: Saved, mebibytes: int) -> None:
    with files.opened(saved.memory, "wb") as file:
        file.truncate(mebibytes << 20)


def describe(config: Mapping[str, object], saved: Saved, place: Path) -> None:
    """Leave in `place` a snapshot with the state of the saved one, and this configuration."""
    files.write(place / CONFIG, msgspec.json.encode(config))
    (place / STATE).symlink_to(saved.place / STATE)


def save_calls(saved: Saved) -> Iterator[Call]:
    yield Call("PUT", "/api/v1/vm.pause")
    yield Call("PUT", "/api/v1/vm.snapshot", {"destination_url": f"file://{saved.place}"})


def save(api: Api, saved: Saved) -> None:
    """Stop the machine and write its state. Raises MachineError."""
    for call in save_calls(saved):
        api.send(call)


def load_calls(place: Path, sizes: Mapping[str, int]) -> Iterator[Call]:
    """What stands for the description and the start of a machine. `sizes`: bytes, by disk.

    The state holds the size of the disk that the saved machine had. Pure.
    """
    yield Call("PUT", "/api/v1/vm.restore", {"source_url": f"file://{place}"})
    for disk, size in sizes.items():
        yield Call("PUT", "/api/v1/vm.resize-disk", {"id": disk, "desired_size": size})
    yield Call("PUT", "/api/v1/vm.resume")
