"""Sandboxes without machines: record, refs and what a guest committed, as `sandbox run` would have left them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from git_sandbox import store
from git_sandbox.collect import Collected
from git_sandbox.git import repo as repository
from git_sandbox.git import snapshot
from git_sandbox.git.names import Oid, RefName, SandboxRefs, oid, sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.protocol.manifest import GuestHead, Manifest
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.store import Record
from support.gitrepo import GitRepo
from support.sandboxed import capture

Files = Mapping[str, str | None]  # None: deleted


@dataclass
class Sandbox:
    """`guest` is a file-level copy of the host: commit there, then `home()`."""

    host: GitRepo
    guest: GitRepo
    record: Record

    @property
    def repo(self) -> Repository:
        return repository.discover(self.host.path)

    @property
    def refs(self) -> SandboxRefs:
        return SandboxRefs(sandbox_id(self.record.id))

    def work(self, message: str, files: Files) -> str:
        for name, content in files.items():
            if content is None:
                self.guest.git("rm", "-q", "--", name)
        return self.guest.commit(message, {name: text for name, text in files.items() if text is not None})

    def home(self) -> Retrieval:
        """Bring home HEAD, branches and, when something is uncommitted, the worktree."""
        head = self.guest.run("rev-parse", "-q", "--verify", "HEAD").stdout.decode().strip()
        specs = [f"+HEAD:{self.refs.head}"] if head else []
        branches = repository.discover(self.guest.path).refs("refs/heads")
        specs += [
            f"+{name}:{self.refs.branch(name.removeprefix('refs/heads/'))}"
            for name, value in branches.items()
            if self.record.refs.get(name) != value
        ]
        wip = self._wip(head)
        specs += [f"+refs/wip:{self.refs.wip}"] if wip else []
        before = self.host.refs()
        if specs:
            self.host.git("fetch", "-q", "--no-tags", "--no-write-fetch-head", os.fspath(self.guest.path), *specs)
        after = self.host.refs()
        updated = {RefName(name): (None, Oid(new)) for name, new in after.items() if before.get(name) != new}
        symref = self.guest.run("symbolic-ref", "-q", "HEAD").stdout.decode().strip() or None
        collected = Collected(Oid(head) if head else None, symref, wip, updated, {}, (), ())
        manifest = Manifest("sha1", GuestHead(symref, head or None), (), (), None, None, None, ())
        return Retrieval(collected, manifest, changed=True)

    def _wip(self, head: str) -> Oid | None:
        found = repository.discover(self.guest.path)
        with tempfile.TemporaryDirectory() as scratch:
            state = snapshot.take(found.git, found.git_dir / "index", Path(scratch))
        if head and state.tree == self.guest.git("rev-parse", "HEAD^{tree}"):
            return None
        parents = [Oid(head)] if head else []
        if state.index_tree:
            parents.append(snapshot.commit_tree(found.git, state.index_tree, parents, "index"))
        made = snapshot.commit(found.git, state, parents, "wip")
        self.guest.git("update-ref", "refs/wip", made)
        return made


def spawn(host: GitRepo, name: str) -> Sandbox:
    """A stopped sandbox of `host` as it stands now."""
    repo = repository.discover(host.path)
    state, head = capture(host), repo.head()
    record = Record(
        id=name, worktree=os.fspath(repo.worktree), git_dir=os.fspath(repo.git_dir),
        common_dir=os.fspath(repo.common_dir), object_format=repo.object_format, created=time.time(),
        base=head.commit, base_symref=head.symref, snapshot=state.tree, index_tree=state.index_tree,
        backend="qemu", image="none", cpus=1, memory=512, net="none",
        refs={str(ref): str(value) for ref, value in repo.refs("refs/heads").items()},
        brought_home=time.time(), exit_code=0, command=("make", "test"),
    )  # fmt: skip
    with store.create(repo, name) as box:
        box.directory.disk.write_bytes(b"")
        box.save(record)
        base = snapshot.commit_tree(repo.git, oid(state.tree), [head.commit] if head.commit else [], "base")
        store.pin(box, record, base)
    guest = host.clone_files(host.path.with_name(f"{host.path.name}-{name}"))
    return Sandbox(host, guest, record)


def worked(host: GitRepo, name: str, files: Files, message: str = "") -> Sandbox:
    """A sandbox that made one commit."""
    made = spawn(host, name)
    made.work(message or f"work of {name}", files)
    made.home()
    return made


def changed(record: Record, **fields: object) -> Record:
    return msgspec.structs.replace(record, **fields)
