"""Builds a root image from a Containerfile, in a machine of its own, never on this host.

Each repository has a builder of its own in the cache: a sandbox without a repository, whose disk keeps the builder's
layers between builds. It reaches what the user's network settings allow. What comes out is an archive, a stranger's as
any image is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import tempfile
from pathlib import Path
from typing import IO

import msgspec

from git_sandbox import files, jsontext, locks, paths, store
from git_sandbox.cache import root_images
from git_sandbox.cache.guest_images import Image
from git_sandbox.cache.root_images import RootImage
from git_sandbox.errors import ImageError, Interrupted, SandboxError, SessionError
from git_sandbox.git import repo as repos
from git_sandbox.git.command import HERMETIC, Git
from git_sandbox.git.names import sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.image.oci import pull, remembered
from git_sandbox.image.oci.source import Source
from git_sandbox.later import dataclass
from git_sandbox.progress import Progress
from git_sandbox.sandbox import machines, provision
from git_sandbox.sandbox.builder_output import Archive, Lines
from git_sandbox.sandbox.image_build import COMMAND, Build
from git_sandbox.sandbox.options import Options
from git_sandbox.sandbox.run import Run
from git_sandbox.sandbox.session_options import Extras
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.settings import Settings
from git_sandbox.store import Record, SandboxHandle
from git_sandbox.text import one_line

PACKAGES = ("buildah", "netavark")
NAME = "builder"
BUILT = "built.json"  # by what went into a build, the key of what came out
MOST_BUILT = 100  # builds that are remembered
MOST_DISK = 24 << 30  # bytes of this host's disk that layers may take; then they are made again
MOST_ARCHIVE = 32 << 30  # bytes that come out
WAITS = 2 * 3600.0  # seconds for another build of this repository
SPOOL = 64 << 20  # bytes
# What programs in a build say (curl, pip, npm, Go, OpenSSL, GnuTLS), and what helps. The first that fits.
_HINTS = (
    (
        "certificate.verif|self.signed certificate|unknown authority|local issuer|certificate problem",
        "its steps trust the authorities of the image, not this host's: COPY the certificate, as in any other build",
    ),
    (
        "dial tcp|lookup |resolve|unreachable|connection refused|not allowed|timed out|proxyconnect",
        "if it needs a network: --net allow --allow NAME (of a registry or mirror)",
    ),
)


def hint(tail: str) -> str:
    """The next step after a failed build whose output ends with `tail`; empty where there is none that is known."""
    return next((text for pattern, text in _HINTS if re.search(pattern, tail, re.IGNORECASE)), "")


class Nothing:
    """The way home of a machine that has no work of anybody's."""

    def from_machine(self, _box: SandboxHandle, _record: Record, _progress: Progress) -> bool:
        return True

    def from_disk(self, _box: SandboxHandle, _record: Record, _progress: Progress, reason: str) -> bool:
        raise SessionError("the builder ended too early", cause=reason)

    def note(self, _box: SandboxHandle, _record: Record, _exit_code: int, _brought: bool) -> None:
        """Nothing to write down."""


def ensure(
    repo: Repository, identity: str, build: Build, settings: Settings, progress: Progress, *, force: bool = False,
    archive: IO[bytes] | None = None,
) -> RootImage:  # fmt: skip
    """The root image of `build`, built first where it, or what goes into it, is new (or `force`).

    `identity`: of the repository. `archive`: gets the image as an OCI archive; it is built for that, from the layers
    that there are. Raises ImageError with the end of what the builder said; SandboxError.
    """
    place = paths.private_directory(_root() / identity)
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context(tempfile.TemporaryFile(dir=place))
        progress("Reading the build context")
        key = build.write(repo, stream)
        again = force or archive is not None
        if not again and (known := _find(place, key)):
            return known
        handle = stack.enter_context(files.opened(place / "lock", "w"))
        if not locks.taken(handle):
            locks.awaited(handle, within=WAITS, what="builds an image of this repository")
            if archive is None and (known := _find(place, key)):  # built meanwhile
                return known
        packed = place / "made.tar"
        stack.callback(packed.unlink, missing_ok=True)
        with files.opened(packed, "w+b") as out:
            stream.seek(0)
            _Builder(place, settings, progress).run(stream, out)
        name = f"Containerfile of {one_line(repo.worktree.name, limit=60)}"
        image = pull.pull(Source(name, f"oci-archive:{packed}", path=packed), settings.confinement, progress).image
        remembered.forget(image.key)  # it is in no place where it can be looked for
        _remember(place, key, image.key)
        if archive is not None:
            with packed.open("rb") as source:
                shutil.copyfileobj(source, archive)
        return image


