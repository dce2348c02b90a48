"""A throw-away bare repository in which a guest's pack is unpacked and examined.

It borrows the user's objects (alternates), so a thin pack can be completed and links can be followed; nothing is
written to the user's repository before the `Delivery`.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import shutil
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from git_sandbox import files, process
from git_sandbox.collect import packhead
from git_sandbox.collect.confinement import confinement
from git_sandbox.collect.packhead import refused
from git_sandbox.errors import DamagedError, HostResourceError
from git_sandbox.git import gitdirs
from git_sandbox.git.catfile import WORDS, CatFile, CatFileError
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.names import Oid
from git_sandbox.git.repo import Repository
from git_sandbox.guest import protocol
from git_sandbox.later import dataclass
from git_sandbox.process import Child, Completed
from git_sandbox.text import printable

_TOO_LARGE = "exceeds maximum allowed size"  # as index-pack says it
_THREADS = 2  # each may hold a few objects of `alloc` bytes
_LOCK = "git-sandbox.lock"  # held as long as the quarantine is in use
_IGNORE_CASE = b"core.ignorecase"
_ASKED = r"^(extensions\.partialclone|remote\..*\.promisor|core\.ignorecase)$"
_CONFIG = {
    "sha1": "[core]\n\trepositoryformatversion = 0\n\tbare = true\n",
    "sha256": "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n\tobjectformat = sha256\n",
}
_NOTHING: Mapping[str, str] = {}
_CACHE = ("-c", "core.packedGitWindowSize=16m", "-c", "core.packedGitLimit=256m")
_MAX_COMPLAINTS = 64 << 20  # bytes that git may say about the objects of one pack
_DIED = 64  # `git fsck` ends with a sum of small bits, with 128 and more when it gave up


@dataclass(frozen=True)
class CollectLimits:
    """What one import may cost. Sizes in bytes, times in seconds."""

    pack: int = 8 << 30  # as transferred
    objects: int = 10_000_000
    alloc: int = 1 << 30  # one allocation of git's: a delta of a few bytes can stand for any size
    memory: int = 4 << 30  # address space of one git process
    cpu: int = 3600
    time: float = 2 * 3600.0
    blob: int = protocol.MAX_BLOB
    tree: int = 64 << 20
    message: int = 16 << 20  # a commit or tag object
    parents: int = 1000  # of one commit: git takes memory for each, and a delta of 50 bytes can name 100 000 again
    merges: int = 256 << 20  # bytes of all commits that are large enough to be looked at for that
    paths: int = 5_000_000  # files in one tree, all levels: a pack of 1 KB can describe 10^10
    path_bytes: int = 512 << 20  # of all paths of one tree, written out as `git diff` does: some are 4 MB long
    directories: int = 30_000_000  # in all trees together, each costs us memory: a delta of 50 bytes can name a million
    depth: int = 1024  # directories in directories; git 2.39 crashes at some ten thousand
    entry_name: int = 4096

    def for_child(self) -> process.Limits:
        # Completing a thin pack appends objects of the user's to it: twice the size is ample, and a last line only.
        return process.Limits(address_space=self.memory, file_size=2 * self.pack + (1 << 30), cpu=self.cpu)


class Quarantine:
    def __init__(self, repo: Repository, path: Path, limits: CollectLimits) -> None:
        self.repo = repo
        self.path = path
        self.limits = limits
        asked = repo.git.run("config", "-z", "--name-only", "--get-regexp", _ASKED, ok=(0, 1)).split(b"\0")
        self.promisor = any(key and key != _IGNORE_CASE for key in asked)
        self.ignore_case = _IGNORE_CASE in asked and repo.git.line("config", "--type=bool", "core.ignorecase") == "true"
        env = {**HERMETIC, "GIT_ALLOC_LIMIT": str(limits.alloc), "GIT_CEILING_DIRECTORIES": str(path.parent)}
        self.answers = CatFile(self._answering, path / "complaints", limits.time)
        self._git = Git(path, confinement=confinement(path, repo.common_dir)).with_env(**env)

    def run(
        self,
        *args: str,
        input: bytes | None = None,
        store: Path | None = None,
        env: Mapping[str, str] = _NOTHING,
    ) -> bytes:
        """Standard output of git in the quarantine, under all limits. `store`: another place for its objects.

        Raises CollectError when git says no.
        """
        done = self._ask(*args, input=input, store=store, env=env)
        if done.returncode != 0:
            raise refused(_why(args[0], done))
        return done.stdout

    def _words(self) -> tuple[str, ...]:
        return (*_CACHE, *(("-c", "remote.quarantine.promisor=true") if self.promisor else ()))

    def _ask(
        self,
        *args: str,
        input: bytes | None = None,
        feed: Iterable[bytes] | None = None,
        store: Path | None = None,
        env: Mapping[str, str] = _NOTHING,
    ) -> Completed:
        git = self._git.with_env(**env, **({"GIT_OBJECT_DIRECTORY": str(store)} if store else {}))
        return git.try_run(
            *self._words(), *args, input=input, feed=feed, timeout=self.limits.time, limits=self.limits.for_child()
        )

    def _answering(self, complaints: IO[bytes]) -> contextlib.AbstractContextManager[Child]:
        return self._git.answering(*self._words(), *WORDS, limits=self.limits.for_child(), complaints=complaints)

    def kinds(self, names: Sequence[str]) -> list[tuple[str, int]]:
        """Type and size of each object, "missing" and 0 for what is not there. Raises CollectError when git says no."""
        with _refusing():
            return self.answers.kinds(names)

    def contents(self, names: Sequence[str]) -> list[bytes]:
        """Of objects that are there. Raises CollectError when git cannot read one."""
        with _refusing():
            return self.answers.contents(names)

    def take(self, pack: Iterable[bytes]) -> None:
        """Read `pack` to its end and unpack it. An empty one is fine: nothing is new.

        Raises DamagedError, at the end of `pack`, where git cannot read it; CollectError; and whatever `pack` does.
        """
        chunks = (chunk for chunk in pack if chunk)
        begin = packhead.beginning(chunks, self.limits.objects)
        if not begin:
            return
        # Neither links nor content are checked here: the first thing that is wrong would end it. See `examine`.
        size = f"--max-input-size={self.limits.pack}"
        words = ("index-pack", "--stdin", "--fix-thin", size, f"--threads={_THREADS}")
        until = time.monotonic() + self.limits.time
        done = self._ask(*words, feed=itertools.chain([begin], chunks))
        if done.returncode != 0:
            why = _why("index-pack", done)
            for _ in chunks:  # to its end: what is asked next comes behind it
                if time.monotonic() > until:
                    raise refused(why)
            raise refused(why) if _TOO_LARGE in why else refused(why, DamagedError)
        if (
            next(chunks, None) is not None
        ):  # git stops reading at the end of the pack; the guest's last word comes later
            raise refused("trailing data after the pack")

    @property
    def filled(self) -> bool:
        """Whether anything came."""
        return any((self.path / "objects/pack").glob("*.idx"))

    @property
    def empty(self) -> bool:
        """Whether nothing came, and nothing was made of what did: the user's repository has all there is."""
        return not self.filled and {entry.name for entry in (self.path / "objects").iterdir()} <= {"info", "pack"}

    @property
    def size(self) -> int:
        """Bytes of the packs."""
        return sum(path.stat().st_size for path in (self.path / "objects/pack").glob("*.pack"))

    @property
    def objects(self) -> int:
        """How many are in the packs."""
        return sum(map(packhead.count, (self.path / "objects/pack").glob("*.idx")))

    @property
    def alone(self) -> Path:
        """An object store of the same packs, without the user's objects."""
        store = self.path / "alone"
        if not store.is_dir():
            store.mkdir()
            (store / "pack").symlink_to("../objects/pack")
        return store

    def as_gitmodules(self, names: list[str]) -> Path:
        """An object store that has these files, each as `.gitmodules` of a tree."""
        store = self.path / "gitmodules"
        store.mkdir()
        (store / "pack").mkdir()
        self.run("pack-objects", "-q", str(store / "pack/pack"), input="".join(f"{name}\n" for name in names).encode())
        trees = "".join(f"100644 blob {name}\t.gitmodules\n\n" for name in names)
        self.run("mktree", "--batch", input=trees.encode(), store=store)
        return store

    def fsck(self, store: Path, options: Iterable[str]) -> tuple[int, bytes]:
        """What git says of every object in `store`, and its exit status. Raises CollectError when it does not end."""
        options = (*options, "-c", "core.commitGraph=false", "-c", "core.multiPackIndex=false")  # there is neither
        words = ("fsck", "--strict", "--full", "--no-dangling", "--no-reflogs", "--no-progress")
        done = self._git.with_env(GIT_OBJECT_DIRECTORY=str(store)).try_run(
            *_CACHE, *options, *words, timeout=self.limits.time, limits=self.limits.for_child(), output=_MAX_COMPLAINTS
        )
        if not 0 <= done.returncode < _DIED:
            raise refused(printable(done.complaint, limit=1000) or f"git fsck ended with {done.returncode}")
        return done.returncode, done.stderr

    def new_objects(self) -> Iterator[str]:
        """Names of the objects in the pack (and the few of the user's that complete it)."""
        for index in (self.path / "objects/pack").glob("*.idx"):
            data = memoryview(index.read_bytes())
            width = 32 if self.repo.object_format == "sha256" else 20
            count = struct.unpack(">I", data[packhead.IDX_NAMES - 4 : packhead.IDX_NAMES])[0]
            for at in range(packhead.IDX_NAMES, packhead.IDX_NAMES + count * width, width):
                yield data[at : at + width].hex()

    def check_connected(self, tips: Iterable[Oid], have: Iterable[Oid]) -> None:
        """All history of `tips` is here or reachable from `have`: what `fetch` would find out too late.

        (`fetch` checks after it has stored the pack in the user's repository.)
        """
        tips, have = list(tips), list(have)
        if set(tips) <= set(have):
            return
        lines = [*tips, *(f"^{name}" for name in have)]  # git 2.39 knows no --not on standard input
        options = ("--exclude-promisor-objects",) if self.promisor else ()
        asked = "".join(f"{line}\n" for line in lines).encode()
        self.run("rev-list", "--objects", "--quiet", "--stdin", *options, input=asked)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except CatFileError as error:
        raise refused(printable(str(error), limit=1000)) from None


