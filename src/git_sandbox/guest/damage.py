"""Objects that exist but cannot be read. What needs one of them is set aside; everything else is exported."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zlib
from pathlib import Path

from git_sandbox.guest import packindex
from git_sandbox.guest.repository import Repo, object_store

CHUNK = 1 << 20
AWAY = ".damaged"  # behind the name of a loose object that git must not take for one
OID = re.compile(r"\b[0-9a-f]{40}(?:[0-9a-f]{24})?\b")
# As fsck says.
PACKED = re.compile(rb"cannot unpack ([0-9a-f]{40,64}) from |packed ([0-9a-f]{40,64}) from .* is corrupt")
PLACE = re.compile("[0-9a-f]+")


def move_away(repo: Repo) -> list[str]:
    """Give loose objects another name whose content is not what their names say. git would neither get past them nor
    write them again where the files still have their content.
    """
    moved = []
    for path in object_store(repo).glob("[0-9a-f][0-9a-f]/*"):
        if PLACE.fullmatch(path.name) and not sound(path, repo.object_format):
            try:
                path.rename(path.with_name(path.name + AWAY))
            except OSError:
                repo.bad.add(path.parent.name + path.name)
            moved.append(path.parent.name + path.name)
    if moved:
        repo.warn(f"{len(moved)} objects cannot be read: {', '.join(moved[:10])}")
    return moved


def derived(repo: Repo) -> bool:
    """Make again what git derives from packs. Whether anything was damaged."""
    mended = packindex.mend(object_store(repo) / "pack", repo.object_format)
    for name, done in mended.items():
        repo.warn(f"the index of {name} was damaged: {'it is rebuilt' if done else 'the pack cannot be read'}")
    return any(mended.values())


def sound(path: Path, object_format: str) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    digest, inflate = hashlib.new(object_format, usedforsecurity=False), zlib.decompressobj()
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return False
        try:
            while chunk := file.read(CHUNK):
                while chunk:
                    digest.update(inflate.decompress(chunk, CHUNK))
                    chunk = inflate.unconsumed_tail
        except (OSError, zlib.error):
            return False
    return inflate.eof and digest.hexdigest() == path.parent.name + path.name


def packs(repo: Repo) -> None:
    """Note the objects in packs that cannot be read. `verify-pack` would end at the first, so it is `fsck`, which reads
    everything: only where something was found damaged.
    """
    done = repo.ask("fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress")
    lost = {os.fsdecode(name) for pair in PACKED.findall(done.stderr) for name in pair if name}
    if lost - repo.bad:
        repo.warn(f"a pack is damaged: {len(lost)} objects cannot be read: {', '.join(sorted(lost)[:10])}")
    repo.bad |= lost


def learn(repo: Repo, complaint: str) -> bool:
    """Note the objects that git names when it gives up. False: none that was not known."""
    new = set(OID.findall(complaint)) - repo.bad
    repo.bad |= new
    return bool(new)
