"""The context of a Containerfile: files of the repository as git sees it, in one tar stream.

That is what git tracks and what it would: nothing that is ignored goes in, nor anything of `.git`. Which of it counts
`.containerignore` or `.dockerignore` says, which the builder obeys.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from git_sandbox import files
from git_sandbox.errors import ImageError, LimitError
from git_sandbox.git.command import Git
from git_sandbox.later import dataclass
from git_sandbox.text import one_line

if TYPE_CHECKING:
    import tarfile

MAX_FILES = 200_000
MAX_BYTES = 8 << 30  # of all files
CONTAINERFILE, CONTEXT = "Containerfile", "context"  # in the stream
_COPIES = re.compile(
    rb"^\s*(?:onbuild\s+)?(?:copy|add)\s(?!\s*(?:--\S+\s+)*--from=)|--mount", re.IGNORECASE | re.MULTILINE
)


class Pack:
    """A tar stream in the making, and a digest of all that is in it. Entries have no owner and no time, and one of two
    modes: the layers of a build go by them.
    """

    def __init__(self, stream: tarfile.TarFile) -> None:
        self._stream, self._hash, self._left = stream, hashlib.sha256(), MAX_BYTES

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def add_bytes(self, name: str, data: bytes) -> None:
        import tarfile  # late, here and below: with three compressors; most starts build nothing

        self._add(tarfile.TarInfo(name), len(data), io.BytesIO(data))

    def add(self, name: str, path: Path) -> None:
        """A file or a link; nothing for what is neither, as a repository in there, or is gone: git tracks it still.

        Raises ImageError for what cannot be read, LimitError.
        """
        import tarfile

        member = tarfile.TarInfo(name)
        try:
            seen = path.lstat()
            if stat.S_ISLNK(seen.st_mode):
                member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115 - as it stands
                self._add(member, 0, None)
            elif stat.S_ISREG(seen.st_mode):
                with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as content:
                    status = os.fstat(content.fileno())
                    member.mode = 0o755 if status.st_mode & 0o111 else 0o644
                    self._add(member, status.st_size, content)
        except FileNotFoundError:
            return
        except OSError as error:  # also where it became shorter meanwhile
            raise ImageError(f"cannot read {one_line(str(path))}", cause=files.why(error)) from error

    def _add(self, member: tarfile.TarInfo, size: int, content: IO[bytes] | None) -> None:
        self._left -= size
        if self._left < 0:
            raise LimitError(f"the build context has more than {MAX_BYTES >> 30} GiB")
        member.size = size
        row = (member.name, member.type, member.mode, member.linkname, size)
        self._hash.update(repr(row).encode("utf-8", "surrogateescape"))
        self._stream.addfile(member, cast("IO[bytes]", _Digesting(content, self._hash)) if content else None)


class _Digesting(io.RawIOBase):
    """A file whose bytes go into a digest as they are read."""

    def __init__(self, file: IO[bytes], digest: hashlib._Hash) -> None:
        self._file, self._digest = file, digest

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data


@contextlib.contextmanager
def packing(target: IO[bytes]) -> Iterator[Pack]:
    import tarfile

    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as stream:
        yield Pack(stream)


@dataclass(frozen=True)
class Context:
    """`top`: of the worktree. `directory`: of the context, relative to it; `.` for all."""

    git: Git
    top: Path
    directory: str = "."

    def names(self) -> list[str]:
        """Files and links below `directory`, relative to it, sorted. Raises LimitError."""
        below = [] if self.directory == "." else [self.directory]
        words = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--")
        rows = self.git.run(*words, *below).split(b"\0")
        prefix = "" if self.directory == "." else f"{self.directory}/"
        listed = sorted(name.removeprefix(prefix) for name in map(os.fsdecode, rows) if name)
        if len(listed) > MAX_FILES:
            raise LimitError(f"the build context has more than {MAX_FILES} files", hint="name a smaller directory")
        return listed

    def write(self, pack: Pack, containerfile: bytes) -> None:
        """A file that git tracks still, and whose directory is a link now, is gone for git, and not sent: it would be
        read wherever the link leads. Raises ImageError, LimitError.
        """
        pack.add_bytes(CONTAINERFILE, containerfile)
        if not needed(containerfile):
            return
        directories = {self.top: True}  # and whether there is no link on the way there
        if _linked(self.top / self.directory, directories):
            raise ImageError(f"the build context {one_line(self.directory)} is reached through a symbolic link")
        for name in self.names():
            path = self.top / self.directory / name
            if not _linked(path.parent, directories):
                pack.add(f"{CONTEXT}/{name}", path)


def _linked(directory: Path, known: dict[Path, bool]) -> bool:
    """Whether a link is on the way to it. `known`: directories without one (True), the top among them."""
    if directory not in known:
        known[directory] = not _linked(directory.parent, known) and not directory.is_symlink()
    return not known[directory]


def needed(containerfile: bytes) -> bool:
    """Whether a build reads its context: not where nothing is copied, or only between stages."""
    return _COPIES.search(containerfile) is not None
