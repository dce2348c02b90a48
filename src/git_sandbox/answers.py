"""A cache of answers of host programs (versions, capabilities), valid while the program's file is unchanged."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

from git_sandbox import files, jsontext, paths
from git_sandbox.errors import HostResourceError


class Answer(msgspec.Struct, frozen=True):
    """`asked`: all that the answer depends on."""

    asked: str
    text: str


def program(place: str) -> str:
    """Changes whenever another program is installed at the path `place`, a link perhaps. Raises OSError.

    The time of its change, too: on some systems (OSTree) all files have the same one of modification.
    """
    path = os.path.realpath(place)
    stat = Path(path).stat()
    return f"{place} {path} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def compiled(path: str) -> bool:
    """Whether a program is one itself. What a script says of itself depends on what it starts."""
    with contextlib.suppress(OSError), Path(path).open("rb") as file:
        return file.read(4) == b"\x7fELF"
    return False


def kept(question: str, asked: str) -> str | None:
    """The answer to `question`, a file name, if it was asked the same way; else None."""
    with contextlib.suppress(OSError, ValueError):
        answer = jsontext.load(_place(question), Answer, files.WRITTEN)
        return answer.text if answer.asked == asked else None
    return None


def keep(question: str, asked: str, text: str) -> None:
    with contextlib.suppress(OSError, HostResourceError):  # not to know it costs a process next time
        paths.private_directory(paths.cache_root())
        fresh = _place(question).with_suffix(f".{os.getpid()}")
        files.write(fresh, jsontext.encode(Answer(asked, text)))
        fresh.replace(_place(question))


def forget(question: str) -> None:
    with contextlib.suppress(OSError):
        _place(question).unlink()


def _place(question: str) -> Path:
    return paths.cache_root() / f"{question}.json"
