"""Repositories and sandboxes to measure with: always the same shape, random content that does not compress."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import BinaryIO

from git_sandbox import store
from git_sandbox.git import snapshot
from git_sandbox.git.names import oid
from git_sandbox.git.repo import Repository
from git_sandbox.store import Record
from git_sandbox.trash import objects

SIZE = 3000  # bytes of a file
PACKED = 1600  # what one takes in a pack: hexadecimal digits
HISTORY = 4_000_000  # bytes of one commit of the history


def make(work: Path, files: int, megabytes: int) -> Path:
    """A repository with so many files and, in packs, megabytes; reused when it is there from an earlier run."""
    target = work / f"sample-{files}-{megabytes}"
    if target.exists():
        return target
    place = target.with_suffix(".new")
    subprocess.run(["git", "init", "-q", "-b", "main", place], check=True)
    words = ["git", "-C", str(place), "fast-import", "--quiet"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        _history(child.stdin, files, megabytes * 1_000_000 - files * PACKED)  # type: ignore[arg-type]
        child.stdin.close()
        assert child.wait() == 0
    subprocess.run(["git", "-C", place, "checkout", "-q", "-f", "main"], check=True)
    subprocess.run(["git", "-C", place, "config", "user.name", "Bench"], check=True)
    subprocess.run(["git", "-C", place, "config", "user.email", "bench@example.com"], check=True)
    place.rename(target)
    return target


def _history(out: BinaryIO, files: int, left: int) -> None:
    _commit(out, 0)
    for number in range(files):
        name = f"d{number // 2000}/e{number // 50 % 40}/f{number}.txt"
        _data(out, f"M 644 inline {name}", os.urandom(SIZE // 2).hex().encode())
    count = 1
    while left > 0:
        _commit(out, count)
        _data(out, "M 644 inline large", os.urandom(HISTORY))
        left -= HISTORY
        count += 1
    if count > 1:
        _commit(out, count)
        out.write(b"D large\n")


def _commit(out: BinaryIO, number: int) -> None:
    _data(out, f"commit refs/heads/main\ncommitter Bench <bench@example.com> {1_700_000_000 + number} +0000", b"c")


def _data(out: BinaryIO, head: str, content: bytes) -> None:
    out.write(b"%s\ndata %d\n%s\n" % (head.encode(), len(content), content))


def edit(worktree: Path, count: int) -> None:
    """The difference: so many tracked files get another content."""
    for number in range(count):
        (worktree / f"d0/e0/f{number}.txt").write_text(f"edited {time.time_ns()}\n")


def sandboxes(repo: Repository, count: int) -> None:
    """So many stopped sandboxes, as `sandbox ls` finds them."""
    head = repo.head()
    assert head.commit is not None
    tree = oid(repo.git.line("rev-parse", "HEAD^{tree}"))
    for number in range(count):
        name = f"bench-{number}"
        record = Record(
            id=name, worktree=os.fspath(repo.worktree), git_dir=os.fspath(repo.git_dir),
            common_dir=os.fspath(repo.common_dir), object_format=repo.object_format, created=time.time(),
            base=head.commit, base_symref=head.symref, snapshot=tree, index_tree=tree, backend="qemu", image="none",
            cpus=1, memory=512, net="none", brought_home=time.time(), exit_code=0, command=("make", "test"),
        )  # fmt: skip
        with store.create(repo, name) as handle:
            handle.directory.disk.touch()
            handle.save(record)
            store.pin(handle, record, snapshot.commit_tree(repo.git, tree, [head.commit], "base"))


def forget(repo: Repository) -> None:
    """Take the refs of `sandboxes` away; their directories went with the scratch state."""
    objects.forget(repo.git, {name: value for name, value in repo.refs().items() if name.startswith("refs/sandbox")})