def prune() -> int:
    """Remove builders with their layers, and features of registries; how many builders. One at work stays."""
    removed = 0
    for place in sorted(_root().glob("*/")):
        with contextlib.suppress(OSError), files.opened(place / "lock", "w") as handle:
            if locks.taken(handle):
                shutil.rmtree(place, ignore_errors=True)
                removed += not place.exists()
    shutil.rmtree(paths.cache_root() / "features", ignore_errors=True)
    return removed


def _root() -> Path:
    return paths.cache_root() / "builders"


def _find(place: Path, key: str) -> RootImage | None:
    return root_images.find(_built(place).get(key, ""))


def _built(place: Path) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError):
        return jsontext.load(place / BUILT, dict[str, str], files.RECORD)
    return {}


def _remember(place: Path, key: str, root: str) -> None:
    rows = [*((name, old) for name, old in _built(place).items() if name != key), (key, root)]
    files.write(place / BUILT, jsontext.encode(dict(rows[-MOST_BUILT:])))


@dataclass(frozen=True)
class _Builder:
    """The machine of one repository's builds, below `place`; its lock is held."""

    place: Path
    settings: Settings
    progress: Progress

    @property
    def directory(self) -> SandboxDir:
        return SandboxDir(self.place / NAME)

    def run(self, context: IO[bytes], out: IO[bytes]) -> None:
        """Raises ImageError where the build fails, SandboxError where the machine does."""
        settings = self._own_settings()
        image = provision.image(settings, self.progress)
        with Lines(self.progress) as lines, Archive(out, MOST_ARCHIVE) as archive:
            options = Options(
                settings, command=COMMAND, stdin=context.fileno(), stdout=archive.descriptor, stderr=lines.descriptor
            )
            run = self._done(image, options)
            if run.interrupted:
                raise Interrupted(run.interrupted)
            archive.require_whole()
            if run.exit_code != 0:
                tail = lines.tail()
                raise ImageError("cannot build the Containerfile", cause=tail, hint=hint(tail))

    def _done(self, image: Image, options: Options) -> Run[bool]:
        """With the machine of earlier builds, or with a new one where that does not start any more."""
        run = self._machine(image, options)
        try:
            run.run()
        except SandboxError:
            if run.began or run.prepared is not None:
                raise
            shutil.rmtree(self.directory.root, ignore_errors=True)
            run = self._machine(image, options)
            run.run()
        return run

    def _own_settings(self) -> Settings:
        """The user's, as far as they are about the machine and its network: no variable, file or key of his."""
        return dataclasses.replace(
            self.settings, image="", packages=PACKAGES, transport="disk", bases=0, setup="", mount=(), publish=(),
            env=(), env_file=(), key=(), git_credentials="none", ssh_agent="no", notify="no", devcontainer="none",
            auto_push="no", workdir="guest", contents={}, trees={},
        )  # fmt: skip

    def _machine(self, image: Image, options: Options) -> Run[bool]:
        handle, settings = SandboxHandle(self._repository(), sandbox_id(NAME), self.directory), options.settings
        backend = machines.backend(settings, image, self.progress)
        record, prepared = self._usable(image, backend.name), None
        if record is None:
            shutil.rmtree(self.directory.root, ignore_errors=True)
            self.directory.root.mkdir(mode=0o700)
            formats = backend.capabilities.disk_formats
            prepared = provision.prepare(handle, options, image, backend.name, self.progress, formats=formats)
            record = prepared.record
        else:
            provision.configure(handle, record, settings, Extras(), provision.WentIn())
        return Run(
            handle, record, image, backend, options, self.progress, lambda _name: None, Extras(), Nothing(), prepared
        )

    def _usable(self, image: Image, backend: str) -> Record | None:
        """The record of the machine of earlier builds, as this one would have it; None where it has to be made anew."""
        record, settings = store.load(self.directory), self.settings
        if record is None or not self.directory.has_disk():
            return None
        same = (record.image, record.backend) == (image.root.name, backend)
        small = self.directory.disk.stat().st_blocks * 512 <= MOST_DISK
        like = msgspec.structs.replace(record, cpus=settings.cpus, memory=settings.memory, net=settings.net.name)
        return like if same and small else None

    def _repository(self) -> Repository:
        """Empty, and only there because a sandbox has one."""
        top = self.place / "repository"
        if not (top / ".git").is_dir():
            shutil.rmtree(top, ignore_errors=True)
            paths.private_directory(top)
            Git(top / ".git", top).with_env(**HERMETIC).run("init", "-q", "--template=")
        return repos.discover(top)
