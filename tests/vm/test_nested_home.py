"""Commits in a submodule and in a new repository inside the worktree, by way of a real machine."""

from __future__ import annotations

import os
from pathlib import Path

from support.cow import bases, enlarged
from support.gitrepo import GitRepo
from support.vm import Sandboxes


def with_a_submodule(repo: GitRepo, place: Path) -> GitRepo:
    library = GitRepo.create(place / "library")
    library.commit("library", {"lib.c": "1\n"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", os.fspath(library.path), "lib")
    repo.git("commit", "-q", "-m", "with a submodule")
    return GitRepo(repo.path / "lib")


def test_commits_inside_come_home_from_a_base(boxes: Sandboxes, tmp_path: Path) -> None:
    """The submodule comes as a difference, too: what the base has, and what was edited and committed since."""
    module = with_a_submodule(boxes.repo, tmp_path)
    with enlarged(boxes) as large:
        large.sh("true")
        assert len(bases(large)) == 1
        assert large.directories() == []
        module.commit("since the base", {"lib.c": "2\n"})
        module.write("dirty.c", "dirty\n")
        assert "No difference" in large.ok("doctor", "--verify").text
        done = large.sh("cd lib; cat lib.c dirty.c; git commit -q --allow-empty -m inside; git rev-parse HEAD~1 HEAD")
        assert done.text.splitlines()[:3] == ["2", "dirty", module.git("rev-parse", "HEAD")]
        assert module.git("rev-parse", "refs/sandbox/vm-3") == done.text.split()[-1]  # two are in the trash
        assert len(bases(large)) == 1, "one that holds what is gone is replaced (docs/adr/0009), none is kept beside it"


def test_commits_inside_come_home(boxes: Sandboxes, tmp_path: Path) -> None:
    module = with_a_submodule(boxes.repo, tmp_path)
    script = """
    cd lib; echo 2 > lib.c; git commit -qam inside; git rev-parse HEAD; cd ..
    git init -q fresh; cd fresh; git commit -q --allow-empty -m new; git rev-parse HEAD
    """
    done = boxes.sh(script)
    tip, fresh = done.text.split()
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
