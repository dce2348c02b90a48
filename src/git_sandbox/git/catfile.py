"""One `git cat-file --batch-command` process that answers many questions about objects (git 2.36 and newer).

Starting git costs more than most questions, above all where it is confined. It ends when its input is closed, so also
when we die.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from git_sandbox import process
from git_sandbox.process import Child

WORDS = ("cat-file", "--batch-command", "--buffer")
_ROW = 1 << 14  # bytes of one answer without content; a name that is not there comes back as it was


class CatFileError(Exception):
    """Git has ended, or says something else than an answer; its complaint is the text."""


class CatFile:
    """`start`: runs git with `WORDS` as long as its block lasts, complaining into the file it is given. `seconds`: that
    one git may take for all of its answers. After a `CatFileError` the next question gets a git of its own.
    """

    def __init__(
        self, start: Callable[[IO[bytes]], contextlib.AbstractContextManager[Child]], place: Path, seconds: float
    ) -> None:
        self._start, self._place, self._seconds = start, place, seconds
        self._stack = contextlib.ExitStack()
        self._git: Child | None = None

    def close(self) -> None:
        self._git = None
        self._stack.close()

    def kinds(self, names: Sequence[str]) -> list[tuple[str, int]]:
        """Type and size of each; "missing" and 0 for what is not there. `names`: as git-rev-parse(1), in one line."""
        with self._asked("info", names) as answers:
            return [_kind(_row(answers)) for _ in names]

    def contents(self, names: Sequence[str]) -> list[bytes]:
        """Of objects that are there: all of them are in memory then."""
        with self._asked("contents", names) as answers:
            return [_content(answers) for _ in names]

    @contextlib.contextmanager
    def _asked(self, verb: str, names: Sequence[str]) -> Iterator[IO[bytes]]:
        git = self._running()
        lines = "".join(f"{verb} {name}\n" for name in names).encode("ascii")
        writer = threading.Thread(target=_write, args=(git, lines + b"flush\n"), daemon=True)
        writer.start()  # git may want to be read before it reads on
        try:
            yield git.stdout
        except BaseException as error:
            process.kill_group(git.pid)  # it may be waiting for us, and the writer for it
            self.close()
            writer.join()
            if isinstance(error, (ValueError, OSError)):
                raise CatFileError(self._complaint() or "git cat-file ended") from error
            raise
        writer.join()

    def _running(self) -> Child:
        if self._git is None:
            complaints = self._stack.enter_context(self._place.open("wb"))
            self._git = self._stack.enter_context(self._start(complaints))
            watchdog = threading.Timer(self._seconds, process.kill_group, (self._git.pid,))
            watchdog.daemon = True
            watchdog.start()
            self._stack.callback(watchdog.cancel)
        return self._git

    def _complaint(self) -> str:
        with self._place.open("rb") as file:
            return file.read(process.STDERR_LIMIT).decode("utf-8", "replace").strip()


def _write(git: Child, text: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # it has ended: who reads finds that out
        git.stdin.write(text)
        git.stdin.flush()


def _row(answers: IO[bytes]) -> bytes:
    """Raises ValueError at the end."""
    row = answers.readline(_ROW)
    if not row.endswith(b"\n"):
        raise ValueError("the answer is not complete")
    return row[:-1]


def _kind(row: bytes) -> tuple[str, int]:
    """Raises ValueError for what is neither an answer nor "missing"."""
    if row.endswith(b" missing"):
        return "missing", 0
    _, kind, size = row.split(b" ")
    return kind.decode("ascii"), int(size)


def _content(answers: IO[bytes]) -> bytes:
    kind, size = _kind(_row(answers))
    if kind == "missing":
        raise ValueError("an object is missing")
    data = answers.read(size + 1)
    if len(data) != size + 1:
        raise ValueError("the answer is not complete")
    return data[:-1]
