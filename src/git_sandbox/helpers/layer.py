"""What a build step changes in a tree, as a layer of overlayfs. Runs in the confinement of an image build:

    remember TREE NOTES          before the step: a stamp of every file
    difference TREE NOTES LAYER  after it: moves what is new or changed to LAYER, and prints its bytes and files

Standard library only, for /usr/bin/python3, which may be an old one. A layer holds changed files whole, the directories
that lead to them with their own attributes, and for what is gone a whiteout: a character device 0/0
(Documentation/filesystems/overlayfs.rst). No directory is opaque: each name that is gone from one has its whiteout.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

BLOCK, ROW = 4096, 512  # bytes of a file system's block, and what it keeps beside the content of each file
WHITEOUT = stat.S_IFCHR
Tree = dict[str, os.stat_result]


def entries(tree: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every path below `tree`, relative, directories before what is in them."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(Path(tree, above)) as scan:
            for entry in scan:
                path, status = f"{above}/{entry.name}" if above else entry.name, entry.stat(follow_symlinks=False)
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(path)


def stamp(status: os.stat_result) -> list[int]:
    """Changes with the file; a directory's only with its own attributes, not with what is in it."""
    own = [status.st_ino, status.st_mode, status.st_uid, status.st_gid]
    return own if stat.S_ISDIR(status.st_mode) else [*own, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def remember(tree: str, notes: str) -> None:
    Path(notes).write_text(json.dumps({path: stamp(status) for path, status in entries(tree)}))


def difference(tree: str, notes: str, layer: str) -> None:
    before: dict[str, list[int]] = json.loads(Path(notes).read_text())
    after = dict(entries(tree))
    Path(layer).mkdir()
    made_of = {"": os.lstat(tree)}
    attributes(made_of[""], tree, layer)
    for path, status in after.items():
        if before.get(path) == stamp(status):
            continue
        if stat.S_ISDIR(status.st_mode):
            lead(path, after, tree, layer, made_of)
        else:
            lead(parent(path), after, tree, layer, made_of)
            Path(tree, path).rename(Path(layer, path))
    for path in before.keys() - after.keys():
        above = parent(path)
        if not above or (above in after and stat.S_ISDIR(after[above].st_mode)):  # else it went with that one
            lead(above, after, tree, layer, made_of)
            os.mknod(Path(layer, path), WHITEOUT, 0)
    for path, status in made_of.items():
        os.utime(Path(layer, path), ns=(status.st_atime_ns, status.st_mtime_ns))


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def lead(path: str, after: Tree, tree: str, layer: str, present: Tree) -> None:
    """Make the directory `path` of the layer, and those above it, as they are in the tree."""
    missing = []
    while path not in present:
        missing.append(path)
        path = parent(path)
    for above in reversed(missing):
        present[above] = after[above]
        Path(layer, above).mkdir()
        attributes(after[above], os.fspath(Path(tree, above)), os.fspath(Path(layer, above)))


def attributes(status: os.stat_result, source: str, target: str) -> None:
    os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)  # last, for its mode


def measure(layer: str) -> tuple[int, int]:
    """Bytes and files of a file system that holds it, without slack."""
    size = count = 0
    for _, status in entries(layer):
        size += (-(-status.st_size // BLOCK) * BLOCK if stat.S_ISREG(status.st_mode) else BLOCK) + ROW
        count += 1
    return size, count


if __name__ == "__main__":
    operation, *paths = sys.argv[1:]
    if operation == "remember":
        remember(*paths)
    else:
        difference(*paths)
        sys.stdout.write("{} {}\n".format(*measure(paths[-1])))
