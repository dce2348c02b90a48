"""A sandbox without a machine: a file-level copy of the host repository, and its commits fetched home."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from git_sandbox.git import repo as repository
from git_sandbox.git import snapshot
from git_sandbox.git.names import Oid, oid, sandbox_id
from git_sandbox.git.repo import Repository
from git_sandbox.git.snapshot import Snapshot
from git_sandbox.integrate.base import BaseRecord
from git_sandbox.integrate.merge import Merged, merge
from git_sandbox.integrate.modes import Mode, Request
from support.gitrepo import GitRepo

ID = sandbox_id("vm-1")
LINES = "".join(f"line {n}\n" for n in range(1, 30))


def capture(host: GitRepo) -> Snapshot:
    found = repository.discover(host.path)
    with tempfile.TemporaryDirectory() as scratch:
        return snapshot.take(found.git, found.git_dir / "index", Path(scratch))


@dataclass(frozen=True)
class Trip:
    host: GitRepo
    guest: GitRepo
    base: BaseRecord

    @classmethod
    def spawn(cls, host: GitRepo, *, staged_known: bool = True) -> Trip:
        state = capture(host)
        head = repository.discover(host.path).head().commit
        base = BaseRecord(head, state.tree, state.index_tree if staged_known else None)
        return cls(host, host.clone_files(host.path.with_name(f"{host.path.name}-guest")), base)

    @property
    def repo(self) -> Repository:
        return repository.discover(self.host.path)

    def home(self, name: str = "HEAD") -> Oid:
        """Fetch what the guest committed."""
        self.host.git(
            "fetch",
            "-q",
            "--no-tags",
            "--no-write-fetch-head",
            os.fspath(self.guest.path),
            f"+{name}:refs/sandbox/{ID}",
        )
        return oid(self.host.git("rev-parse", f"refs/sandbox/{ID}"))

    def request(self, mode: Mode = Mode.FF_OR_MERGE, picks: Iterable[Oid] = (), message: str | None = None) -> Request:
        return Request(ID, self.home(), mode, tuple(picks), message)

    def merge(self, mode: Mode = Mode.FF_OR_MERGE, **options: bool) -> Merged:
        return merge(self.repo, self.base, self.request(mode), **options)


def files(root: Path, *, without: tuple[str, ...] = (".git",)) -> dict[str, tuple[int, bytes]]:
    """Mode and content of everything below `root`."""
    found = {}
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in without]
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*names, *links):
            path = Path(place, name)
            content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(root))] = (path.lstat().st_mode, content)
    return found


def everything(host: GitRepo) -> tuple[object, ...]:
    """What a refused merge must leave bit-identical: worktree, index, HEAD, refs; no lock stays behind."""
    git_dir = Path(host.git("rev-parse", "--absolute-git-dir"))
    index = git_dir / "index"
    refs = {name: value for name, value in host.refs().items() if not name.startswith("refs/sandbox/")}
    return (
        files(host.path),
        index.read_bytes() if index.exists() else None,
        (git_dir / "HEAD").read_bytes(),
        refs,
        sorted(each.name for each in git_dir.iterdir() if "lock" in each.name or each.name.startswith("sandbox")),
    )


def dirty(repo: GitRepo) -> GitRepo:
    """One entry of every kind: staged, unstaged, both, deleted, untracked."""
    repo.commit("more", {"staged": "1\n", "edited": LINES, "both": LINES, "deleted": "1\n", "mine": "1\n"})
    repo.write("staged", "2\n")
    repo.git("add", "staged")
    repo.write("edited", LINES.replace("line 3\n", "line three\n"))
    repo.write("both", LINES.replace("line 3\n", "staged three\n"))
    repo.git("add", "both")
    repo.write("both", LINES.replace("line 3\n", "staged three\n").replace("line 9\n", "edited nine\n"))
    (repo.path / "deleted").unlink()
    repo.write("untracked", "new\n")
    return repo
