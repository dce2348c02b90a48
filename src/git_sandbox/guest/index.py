"""A working copy of the index: the user's own index is not touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Self

from git_sandbox.guest.repository import Asked, Repo, text
from git_sandbox.guest.stage import CANNOT_WRITE, EXACT, StageError, whole_index

# Of what the user says of his file system, and of what git may believe without looking: here it looks itself.
LOOK = (
    *EXACT, "-c", "core.untrackedCache=false", "-c", "core.sparseCheckout=false", "-c", "core.preloadIndex=true",
)  # fmt: skip


class TemporaryIndex:
    """Below `place`, which is beside the real one or somewhere else. `damaged`: the real one is, and HEAD's tree (or
    nothing) is used instead.
    """

    def __init__(self, repo: Repo, place: Path) -> None:
        self.repo = repo
        self.path = place / f"sandbox-index-{os.getpid()}"
        self.env = {"GIT_INDEX_FILE": str(self.path)}
        self.damaged = False
        # A required filter that fails is fatal, and all would be lost. Not required, it leaves the file as it is.
        self._lenient = [word for key in repo.required_filters for word in ("-c", f"{key}=false")]
        self._lacking = ("--missing-ok",) if repo.partial else ()
        # An empty command is none.
        self._none = [*self._lenient, *(word for key in repo.filters for word in ("-c", f"{key}="))]

    def __enter__(self) -> Self:
        index = self.repo.git_dir / "index"
        if index.exists():
            shutil.copy2(index, self.path)  # with its time stamp, by which git tells racily clean entries
            self.damaged = not whole_index(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.path.with_name(f"{self.path.name}.lock").unlink(missing_ok=True)

    def ask(self, *args: str, input: bytes = b"", filters: bool = False) -> subprocess.CompletedProcess[bytes]:
        """Filters only for `add`: every command that writes an index reads racily clean files again, and a filter's
        process that dies then would cost all of it. Without them such a file is only marked as one to look at.

        Raises StageError where nothing can be written.
        """
        options = self._lenient if filters else self._none
        return _writable(self.repo.ask(*options, *LOOK, *args, input=input, env=self.env))

    def _begin(self, *args: str) -> Asked:
        return self.repo.begin(*self._none, *LOOK, *args, env=self.env)

    def begin_again(self, base: str | None) -> None:
        """As if nothing had ever been staged: with the tree of `base`, or empty."""
        self.damaged = True
        self._remove()
        if base:
            self.ask("read-tree", base)

    def written(self) -> tuple[int, ...]:
        """Another value whenever git has written the index: that makes a new file of it."""
        try:
            seen = self.path.stat()
        except FileNotFoundError:
            return ()
        return seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size

    def tree(self) -> str | None:
        return _tree(_writable(self._begin("write-tree", *self._lacking).answer()))

    def converts(self) -> bool:
        """Whether git understands what the configuration says of converting files; filters themselves do not run."""
        return self.ask("hash-object", "--stdin", "--path=x").returncode == 0

    def files(self, *args: str) -> list[bytes]:
        return _rows(self.ask("ls-files", "-z", *args))

    def tree_and_marks(self) -> tuple[str | None, list[bytes]] | None:
        """Its tree, and every file with the mark that may hide edits of it; None where git cannot read it.

        (`write-tree` may replace the index, which does not disturb who reads it.)
        """
        tree, rows = self._begin("write-tree", *self._lacking), self._begin("ls-files", "-z", "-v")
        written, listed = tree.answer(), rows.answer()
        if listed.returncode:
            return None
        return _tree(_writable(written)), _rows(listed)


def _writable(done: subprocess.CompletedProcess[bytes]) -> subprocess.CompletedProcess[bytes]:
    if done.returncode and any(sign in done.stderr for sign in CANNOT_WRITE):
        raise StageError(text(done.stderr[-500:]).strip())
    return done


def _tree(done: subprocess.CompletedProcess[bytes]) -> str | None:
    return text(done.stdout).strip() if done.returncode == 0 else None


def _rows(done: subprocess.CompletedProcess[bytes]) -> list[bytes]:
    return [row for row in done.stdout.split(b"\0") if row]
