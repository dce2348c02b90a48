"""Makes a root file system from the layers of an OCI image: `python -P -m git_sandbox.helpers.rootfs ORDER`.

A program of its own, standard library only, that runs where it sees nothing but what it works on. ORDER is a file:

    layers   rows of {path, digest, size, diff_id}, the lowest first
    tree     a directory that is not there yet
    rootfs   the file to make, ext4
    scratch  another one
    mke2fs, debugfs   the programs
    entries, content, stream   limits: files of all layers, their bytes, bytes of one layer as an archive

It writes a line of JSON for each step: {"layer": N}, and at the end {"entries", "content", "devices"} or {"error"}.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from typing import Any

from git_sandbox.helpers import inodes
from git_sandbox.helpers.blobs import BlobError, Unpacked, check
from git_sandbox.helpers.flatten import Total, Tree
from git_sandbox.helpers.inodes import BLOCK
from git_sandbox.helpers.notes import LayerError, Notes
from git_sandbox.helpers.rooted import BadNameError
from git_sandbox.helpers.tarstream import TarError, TarReader

INODE = 256  # bytes
SPARE_INODES = 1024
# Named, so that no mke2fs.conf(5) has a say. No checksums of metadata: `inodes` writes into it.
FEATURES = "dir_index,filetype,ext_attr,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize"
SPARE = 32 << 20  # bytes: groups, bitmaps, what the guest's mount points take
SPACE = (errno.ENOSPC, errno.EDQUOT)


def main() -> int:
    with open(sys.argv[1], "rb") as file:  # noqa: PTH123 - no more imports
        order = json.load(file)
    try:
        total, notes = flatten(order)
        pack(order, total)
        describe(order, notes)
    except _StepError as error:
        _say({"error": str(error), "space": error.space})
        return 1
    _say({"entries": total.entries, "content": total.content, "devices": total.devices})
    return 0


class _StepError(Exception):
    """`space`: whether the disk is full."""

    space = False


def flatten(order: dict[str, Any]) -> tuple[Total, Notes]:
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
    return total, tree.notes


def _apply(tree: Tree, layer: dict[str, Any], most: int) -> None:
    with open(layer["path"], "rb", buffering=0) as blob:  # noqa: PTH123
        check(blob, layer["digest"], layer["size"])
        unpacked = Unpacked(blob, most)
        tree.apply(TarReader(unpacked))
        if unpacked.finish() != layer["diff_id"]:
            raise BlobError("unpacked, it does not match the image's configuration")


def _failed(where: str, error: Exception) -> _StepError:
    text = (error.strerror if isinstance(error, OSError) else "") or str(error) or "it needs too much memory"
    failure = _StepError(f"{where}: {text}")
    failure.space = isinstance(error, OSError) and error.errno in SPACE
    return failure


def pack(order: dict[str, Any], total: Total) -> None:
    """No journal: the image is only ever read. What it has too much room for takes none on the disk."""
    inodes = total.entries + SPARE_INODES
    size = total.blocks * 21 // 20 + inodes * INODE + SPARE
    argv = [order["mke2fs"], "-q", "-F", "-t", "ext4", "-O", f"none,{FEATURES}", "-m", "0", "-b", str(BLOCK)]
    argv += ["-I", str(INODE), "-N", str(inodes), "-L", "sandbox-root", "-d", order["tree"], order["rootfs"]]
    _say({"packing": size})
    os.umask(0o077)
    _run([*argv, f"{size >> 10}k"])


def describe(order: dict[str, Any], notes: Notes) -> None:
    """Owners, modes, times and extended attributes."""
    commands = f"{order['scratch']}/0"
    try:
        with open(order["rootfs"], "r+b", buffering=0) as file:  # noqa: PTH123
            inodes_of = inodes.write(file, notes)
        if not inodes_of:
            return
        os.mkdir(order["scratch"])  # noqa: PTH102
        lines = "".join(inodes.attribute_commands(inodes_of, notes, order["scratch"]))
        with open(commands, "w", encoding="utf-8") as script:  # noqa: PTH123
            script.write(lines)
    except (OSError, inodes.InodeError) as error:
        raise _failed("the file system", error) from error
    _run([order["debugfs"], "-w", "-f", commands, order["rootfs"]])


def _run(argv: list[str]) -> None:
    """What it says goes to standard error: answers are ours."""
    child = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
    _, status = os.waitpid(child, 0)
    if status:
        name, code = argv[0].rpartition("/")[2], os.waitstatus_to_exitcode(status)
        raise _StepError(f"{name} ended with status {code}")


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
