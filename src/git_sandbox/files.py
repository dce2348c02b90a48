"""Small files: read with a limit and without blocking, and created for this user only.

A name can lead to anything: a FIFO nobody writes to, a device without an end, a directory, a link. Who reads a settings
file, a record or a list of ours gets its bytes, or an OSError or ValueError that says what is wrong with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import IO, Any, NamedTuple

WRITTEN = 64 << 10  # bytes of a file that a person writes
RECORD = 64 << 20  # bytes of one that we write; the refs of a repository may be in it


class Content(NamedTuple):
    """`real`: the path of what was read, without links in it."""

    data: bytes
    real: Path


def read(path: Path, most: int = WRITTEN, *, follow: bool = True) -> bytes:
    """The content of a regular file. Raises OSError, or ValueError for one of more than `most` bytes or of a kind
    that has no content.
    """
    return content(path, most, follow=follow).data


def content(path: Path, most: int = WRITTEN, *, follow: bool = True) -> Content:
    """The same, and which file it was: the two belong together, whatever becomes of the name."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    with os.fdopen(os.open(path, flags), "rb") as file:
        kind = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(kind):
            raise ValueError("it is not a regular file")
        data = file.read(most + 1)
        if len(data) > most:
            raise ValueError(f"it has more than {most >> 10} KiB")
        return Content(data, Path(f"/proc/self/fd/{file.fileno()}").readlink())


def why(error: Exception) -> str:
    """What is wrong with a file that could not be read, in a few words that may be printed."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return "".join(character if character.isprintable() else "?" for character in text[:300])


def private(path: str, flags: int) -> int:
    """An `opener` for `open`: what is made is this user's only, whatever the umask."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    if flags & os.O_CREAT and os.fstat(descriptor).st_mode & 0o777 != 0o600:  # noqa: PLR2004 - rw for its owner
        os.fchmod(descriptor, 0o600)
    return descriptor


def opened(path: Path, mode: str) -> IO[Any]:
    """`open` for a file of ours, which is made private. Raises OSError."""
    return open(path, mode, opener=private)


def write(path: Path, content: bytes) -> None:
    """Make or replace the content of a file of ours. Raises OSError."""
    with opened(path, "wb") as file:
        file.write(content)


def remove_tree(path: Path, *, ignore_errors: bool = True) -> None:
    """Remove a file or a directory, also below directories that may not be read or written. No link is followed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    _open_up(path)
    for directory, names, _ in os.walk(path):  # which looks into each of them after this
        for name in names:
            _open_up(Path(directory, name))
    import shutil  # late: with all that it can unpack; `sandbox ls` does without

    shutil.rmtree(path, ignore_errors=ignore_errors)


def _open_up(directory: Path) -> None:
    if not directory.is_symlink() and not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        with contextlib.suppress(OSError):
            directory.chmod(0o700)


def tail(path: Path, most: int) -> bytes:
    """The last `most` bytes of a file of ours, of which the rest is not read. Raises OSError."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - most))
        return file.read(most)
