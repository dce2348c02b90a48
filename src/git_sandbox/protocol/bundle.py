"""A guest's refs and pack as a file for a person, unexamined: a git bundle (gitformat-bundle(5)) with its list of refs.

Nothing of it is read by a git on this host. It is for a machine that may be lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from git_sandbox.errors import CollectError, HostResourceError, UsageError
from git_sandbox.free_space import watched
from git_sandbox.protocol import manifest
from git_sandbox.protocol.manifest import Manifest

_EMPTY = struct.pack(">4sII", b"PACK", 2, 0)


def write(target: Path, header: bytes, chunks: Iterable[bytes], *, object_format: str, base: str | None) -> list[Path]:
    """Write the guest's manifest `header` to `target` with `.json` added, and its pack to `target`: as a bundle which
    needs the commit `base`, or bare when the manifest is malformed. Both are new files, mode 0600; what was written.

    Raises UsageError when one is there already, HostResourceError, or what reading `chunks` raises; then neither is.
    """
    beside = target.with_name(f"{target.name}.json")
    with fresh(beside) as listed, fresh(target) as out:
        listed.write(header)
        head = _head(header, object_format, base)
        out.write(head)
        empty = True
        for chunk in watched(chunks, target.absolute().parent):
            empty = False
            out.write(chunk)
        if empty and head:
            out.write(_EMPTY + hashlib.new(object_format, _EMPTY, usedforsecurity=False).digest())
    return [target, beside]


@contextlib.contextmanager
def fresh(path: Path) -> Iterator[IO[bytes]]:
    """A file that was not there, not even as a dangling link; gone again when the block fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists", hint="name another file: nothing is overwritten") from None
    except OSError as error:
        raise HostResourceError(f"cannot create {path}", cause=error.strerror or str(error)) from error
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
    except OSError as error:
        path.unlink(missing_ok=True)
        raise HostResourceError(f"cannot write {path}", cause=error.strerror or str(error)) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _head(header: bytes, object_format: str, base: str | None) -> bytes:
    try:
        return head(manifest.parse(header, object_format=object_format), base)
    except CollectError:
        return b""


def head(manifest: Manifest, base: str | None) -> bytes:
    """What stands before the pack. Every name in it was checked: none has a line break or a space."""
    rows = [(manifest.head.oid, "HEAD")] if manifest.head.oid else []
    rows += [(ref.oid, ref.name) for ref in manifest.refs]
    rows += [(entry.oid, f"refs/sandbox/stash/{number}") for number, entry in enumerate(manifest.stash)]
    rows += [(manifest.wip.oid, "refs/sandbox/wip")] if manifest.wip else []
    lines = ["# v2 git bundle"] if manifest.object_format == "sha1" else ["# v3 git bundle", "@object-format=sha256"]
    lines += [f"-{base} the commit the sandbox started from"] if base else []
    lines += [f"{oid} {name}" for oid, name in rows]
    return "".join(f"{line}\n" for line in [*lines, ""]).encode("utf-8", "surrogateescape")
