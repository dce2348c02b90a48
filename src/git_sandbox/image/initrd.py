"""The initrd of one boot: the image's initramfs followed by a small archive of this sandbox's own files.

The kernel unpacks concatenated cpio archives one after the other (Documentation/driver-api/early-userspace/
buffer-format.rst), on every VMM alike, so configuration and keys need neither a disk nor a device of their own.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from git_sandbox.files import opened
from git_sandbox.later import dataclass


@dataclass(frozen=True)
class GuestFile:
    content: bytes
    mode: int = 0o644


def write(target: Path, initramfs: Path, files: Mapping[str, GuestFile]) -> None:
    """Write the initramfs and `files`, which appear below /run/git-sandbox in the guest. Mode 0600: keys are in it."""
    with opened(target, "wb") as out:
        with initramfs.open("rb") as source:
            shutil.copyfileobj(source, out, 1 << 20)
        out.write(b"\0" * (-out.tell() % 4))
        out.write(cpio(files))


def cpio(files: Mapping[str, GuestFile]) -> bytes:
    """A "newc" cpio archive of `files` below `sandbox/`, all owned by root."""
    directories = {f"sandbox/{parent}" for name in files for parent in Path(name).parents if parent.name}
    entries = [_entry(name, b"", 0o40755) for name in ("sandbox", *sorted(directories))]
    entries += [_entry(f"sandbox/{name}", file.content, 0o100000 | file.mode) for name, file in sorted(files.items())]
    return b"".join([*entries, _entry("TRAILER!!!", b"", 0)])


def _entry(name: str, content: bytes, mode: int) -> bytes:
    raw = name.encode() + b"\0"
    links = 2 if mode & 0o40000 and not mode & 0o100000 else 1
    fields = (0, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(raw), 0)
    header = b"070701" + "".join(f"{value:08X}" for value in fields).encode()
    return _padded(header + raw) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
