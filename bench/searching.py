"""Where bytes of a secret could be: in files, also disks of many holes, and in the memory of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PIECE = 1 << 20  # bytes, of a whole number of pages
PAGE = os.sysconf("SC_PAGE_SIZE")
THERE = bytes([0xC0])  # of the last byte of an entry of /proc/PID/pagemap: the page is in memory or in swap
VMMS = ("qemu", "firecracker", "cloud-hyperviso")  # as the kernel cuts their names


def file_has(path: Path, needle: bytes) -> bool:
    with path.open("rb") as file:
        end, at, kept = os.fstat(file.fileno()).st_size, 0, b""
        while at < end:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:  # nothing but a hole
                return False
            kept = kept if start == at else b""
            chunk = os.pread(file.fileno(), PIECE, start)
            if not chunk or needle in kept + chunk:
                return bool(chunk)
            kept, at = chunk[-len(needle) :], start + len(chunk)
    return False


def memory_has(pid: int, needles: list[bytes]) -> list[bool]:
    """Which of them are in what a process has mapped to write: of a VMM, all of its guest's memory. Pages that nobody
    has touched are not read, for reading makes them.
    """
    found, longest = [False] * len(needles), max(map(len, needles))
    kept, before = b"", 0
    for at, chunk in _touched(pid):
        kept = kept[-longest:] if at == before else b""
        found = [there or needle in kept + chunk for there, needle in zip(found, needles, strict=True)]
        kept, before = chunk, at + len(chunk)
    return found


def _touched(pid: int) -> Iterator[tuple[int, bytes]]:
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory, Path(f"/proc/{pid}/pagemap").open("rb", 0) as pages:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            at, end = (int(word, 16) for word in span.split("-"))
            while "w" in rights and at < end:
                size = min(PIECE, end - at)
                pages.seek(at // PAGE * 8)
                entries = pages.read(size // PAGE * 8)
                if any(byte & THERE[0] for byte in entries[7::8]):
                    with suppress(OSError):  # a device's
                        memory.seek(at)
                        yield at, memory.read(size)
                at += size


def below(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    parents = dict(_parents())
    return [child for child in parents if pid in _above(child, parents)]


def machines(pid: int) -> list[int]:
    """The VMMs among them."""
    return [child for child in below(pid) if _name(child).startswith(VMMS)]


def _above(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid in parents:
        pid = parents[pid]
        yield pid


def _parents() -> Iterator[tuple[int, int]]:
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            yield int(place.name), int((place / "stat").read_text().rpartition(")")[2].split()[1])


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""
