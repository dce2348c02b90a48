"""Make a root file system of the layers of an OCI image: `fakeroot python -P -m git_sandbox.helpers.rootfs ORDER`.

A program of its own, standard library only, that runs where it sees nothing but what it works on. ORDER is a file:

    layers   rows of {path, digest, size, diff_id}, the lowest first
    tree     a directory that is not there yet
    rootfs   the file to make, ext4
    mke2fs   the program
    entries, content, stream   limits: files of all layers, their bytes, bytes of one layer as an archive

It writes a line of JSON for each step: {"layer": N}, and at the end {"entries", "content", "devices"} or {"error"}.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any

from git_sandbox.helpers.blobs import BlobError, Unpacked, check
from git_sandbox.helpers.flatten import LayerError, Total, Tree
from git_sandbox.helpers.rooted import BadNameError
from git_sandbox.helpers.tarstream import TarError, TarReader

INODE = 256  # bytes
SPARE_INODES = 1024
SPARE = 32 << 20  # bytes: groups, bitmaps, what the guest's mount points take
SPACE = (errno.ENOSPC, errno.EDQUOT)


def main() -> int:
    with open(sys.argv[1], "rb") as file:  # noqa: PTH123 - no more imports
        order = json.load(file)
    try:
        total = flatten(order)
        pack(order, total)
    except _StepError as error:
        _say({"error": str(error), "space": error.space})
        return 1
    _say({"entries": total.entries, "content": total.content, "devices": total.devices})
    return 0


class _StepError(Exception):
    """`space`: whether the disk is full."""

    space = False


def flatten(order: dict[str, Any]) -> Total:
    """All layers over each other in `tree`."""
    os.umask(0)
    os.mkdir(order["tree"], 0o755)  # noqa: PTH102
    total = Total(order["entries"], order["content"])
    tree = Tree(os.open(order["tree"], os.O_RDONLY | os.O_DIRECTORY), total)
    for number, layer in enumerate(order["layers"], 1):
        _say({"layer": number})
        try:
            _apply(tree, layer, order["stream"])
        except (LayerError, TarError, BlobError, BadNameError, OSError, MemoryError, RecursionError) as error:
            raise _failed(f"layer {number} of {len(order['layers'])}", error) from error
    tree.finish()
    os.close(tree.root)
    return total


def _apply(tree: Tree, layer: dict[str, Any], most: int) -> None:
    with open(layer["path"], "rb", buffering=0) as blob:  # noqa: PTH123
        check(blob, layer["digest"], layer["size"])
        unpacked = Unpacked(blob, most)
        tree.apply(TarReader(unpacked))
        if unpacked.finish() != layer["diff_id"]:
            raise BlobError("unpacked it is not the one that the image's configuration names")


def _failed(where: str, error: Exception) -> _StepError:
    text = (error.strerror if isinstance(error, OSError) else "") or str(error) or "it needs too much memory"
    failure = _StepError(f"{where}: {text}")
    failure.space = isinstance(error, OSError) and error.errno in SPACE
    return failure


def pack(order: dict[str, Any], total: Total) -> None:
    """No journal: the image is only ever read. What it has too much room for takes none on the disk."""
    inodes = total.entries + SPARE_INODES
    size = total.blocks * 21 // 20 + inodes * INODE + SPARE
    argv = [order["mke2fs"], "-q", "-F", "-t", "ext4", "-O", "^has_journal,^resize_inode", "-m", "0", "-b", "4096"]
    argv += ["-I", str(INODE), "-N", str(inodes), "-L", "sandbox-root", "-d", order["tree"], order["rootfs"]]
    _say({"packing": size})
    os.umask(0o077)
    quiet = [(os.POSIX_SPAWN_DUP2, 2, 1)]  # answers are ours
    child = os.posix_spawn(argv[0], [*argv, f"{size >> 10}k"], os.environ, file_actions=quiet)
    _, status = os.waitpid(child, 0)
    if status:
        raise _StepError(f"mke2fs ended with status {os.waitstatus_to_exitcode(status)}")


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
