"""A program that is linked statically, as released VMMs are: it waits for a signal."""

from __future__ import annotations

import platform
import struct
from pathlib import Path

ADDRESS, ALIGNED = 0x400000, 0x1000
# Of each processor: its number in ELF, and pause(2), or ppoll(2) of nothing, for ever.
CODE = {
    "x86_64": (62, "b8220000000f05ebf7"),
    "aarch64": (183, "000080d2010080d2020080d2030080d2280980d2010000d4faffff17"),
}


def written(path: Path) -> Path:
    """The program at `path`, for this host's processor."""
    machine, code = CODE[platform.machine()]
    begin = 64 + 56
    size = begin + len(bytes.fromhex(code))
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, ADDRESS + begin, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, ADDRESS, ADDRESS, size, size, ALIGNED)
    path.write_bytes(head + load + bytes.fromhex(code))
    path.chmod(0o755)
    return path
