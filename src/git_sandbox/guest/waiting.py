"""Git that blocks on a FIFO reads an empty file there instead, so that it ends.

Git opens whatever has the name of a file it reads: `.gitattributes`, `info/exclude`, a ref, what `include.path` names.
With a FIFO in its place it would wait for ever for one who writes. Such a wait is seen from outside (proc(5): `syscall`
of a thread that is in openat(2)), so no list of names has to be complete. A filter or hook that git started is left
alone: it may wait for a writer of its own, and what it says is content.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

PATIENCE = 0.5  # seconds before it is looked at why a git does not end
AGAIN = 0.02  # the same for one that waited for a FIFO before: it may meet the next at once
OPENAT = {"x86_64": 257, "aarch64": 56}  # the system call's number, from the kernel's tables
MAX_NAME = 4096  # bytes of a path
_PAGE = 4096


def run(
    argv: list[str], *, env: Mapping[str, str], cwd: str | None = None, input: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """`subprocess.run` for a git in the guest: its output is kept, the exit status not judged."""
    pipe = subprocess.PIPE
    with (
        memory_file(input) as stdin,
        subprocess.Popen(argv, cwd=cwd, env=env, stdin=stdin, stdout=pipe, stderr=pipe) as process,
    ):
        return answer(process)


def memory_file(content: bytes = b"") -> IO[bytes]:
    """A file at its beginning, in memory: the disk, /tmp with it, may be full.

    Input comes from one and not through a pipe: `Popen.communicate` writes no more of it once it has timed out (as
    late as Python 3.13), and a git that was slow to read would wait for the rest for ever.
    """
    file = os.fdopen(os.memfd_create("git-sandbox"), "w+b")
    file.write(content)
    file.seek(0)
    return file


def answer(process: subprocess.Popen[bytes], *, within: float = math.inf) -> subprocess.CompletedProcess[bytes]:
    """What a process says until it ends. One that takes longer than `within` seconds is killed: TimeoutExpired."""
    patience, end = PATIENCE, time.monotonic() + within
    while True:
        try:
            out, complaint = process.communicate(timeout=patience)
            return subprocess.CompletedProcess(process.args, process.returncode, out, complaint)
        except subprocess.TimeoutExpired:
            if time.monotonic() > end:
                process.kill()
                raise
            patience = AGAIN if release(process.pid) else patience
        except BaseException:
            process.kill()
            raise


def release(pid: int) -> bool:
    """Let the git of that process, and those it started, go on that wait for a FIFO. Whether any did."""
    released = [_open_and_close(name, pid) for pid, name in _waits(pid)]
    return any(released)


def _open_and_close(name: bytes, pid: int) -> bool:
    """A FIFO that this user cannot write to ends who waits for it."""
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except PermissionError:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True


def _waits(pid: int) -> Iterator[tuple[int, bytes]]:
    """Each process that waits in openat(2), with the path of the FIFO as it is seen from here."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, ValueError):
                name = _opened(task)
                if name and _is_git(task) and Path(os.fsdecode(name)).is_fifo():
                    yield pid, name
            with contextlib.suppress(OSError):
                for child in (task / "children").read_text().split():
                    yield from _waits(int(child))


def _is_git(task: Path) -> bool:
    return (task / "exe").readlink().name.split("-")[0] == "git"


def _opened(task: Path) -> bytes | None:
    """The path that a thread is opening. Raises OSError, or ValueError for what is no path."""
    words = (task / "syscall").read_text().split()
    if words[0] != str(OPENAT.get(os.uname().machine)):
        return None
    name = _text_at(task / "mem", int(words[2], 16))
    place = os.fsencode(task / "cwd")  # git gives openat no other directory
    return name if name.startswith(b"/") else place + b"/" + name


def _text_at(memory: Path, address: int) -> bytes:
    """A string in the memory of another process, read page by page: the page behind it may not be there."""
    text = b""
    with memory.open("rb", buffering=0) as file:
        while len(text) < MAX_NAME:
            file.seek(address + len(text))
            text += file.read(_PAGE - (address + len(text)) % _PAGE)
            if b"\0" in text:
                return text[: text.index(b"\0")]
    raise ValueError("no path")
