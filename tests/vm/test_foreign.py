"""Repositories as others have them, in a machine: what goes in odd or large, and what comes home of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from support.gitrepo import GitRepo
from support.vm import SANDBOX, Sandboxes

MIB = 1 << 20


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def odd(repo: GitRepo) -> GitRepo:
    """A worktree inside with work in it, a file in another encoding than it should be, a large file, a FIFO."""
    repo.commit("odd", {".gitattributes": "*.rc text working-tree-encoding=UTF-16\n", ".gitignore": ".worktrees/\n"})
    repo.git("worktree", "add", "-q", "-b", "topic", ".worktrees/x")
    repo.write(".worktrees/x/README", "dirty\n")
    repo.write(".worktrees/x/new", "n\n")
    repo.write("old.rc", "no bom\n")
    repo.write("data.bin", os.urandom(20 * MIB))
    os.mkfifo(repo.path / "pipe")
    return GitRepo(repo.path / ".worktrees/x")


def test_an_odd_and_large_worktree_starts_and_costs_nothing(boxes: Sandboxes) -> None:
    inner = odd(boxes.repo)
    before = size_of(boxes.repo.path / ".git")
    look = "cd .worktrees/x && git symbolic-ref HEAD && git status --porcelain && git -C /workspace worktree list"
    done = boxes.sh(f"test -p pipe && {look}")
    path = boxes.repo.path
    head = boxes.repo.git("rev-parse", "--short", "HEAD")
    assert [" ".join(row.split()) for row in done.text.splitlines()] == [
        "refs/heads/topic", "M README", "?? new", f"/workspace {head} [main]",
        f"/workspace/.worktrees/x {head} [topic]",
    ]  # fmt: skip
    assert "old.rc" in done.err.decode()
    assert boxes.directories() == [], "nothing changed"
    assert size_of(path / ".git") - before < MIB
    script = "cd .worktrees/x && git add -A && git commit -qm inside && echo more >more && cd ../.. && "
    script += "head -c 40000000 /dev/urandom >made.bin && sha256sum made.bin && printf 'no bom\\n' >new.rc"
    done = boxes.sh(script)
    refs = boxes.refs()
    made = refs["refs/sandbox-heads/vm-2/topic"]
    assert boxes.repo.git("log", "-1", "--format=%s", made) == "inside"
    wip = "refs/sandbox-other/vm-2/worktrees/x/wip"
    assert boxes.repo.git("show", f"{wip}:more") == "more"
    names = boxes.repo.git("ls-tree", "-r", "--name-only", "refs/sandbox-wip/vm-2").splitlines()
    assert "data.bin" not in names
    assert {"made.bin", "new.rc", "old.rc"} <= set(names)
    assert boxes.repo.git("show", "refs/sandbox-wip/vm-2:new.rc") == "no bom"
    assert inner.git("rev-parse", "HEAD") == boxes.repo.git("rev-parse", "main")


def test_a_hook_shows_the_index_that_is_about_to_be_committed(boxes: Sandboxes) -> None:
    repo = boxes.repo
    hook = repo.write(".git/hooks/pre-commit", mode=0o755)
    hook.write_text(f"#!/bin/sh\nexec {SANDBOX} run -- git diff --cached --name-only >.git/seen\n")
    repo.write("README", "edited\n")
    subprocess.run(["git", "commit", "-qam", "x"], cwd=repo.path, env=boxes.env, check=True)
    assert repo.read(".git/seen") == b"README\n"
