"""Disks in QEMU: by name at the start, or passed as open descriptors to a running machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from git_sandbox.vmm.machine import Disk
from git_sandbox.vmm.qmp import Qmp


def node(number: int, disk: Disk) -> dict[str, object]:
    """`discard`: what the guest trims leaves the host's disk, too."""
    file = "host_device" if disk.block else "file"
    return {
        "driver": disk.format, "node-name": f"disk{number}", "read-only": disk.readonly, "discard": "unmap",
        "file": {"driver": file, "filename": str(disk.path), "discard": "unmap", "read-only": disk.readonly},
    }  # fmt: skip


def handed(monitor: Qmp, number: int, disk: Disk) -> dict[str, object]:
    """Like `node`, for a QEMU that sees none of its files. Raises like `Qmp.open`."""
    described = node(number, replace(disk, path=Path(monitor.open(disk.path, readonly=disk.readonly))))
    if disk.backing is not None:
        file = {"driver": "file", "filename": monitor.open(disk.backing, readonly=True), "read-only": True}
        described["backing"] = {"driver": "raw", "read-only": True, "file": file}
    return described


def nothing(number: int, disk: Disk) -> dict[str, object]:
    """What a disk is before it is there. Its guest has no driver for it yet, so nobody learns the size."""
    return {"driver": "null-co", "node-name": f"nothing{number}", "size": 1 << 20, "read-only": disk.readonly}


def device(number: int, disk: Disk, node: str) -> str:
    device = f"virtio-blk-pci,drive={node}{number},id=vd{number}"
    return device + ("" if disk.readonly else ",werror=report,rerror=report")


def json(node: dict[str, object]) -> str:
    """As JSON, because a path may hold commas."""
    return msgspec.json.encode(node).decode()