def _why(verb: str, done: Completed) -> str:
    return printable(done.complaint, limit=1000) or f"git {verb} ended with {done.returncode}"


@contextlib.contextmanager
def quarantined(repo: Repository, path: Path, limits: CollectLimits) -> Iterator[Quarantine]:
    """A fresh quarantine at `path`, gone at the end of the block, whatever happens.

    `path` must not exist, unless an import that was killed left it. Raises HostResourceError when it cannot be made.
    """
    try:
        _clear(path)
        path.mkdir(mode=0o700)
        lock = files.opened(path.joinpath(_LOCK), "wb")
    except OSError as error:
        raise HostResourceError(f"cannot create {path}", cause=error.strerror or str(error)) from error
    try:
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            quarantine = Quarantine(repo, path, limits)
            _set_up(quarantine)
            with contextlib.closing(quarantine.answers):
                yield quarantine
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _clear(path: Path) -> None:
    """Remove what a killed import left: it is ours if our lock file is in it, and dead if nobody holds that."""
    with contextlib.suppress(FileNotFoundError), path.joinpath(_LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)


def _set_up(quarantine: Quarantine) -> None:
    """As `git init --bare` does, without the process (gitrepository-layout(5))."""
    common, info = quarantine.repo.common_dir, quarantine.path / "objects/info"
    for path in (info, quarantine.path / "objects/pack", quarantine.path / "refs"):
        path.mkdir(parents=True)
    quarantine.path.joinpath("HEAD").write_text("ref: refs/heads/main\n")
    quarantine.path.joinpath("config").write_text(_CONFIG[quarantine.repo.object_format])
    info.joinpath("alternates").write_text(f"{gitdirs.quoted(common / 'objects')}\n", "utf-8", "surrogateescape")
    if common.joinpath("shallow").exists():
        shutil.copyfile(common / "shallow", quarantine.path / "shallow")
