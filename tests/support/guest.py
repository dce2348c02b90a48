"""A guest without a machine: the exporter as a program of its own, on a file-level copy of a repository."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import git_sandbox.guest
from git_sandbox.collect import Collected, CollectLimits, collect, known_objects
from git_sandbox.errors import CollectError
from git_sandbox.git.names import SandboxRefs, sandbox_id
from git_sandbox.git.repo import Repository, discover
from git_sandbox.guest import exporter as program
from git_sandbox.protocol import manifest, stream
from support import forks
from support.gitrepo import GitRepo

EXPORTER = Path(git_sandbox.guest.__file__).with_name("exporter.py")
LIMITS = stream.StreamLimits(idle=60, overall=120)


UNCHANGED = '{"state": "unchanged"}'


def main() -> int:
    """What process 1 does: an exporter for each request, without its search for changes (`support/sessions.py` has
    that). Its arguments: the repository, and what process 1 found.
    """
    _, repo, changes = sys.argv
    line = b""
    while True:
        while not line.endswith(b"\n"):
            if not (data := os.read(0, 1 << 20)):
                return 0
            line += data
        request = os.memfd_create("request")
        os.write(request, line.rstrip()[:-1] + b', "changes": ' + changes.encode() + b"}\n")
        os.lseek(request, 0, os.SEEK_SET)
        if (child := os.fork()) == 0:
            os.dup2(request, 0)
            os._exit(program.main(repo))
        os.close(request)
        os.waitpid(child, 0)
        line = b""


@contextlib.contextmanager
def exporter(repo: Path, changes: str = UNCHANGED) -> Iterator[socket.socket]:
    """The host's end of a connection to an exporter on `repo`, which is told what process 1 found."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            end = theirs.fileno()
            child = forks.start(
                forks.address(), ["exporter", os.fspath(repo), changes], os.environ, stdin=end, stdout=end
            )
        try:
            yield ours
        finally:
            ours.close()
            child.wait(30)


@dataclass(frozen=True)
class Exported:
    manifest: manifest.Manifest
    pack: bytes


def export(repo: GitRepo, known: Iterable[str] = (), *, object_format: str = "sha1") -> Exported:
    with exporter(repo.path) as sock:
        reply = stream.request(sock, "export", known=known, limits=LIMITS)
        return Exported(manifest.parse(reply.header, object_format=object_format), b"".join(reply.chunks))


@dataclass(frozen=True)
class Host:
    """The user's side: a repository, and what collecting into it needs."""

    repo: GitRepo
    quarantine: Path
    name: str = "vm-1"

    @property
    def repository(self) -> Repository:
        return discover(self.repo.path)

    @property
    def refs(self) -> SandboxRefs:
        return SandboxRefs(sandbox_id(self.name))

    def bring_home(self, guest: GitRepo, *, given: Mapping[str, str] | None = None) -> Collected:
        """All of the way home, over a socket."""
        repository = self.repository
        with exporter(guest.path) as sock:
            known = known_objects(repository, self.refs)
            extra = {} if given is None else {"start": given}
            reply = stream.request(sock, "export", known=known, extra=extra, limits=LIMITS)
            said = manifest.parse(reply.header, object_format=repository.object_format).since(given or {})
            return collect(repository, self.refs, said, reply.chunks, quarantine=self.quarantine, given=given or {})

    def take(
        self, said: manifest.Manifest, pack: bytes | Iterable[bytes], limits: CollectLimits | None = None
    ) -> Collected:
        chunks = [pack] if isinstance(pack, bytes) else pack
        return collect(
            self.repository, self.refs, said, chunks, quarantine=self.quarantine, limits=limits or CollectLimits()
        )

    def take_all(
        self, said: manifest.Manifest, pack: bytes | Iterable[bytes], limits: CollectLimits | None = None
    ) -> Collected:
        """The same where one thing is sent. Raises CollectError when it was set aside."""
        done = self.take(said, pack, limits)
        if done.set_aside:
            assert not done.updated
            raise CollectError("set aside", cause="; ".join(map(str, done.set_aside)))
        return done

    def sandbox_refs(self) -> dict[str, str]:
        return {name: value for name, value in self.repo.refs().items() if name.startswith("refs/sandbox")}


def fingerprint(root: Path) -> dict[str, str]:
    """Every file below `root` with a hash of its content, every directory and link."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = os.fsdecode(os.fsencode(path.relative_to(root)))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "directory"
    return found


def tree_of(repo: GitRepo, name: str) -> dict[str, str]:
    rows = repo.git("ls-tree", "-r", name).splitlines()
    return {row.split("\t")[1]: row.split()[2] for row in rows}


def content(repo: GitRepo, spec: str) -> bytes:
    return repo.run("cat-file", "blob", spec).stdout
