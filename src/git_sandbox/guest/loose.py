"""Writes loose objects without git: for a file that only root may open, and that git therefore never reads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zlib
from pathlib import Path

CHUNK = 1 << 20
ATTEMPTS = 3  # for a file that is written while it is read


class ChangedError(OSError):
    """The file changed while it was read, every time."""


def write_blob(objects: Path, handle: int, object_format: str) -> str:
    """Store the content of the open file `handle` below `objects`; the object's name. Raises OSError."""
    for _ in range(ATTEMPTS):
        if process := _attempt(objects, handle, object_format):
            return process
    raise ChangedError("it changed while it was read")


def write_bytes(objects: Path, data: bytes, object_format: str) -> str:
    with os.fdopen(os.memfd_create("blob"), "w+b") as file:
        file.write(data)
        file.flush()
        return write_blob(objects, file.fileno(), object_format)


def _attempt(objects: Path, handle: int, object_format: str) -> str | None:
    size = os.fstat(handle).st_size
    digest, deflate = hashlib.new(object_format, usedforsecurity=False), zlib.compressobj(1)
    descriptor, path = tempfile.mkstemp(prefix="tmp_obj_", dir=objects)
    try:
        with os.fdopen(descriptor, "wb") as out:
            begin = b"blob %d\0" % size
            digest.update(begin)
            out.write(deflate.compress(begin))
            at = 0
            while at < size:
                chunk = os.pread(handle, min(CHUNK, size - at), at)
                if not chunk:
                    return None  # it has become shorter
                at += len(chunk)
                digest.update(chunk)
                out.write(deflate.compress(chunk))
            out.write(deflate.flush())
        return _placed(objects, path, digest.hexdigest())
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108


def _placed(objects: Path, path: str, name: str) -> str:
    directory = objects / name[:2]
    directory.mkdir(exist_ok=True)
    os.chmod(path, 0o444)  # noqa: PTH101 - as git has it
    os.replace(path, directory / name[2:])  # noqa: PTH105
    return name
