"""A repository that is moved, renamed or removed while a sandbox of it runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from git_sandbox import store
from git_sandbox.errors import RepositoryError
from git_sandbox.git.repo import discover
from git_sandbox.store import SandboxHandle
from support.gitrepo import GitRepo


def same(box: SandboxHandle, there: Path) -> None:
    """`box` finds at `there` what git finds there itself."""
    assert box.repo == discover(there)
    assert box.repo.head() == discover(there).head()
    assert not box.homeless


def test_it_is_followed(repo: GitRepo, tmp_path: Path) -> None:
    with store.create(discover(repo.path), None) as box:
        same(box, repo.path)
        repo.path.rename(tmp_path / "one")
        same(box, tmp_path / "one")
        (tmp_path / "deeper").mkdir()
        (tmp_path / "one").rename(tmp_path / "deeper" / "two")
        GitRepo.create(repo.path).commit("another one at the old path", {"x": "y"})
        (tmp_path / "deeper").rename(tmp_path / "new")
        same(box, tmp_path / "new" / "two")
    same(box, tmp_path / "new" / "two")


def linked(repo: GitRepo, place: Path) -> Path:
    repo.git("worktree", "add", "-q", "-b", "topic", str(place))
    return place


def test_a_linked_worktree_and_the_main_one_are_followed(repo: GitRepo, tmp_path: Path) -> None:
    here = linked(repo, tmp_path / "linked")
    with store.create(discover(here), None) as box:
        repo.git("worktree", "move", str(here), str(tmp_path / "moved"))
        same(box, tmp_path / "moved")
        repo.path.rename(tmp_path / "main")
        assert box.repo.git.line("symbolic-ref", "HEAD") == "refs/heads/topic", "not yet repaired"
        GitRepo(tmp_path / "main").git("worktree", "repair", str(tmp_path / "moved"))
        same(box, tmp_path / "moved")


def test_a_linked_worktree_whose_main_one_was_moved_says_what_to_do(repo: GitRepo, tmp_path: Path) -> None:
    here = linked(repo, tmp_path / "linked")
    repo.path.rename(tmp_path / "main")
    with pytest.raises(RepositoryError) as caught:
        discover(here)
    assert "`git worktree repair`" in caught.value.hint
    GitRepo(tmp_path / "main").git("worktree", "repair")
    assert discover(here).common_dir == tmp_path / "main" / ".git"


def test_a_linked_worktree_that_is_removed_leaves_refs_and_objects(repo: GitRepo, tmp_path: Path) -> None:
    here = linked(repo, tmp_path / "linked")
    with store.create(discover(here), None) as box:
        repo.git("worktree", "remove", str(here))
        found = box.repo
        assert (found.checked_out, found.common_dir) == (False, repo.path / ".git")
        assert found.refs("refs/heads/topic") == discover(repo.path).refs("refs/heads/topic")


def by_copy(old: Path, new: Path) -> None:
    """What mv(1) does across file systems."""
    shutil.copytree(old, new, symlinks=True)
    shutil.rmtree(old)


def test_after_a_move_across_file_systems_a_look_at_it_is_enough(repo: GitRepo, tmp_path: Path) -> None:
    here = linked(repo, tmp_path / "linked")
    with store.create(discover(repo.path), "one") as box, store.create(discover(here), "two") as other:
        by_copy(repo.path, tmp_path / "new")
        with pytest.raises(RepositoryError, match="is gone"):
            _ = box.repo
        GitRepo(tmp_path / "new").git("worktree", "repair", str(here))
        store.entries(discover(tmp_path / "new"))
        same(box, tmp_path / "new")
        same(other, here)


def remove(old: Path) -> None:
    shutil.rmtree(old)


def emptied(old: Path) -> None:
    shutil.rmtree(old / ".git" / "objects")


def replaced(old: Path) -> None:
    shutil.rmtree(old)
    GitRepo.create(old).commit("another", {"x": "y"})


@pytest.mark.parametrize("end", [remove, emptied, replaced])
def test_one_that_is_gone_is_never_taken_for_another(repo: GitRepo, end: Callable[[Path], None]) -> None:
    with store.create(discover(repo.path), "mine") as box:
        box.directory.disk.write_bytes(b"work")
        end(repo.path)
        assert box.homeless
        with pytest.raises(RepositoryError) as caught:
            _ = box.repo
        key = box.directory.root.parent.name
        assert f"sandbox recover {key}/mine --into" in caught.value.hint
    assert box.directory.disk.read_bytes() == b"work"
