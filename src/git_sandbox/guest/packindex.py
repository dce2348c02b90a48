"""Derived files of packs that git cannot do without: the index of each, and one over several.

A killed machine leaves zeros, or none. The pack has everything that was in its index, so it is made again, and one over
several goes: git then reads those of the packs.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from git_sandbox.guest import waiting
from git_sandbox.guest.repository import environment

SIGNATURE = {".idx": b"\xfftOc", "multi-pack-index": b"MIDX"}
AWAY = ".damaged"  # behind the name of what git must not read
_CHUNK = 1 << 20


def mend(place: Path, object_format: str) -> dict[str, bool]:
    """Each pack or file in the directory `place` of which the index was damaged, and whether that is made good."""
    mended = {}
    over_all = place / "multi-pack-index"
    if os.path.lexists(over_all) and not _whole(over_all, SIGNATURE["multi-pack-index"], object_format):
        mended[over_all.name] = _away(over_all)
    for pack in sorted(place.glob("pack-*.pack")):
        index = pack.with_suffix(".idx")
        if not _whole(index, SIGNATURE[".idx"], object_format):
            mended[pack.name] = (_away(index) or not os.path.lexists(index)) and _again(pack, index, object_format)
    return mended


def _whole(path: Path, signature: bytes, object_format: str) -> bool:
    """Whether it begins as it must and ends with its own checksum. Never waits for a FIFO."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return True  # it is somebody else's, and may well be whole
    except OSError:
        return False
    digest = hashlib.new(object_format, usedforsecurity=False)
    with os.fdopen(handle, "rb") as file:
        seen = os.fstat(handle)
        left = seen.st_size - digest.digest_size
        if not stat.S_ISREG(seen.st_mode) or left < len(signature) or file.read(len(signature)) != signature:
            return False
        file.seek(0)
        while left and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        return file.read(digest.digest_size) == digest.digest()


def _away(path: Path) -> bool:
    try:
        path.rename(path.with_name(path.name + AWAY))
    except OSError:
        return False
    return True


def _again(pack: Path, index: Path, object_format: str) -> bool:
    words = ["git", "index-pack", f"--object-format={object_format}", "-o", os.fspath(index), os.fspath(pack)]
    return waiting.run(words, env=environment()).returncode == 0
