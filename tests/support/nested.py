"""The whole of what a sandbox does, without a machine: captured, exported by request, collected, dropped."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.git.names import sandbox_id
from git_sandbox.git.repo import Repository, discover
from git_sandbox.sandbox import imported
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import NestedRecord, Record, SandboxHandle
from git_sandbox.workspace import nested
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.survey import CapturePolicy
from support.gitrepo import GitRepo
from support.guest import EXPORTER


def _serve(channel: socket.socket, repo: Path) -> None:
    """One exporter for each request, as the guest's init does it."""
    with channel, channel.makefile("rb") as lines:
        for line in lines:
            words = [sys.executable, "-I", "-S", str(EXPORTER), str(repo)]
            subprocess.run(words, input=line, stdout=channel.fileno(), check=False)


@contextlib.contextmanager
def served(repo: Path) -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=_serve, args=(theirs, repo))
    server.start()
    try:
        yield ours
    finally:
        ours.close()
        server.join(60)


@dataclass(frozen=True)
class Journey:
    """A sandbox of `host`, its guest a directory."""

    host: GitRepo
    guest: GitRepo
    handle: SandboxHandle
    record: Record

    @classmethod
    def begin(cls, host: GitRepo, place: Path) -> Journey:
        repo = discover(host.path)
        copy = place / "guest"
        captured = capture(repo, copy, CapturePolicy())
        box = SandboxHandle(repo, sandbox_id("vm-1"), SandboxDir(place / "box"))
        box.directory.root.mkdir()
        record = _record(repo, nested.record(copy, captured.git_dirs))
        return cls(host, GitRepo(copy), box, record)

    def inside(self, path: str) -> GitRepo:
        return GitRepo(self.guest.path / path)

    def home(self) -> Retrieval:
        with served(self.guest.path) as channel:
            return imported.from_channel(self.handle, self.record, channel, lambda _text: None)


def _record(repo: Repository, inside: tuple[NestedRecord, ...]) -> Record:
    head = repo.head()
    tree = repo.git.line("rev-parse", "HEAD^{tree}")
    refs = {str(name): str(value) for name, value in repo.refs("refs/heads", "refs/tags", "refs/notes").items()}
    return Record(
        id="vm-1", worktree=os.fspath(repo.worktree), git_dir=os.fspath(repo.git_dir),
        common_dir=os.fspath(repo.common_dir), object_format=repo.object_format, created=time.time(),
        base=head.commit, base_symref=head.symref, snapshot=tree, index_tree=tree, backend="qemu", image="none",
        cpus=1, memory=256, net="none", refs=refs, nested=inside,
    )  # fmt: skip


def sandbox_refs(repo: GitRepo) -> dict[str, str]:
    return {name: value for name, value in repo.refs().items() if name.startswith("refs/sandbox")}
