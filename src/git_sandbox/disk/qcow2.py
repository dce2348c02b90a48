"""A qcow2 image over a backing image, with bytes of its own after the backing image's end.

`qemu-img` could make the first but not the second, and is a package of its own; the format is small (QEMU's
docs/interop/qcow2.txt). Every table is written here once and never read: QEMU is the only one who opens such an image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS  # bytes
_COPIED = 1 << 63  # the cluster belongs to nobody else
_PER_TABLE = CLUSTER // 8  # entries of an L2 table: 512 MiB of the disk
_PER_BLOCK = CLUSTER // 2  # reference counts in one cluster
_BACKING_FORMAT = 0xE2792ACA
_HEADER = 104  # bytes of a version 3 header


def create(target: Path, backing: str, backing_size: int, tail: Iterable[bytes] = (), tail_size: int = 0) -> int:
    """Write the image; returns the size (bytes) of the disk it shows.

    `backing`: the raw image it is laid over, relative to `target`'s directory; `backing_size` must be whole clusters.
    Raises ValueError when it is not, or when `tail` has not `tail_size` bytes.
    """
    if backing_size % CLUSTER:
        raise ValueError(f"{backing_size} is not a multiple of {CLUSTER}")
    plan = _Plan(backing_size, -(-tail_size // CLUSTER))
    target.touch(mode=0o600)
    with target.open("wb") as out:
        _put(out, 0, _header(plan, backing))
        _put(out, plan.refcount_table, _words(range(plan.refcount_block, plan.l1, CLUSTER)))
        _put(out, plan.refcount_block, struct.pack(">H", 1) * plan.clusters)
        first = backing_size // CLUSTER  # number of the tail's first cluster on the disk
        l1 = [0] * plan.l1_entries
        for number in range(plan.tables):
            l1[first // _PER_TABLE + number] = plan.l2 + number * CLUSTER | _COPIED
        _put(out, plan.l1, _words(l1))
        places = [plan.data + number * CLUSTER | _COPIED for number in range(plan.data_clusters)]
        _put(out, plan.l2 + first % _PER_TABLE * 8, _words(places))
        out.seek(plan.data)
        written = sum(out.write(chunk) for chunk in tail)
        out.truncate(plan.clusters * CLUSTER)
    if written != tail_size:
        raise ValueError(f"the tail has {written} bytes instead of {tail_size}")
    return plan.size


class _Plan:
    """Where everything goes: header, refcount table, refcount blocks, L1 table, L2 tables, data."""

    def __init__(self, backing_size: int, data_clusters: int) -> None:
        self.data_clusters = data_clusters
        self.size = backing_size + data_clusters * CLUSTER
        self.l1_entries = -(-self.size // (CLUSTER * _PER_TABLE))
        first = backing_size // CLUSTER
        self.tables = (first + data_clusters - 1) // _PER_TABLE - first // _PER_TABLE + 1 if data_clusters else 0
        l1_clusters = -(-self.l1_entries * 8 // CLUSTER)
        fixed = 2 + l1_clusters + self.tables + data_clusters
        blocks = -(-fixed // (_PER_BLOCK - 1))  # a block counts itself, too
        self.clusters = fixed + blocks
        self.refcount_table = CLUSTER
        self.refcount_block = 2 * CLUSTER
        self.l1 = self.refcount_block + blocks * CLUSTER
        self.l2 = self.l1 + l1_clusters * CLUSTER
        self.data = self.l2 + self.tables * CLUSTER


def _header(plan: _Plan, backing: str) -> bytes:
    name = backing.encode()
    extensions = struct.pack(">II", _BACKING_FORMAT, 3) + b"raw".ljust(8, b"\0") + bytes(8)
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, _HEADER + len(extensions), len(name), CLUSTER_BITS, plan.size, 0, plan.l1_entries, plan.l1,
        plan.refcount_table, 1, 0, 0, 0, 0, 0, 4, _HEADER,
    )  # fmt: skip
    return header + extensions + name


def _words(values: Iterable[int]) -> bytes:
    numbers = list(values)
    return struct.pack(f">{len(numbers)}Q", *numbers)


def _put(out: BinaryIO, place: int, data: bytes) -> None:
    out.seek(place)
    out.write(data)
