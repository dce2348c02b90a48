"""A disk that the guest itself overlays on a base, with the kernel's device mapper (`guest/boot.py`).

The disk is a store of dm-snapshot's: a header, then chunks that differ and tables of where they belong (Linux,
drivers/md/dm-snap-persistent.c). All zeros is an empty one. It is larger than it can ever become, because one that is
full is lost; the file is sparse. Behind it comes what the guest shows behind the end of the base.
"""

from __future__ import annotations

import struct
from pathlib import Path

SECTOR = 512  # bytes
CHUNK = 4096  # bytes, as in `guest/boot.py`
_MAGIC = 0x70416E53  # "SnAp", the first word; the second says whether the store is valid
_PER_TABLE = CHUNK // 16  # entries


def start(base_size: int) -> int:
    """Bytes that the store may need over a base of that size; a multiple of 1 MiB."""
    chunks = -(-base_size // CHUNK)
    needed = (1 + chunks + chunks // _PER_TABLE + 2) * CHUNK
    return (needed >> 20) + 1 << 20


def revive(disk: Path) -> bool:
    """Make a store valid again that the guest's kernel gave up because this host's disk was full.

    It gives up all of it, and says so in the header, when a single write fails; what was written before is all there.
    False when there was nothing to do. Only these bytes are looked at, and they are the guest's to lie about.
    """
    with disk.open("r+b", buffering=0) as file:
        header = file.read(8)
        if len(header) < 8 or struct.unpack("<II", header) != (_MAGIC, 0):  # noqa: PLR2004 - two words
            return False
        file.seek(4)
        file.write(struct.pack("<I", 1))
    return True
