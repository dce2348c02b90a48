"""Git LFS objects that the host requests: plain files in the repository's store, so git-lfs need not be installed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.guest.repository import Repo

MAX_OBJECTS = 10_000  # in one answer


@dataclass(frozen=True)
class LfsObject:
    oid: str
    size: int
    path: Path


def available(repo: Repo, objects: list[dict[str, object]]) -> list[LfsObject]:
    """Those of `objects` (`oid` and `size` of each) that are here and have that size."""
    stores = places(repo)
    rows = [(str(row["oid"]), int(str(row["size"]))) for row in objects[:MAX_OBJECTS]]
    here = (there(stores, oid, size) for oid, size in rows if re.fullmatch("[0-9a-f]{64}", oid))
    return [item for item in here if item]


def places(repo: Repo) -> list[Path]:
    """Where git-lfs keeps objects: as `lfs.storage` says, and where it keeps them without that."""
    common = repo.line("rev-parse", "--path-format=absolute", "--git-common-dir") or os.fspath(repo.git_dir)
    common = common if repo.real_dir == repo.git_dir else os.fspath(repo.real_dir)
    storage = repo.line("config", "lfs.storage")
    stores = [Path(common, name, "objects") for name in (storage or "lfs", "lfs")]
    return [*stores, repo.real_dir / "lfs/objects"]  # the repository may be one of our own around a damaged one


def there(stores: list[Path], oid: str, size: int) -> LfsObject | None:
    for store in stores:
        path = store / oid[:2] / oid[2:4] / oid
        try:
            seen = path.stat()
        except OSError:
            continue
        if stat.S_ISREG(seen.st_mode) and seen.st_size == size:
            return LfsObject(oid, size, path)
    return None


def content(item: LfsObject, piece: int) -> Iterator[bytes]:
    """Exactly `size` bytes, `piece` at a time. What cannot be read is zeros: the host sees by the hash that they are
    not the content, and the objects after it still arrive.
    """
    left = item.size
    try:
        with item.path.open("rb") as file:
            while left and (data := file.read(min(piece, left))):
                yield data
                left -= len(data)
    except OSError:
        pass
    while left:
        data = b"\0" * min(piece, left)
        yield data
        left -= len(data)
