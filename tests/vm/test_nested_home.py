"""Commits in a submodule and in a new repository inside the worktree, by way of a real machine."""

from __future__ import annotations

import os
from pathlib import Path

from support.gitrepo import GitRepo
from support.vm import Sandboxes


def test_commits_inside_come_home(boxes: Sandboxes, tmp_path: Path) -> None:
    repo = boxes.repo
    library = GitRepo.create(tmp_path / "library")
    library.commit("library", {"lib.c": "1\n"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", os.fspath(library.path), "lib")
    repo.git("commit", "-q", "-m", "with a submodule")
    script = """
    cd lib; echo 2 > lib.c; git commit -qam inside; git rev-parse HEAD; cd ..
    git init -q fresh; cd fresh; git commit -q --allow-empty -m new; git rev-parse HEAD
    """
    done = boxes.sh(script)
    tip, fresh = done.text.split()
    module = GitRepo(repo.path / "lib")
    assert module.git("rev-parse", "refs/sandbox/vm-1") == tip
    (own,) = boxes.directory().glob("nested/*.git")
    assert GitRepo(own).git("rev-parse", "refs/sandbox/vm-1") == fresh
    assert "lib: commits of that repository came home" in done.said
    assert f"git fetch {own} refs/sandbox/vm-1" in done.said
    refused = boxes.run("drop", "vm-1")
    assert refused.code == 17
    assert "are nowhere else" in refused.said
    boxes.ok("drop", "--force", "vm-1")
    assert not [name for name in module.refs() if name.startswith("refs/sandbox")]
    assert boxes.directories() == []
