"""A commit that returned survives a killed machine: directories of refs are written through, wherever they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from git_sandbox.guest import machine
from support.gitrepo import GitRepo


def written_through(directory: Path) -> bool:
    said = subprocess.run(["lsattr", "-d", directory], capture_output=True, text=True, check=False)
    if said.returncode != 0:
        pytest.skip(f"no attributes on this file system: {said.stderr.strip()}")
    return "D" in said.stdout.split()[0]


def test_repositories_inside_the_worktree_too(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = GitRepo.create(repo.path / "lib/inner")
    inner.commit("one", {"a": "1\n"})
    monkeypatch.setattr(machine, "REPO", repo.path)
    machine.order_refs({"git_dirs": ["lib/inner/.git", "gone/.git"]})
    for git_dir in (repo.path / ".git", inner.path / ".git"):
        assert written_through(git_dir / "refs/heads"), git_dir
    assert not written_through(inner.path)
