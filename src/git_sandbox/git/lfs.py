"""Git LFS without git-lfs: pointers in commits, and the user's store of objects.

A pointer is a small blob that names a file's content by SHA-256 and size; git-lfs keeps that content as a plain file in
its store. Which version of git-lfs wrote it does not matter: this reads what git-lfs reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from git_sandbox.errors import RepositoryError
from git_sandbox.git.bounds import PATIENT
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.later import dataclass
from git_sandbox.text import printable

MAX_POINTER = 1024  # bytes; git-lfs takes no longer blob for one
MAX_LISTED = 64 << 20  # bytes of git's list of small blobs; a guest can make millions
KEEP_FREE = 1 << 30  # bytes of the store's file system that stay free
_VERSIONS = ("https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2")
_EXTENSION = re.compile(r"ext-[0-9]+-\w+")
_OID = re.compile(r"sha256:([0-9a-f]{64})")
_BATCH = 10_000  # blobs read at once


@dataclass(frozen=True, order=True)
class Pointer:
    """`oid` is a SHA-256 in hexadecimal, `size` in bytes."""

    oid: str
    size: int


def parse(blob: bytes) -> Pointer | None:
    """The pointer that `blob` is; None when it is none."""
    if len(blob) > MAX_POINTER or not any(word in blob for word in (b"git-lfs", b"hawser", b"git-media")):
        return None
    rows = [line.removesuffix("\r").partition(" ") for line in blob.decode("utf-8", "replace").split("\n") if line]
    plain = [(key, value) for key, _, value in rows if not _EXTENSION.fullmatch(key)]
    if [key for key, _ in plain] != ["version", "oid", "size"]:
        return None
    (_, version), (_, oid), (_, size) = plain
    match = _OID.fullmatch(oid)
    if version not in _VERSIONS or not match or not re.fullmatch("[0-9]{1,18}", size):
        return None
    return Pointer(match[1], int(size))


def pointers(repo: Repository, tips: Iterable[str], without: Iterable[str]) -> dict[Pointer, str]:
    """Every pointer that `tips` reach and `without` does not, each with a path it is at (guest text).

    Raises SandboxError when there are too many small files to look at all of them.
    """
    repo = repo.within(PATIENT)  # its content has to come home, however much history there is
    asked = "".join(f"{tip}\n" for tip in (*tips, *(f"^{known}" for known in without)))
    words = ("--objects", "--ignore-missing", f"--filter=blob:limit={MAX_POINTER + 1}", "--filter=object:type=blob")
    listed = repo.git.try_run("rev-list", "--stdin", *words, input=asked.encode(), output=MAX_LISTED)
    if listed.returncode != 0:
        raise RepositoryError("git rev-list failed", cause=printable(listed.complaint, limit=2000))
    rows = (line.partition(b" ") for line in listed.stdout.split(b"\n"))
    blobs = {Oid(name.decode("ascii")): path for name, _, path in rows if path}  # the tips themselves have no path
    path_of: dict[Pointer, str] = {}
    for name, pointer in read(repo.git, blobs).items():
        path_of.setdefault(pointer, blobs[name].decode("utf-8", "surrogateescape"))
    return path_of


def read(git: Git, blobs: Iterable[Oid]) -> dict[Oid, Pointer]:
    """Those of `blobs` that are pointers. One that is missing (a partial clone) is none."""
    rest = iter(blobs)
    pointers: dict[Oid, Pointer] = {}
    while batch := list(itertools.islice(rest, _BATCH)):
        asked = "".join(f"{name}\n" for name in batch).encode()
        sizes = git.run("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", input=asked)
        rows = [row.split(" ") for row in sizes.decode("ascii").splitlines()]
        small = [row[0] for row in rows if row[1:2] == ["blob"] and 0 < int(row[2]) <= MAX_POINTER]
        pointers |= _parsed(git, small)
    return pointers


def _parsed(git: Git, names: Sequence[str]) -> dict[Oid, Pointer]:
    data, parsed = git.run("cat-file", "--batch=%(objectsize)", input="".join(f"{n}\n" for n in names).encode()), {}
    at = 0
    for name in names:
        end = data.index(b"\n", at)
        size = int(data[at:end])
        if pointer := parse(data[end + 1 : end + 1 + size]):
            parsed[Oid(name)] = pointer
        at = end + 2 + size
    return parsed


# --- the store --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """Where git-lfs of this repository keeps objects (`git lfs env`: LocalMediaDir), and where it writes them first."""

    root: Path

    @classmethod
    def of(cls, repo: Repository) -> Store:
        """As the user's own configuration says; a `.lfsconfig`, which a guest may have written, has no say."""
        setting = repo.git.try_run("config", "lfs.storage").text.strip()
        return cls(repo.common_dir / (setting or "lfs"))

    def path(self, oid: str) -> Path:
        return self.root / "objects" / oid[:2] / oid[2:4] / oid

    def has(self, pointer: Pointer) -> bool:
        """Empty content needs no object."""
        with contextlib.suppress(OSError):
            return self.path(pointer.oid).stat().st_size == pointer.size
        return pointer.size == 0

    def room(self) -> int:
        """Bytes that may still be written."""
        place = next(directory for directory in (self.root, *self.root.parents) if directory.is_dir())
        return max(0, shutil.disk_usage(place).free - KEEP_FREE)


def missing(repo: Repository, pointers: Mapping[Pointer, str]) -> dict[Pointer, str]:
    """Those of `pointers` whose content is not in the user's store."""
    store = Store.of(repo)
    return {pointer: path for pointer, path in pointers.items() if not store.has(pointer)}


def receive(store: Store, objects: Sequence[Pointer], chunks: Iterable[bytes]) -> Iterator[tuple[Pointer, bool]]:
    """Store the content of `objects`, which `chunks` hold in that order; of each whether it is what its name says.

    Each appears in the store whole and proved, or not at all. Raises OSError (a full disk) and what `chunks` raises;
    what was stored before stays.
    """
    left = _Pieces(chunks)
    for pointer in objects:
        yield pointer, _store(store, pointer, left)


class _Pieces:
    """Chunks of any length, taken in other lengths."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def take(self, size: int) -> Iterator[memoryview]:
        """`size` bytes, in pieces; fewer at the end of all."""
        while size:
            if not self._rest:
                self._rest = memoryview(next(self._chunks, b""))
                if not self._rest:
                    return
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            yield piece


def _store(store: Store, pointer: Pointer, pieces: _Pieces) -> bool:
    temporary = store.root / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=temporary, prefix="git-sandbox-", delete=False) as out:
        written = Path(out.name)
        try:
            for piece in pieces.take(pointer.size):
                digest.update(piece)
                out.write(piece)
            if digest.hexdigest() != pointer.oid or out.tell() != pointer.size:
                return False
            out.flush()
            os.fchmod(out.fileno(), 0o444)
            os.fsync(out.fileno())
            place = store.path(pointer.oid)
            place.parent.mkdir(parents=True, exist_ok=True)
            written.replace(place)
            return True
        finally:
            written.unlink(missing_ok=True)
