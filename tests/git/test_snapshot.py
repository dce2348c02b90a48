from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git import snapshot
from git_sandbox.git.command import Git
from git_sandbox.git.names import Oid, oid
from support.gitrepo import GitRepo
from support.sandboxed import capture, everything, files


def listed(repo: GitRepo, tree: str) -> dict[str, str]:
    rows = (row.split("\t", 1) for row in repo.git("ls-tree", "-r", "-z", tree).split("\0") if row)
    return {path: head.split()[0] for head, path in rows}


def content(repo: GitRepo, tree: str, path: str) -> str:
    return repo.git("cat-file", "blob", f"{tree}:{path}")


def test_it_holds_everything_but_ignored_files_and_changes_nothing(repo: GitRepo) -> None:
    repo.write(".gitignore", "*.log\n")
    repo.write("noise.log")
    repo.write("deep/new file\t\n.txt", "new")
    repo.write("README", "staged\n")
    repo.git("add", "README")
    repo.write("README", "edited\n")
    before = everything(repo)
    taken = capture(repo)
    assert everything(repo) == before
    assert sorted(listed(repo, taken.tree)) == [".gitignore", "README", "deep/new file\t\n.txt"]
    assert content(repo, taken.tree, "README") == "edited"
    assert taken.index_tree is not None
    assert content(repo, taken.index_tree, "README") == "staged"


def test_unborn_head_without_index(tmp_path: Path) -> None:
    repo = GitRepo.create(tmp_path / "new")
    repo.write("a", "1")
    taken = capture(repo)
    assert listed(repo, taken.tree) == {"a": "100644"}
    assert listed(repo, taken.index_tree or "") == {}
    assert not (repo.path / ".git/index").exists()


def test_edits_the_user_told_git_to_look_away_from(repo: GitRepo) -> None:
    repo.commit("more", {"assumed": "1\n", "skipped": "1\n", "gone": "1\n"})
    repo.git("update-index", "--assume-unchanged", "assumed")
    repo.git("update-index", "--skip-worktree", "skipped", "gone")
    repo.write("assumed", "2\n")
    repo.write("skipped", "2\n")
    (repo.path / "gone").unlink()
    tree = capture(repo).tree
    assert [content(repo, tree, name) for name in ("assumed", "skipped", "gone")] == ["2", "2", "1"]


def test_intent_to_add(repo: GitRepo) -> None:
    repo.write("planned", "text\n")
    repo.git("add", "-N", "planned")
    taken = capture(repo)
    assert content(repo, taken.tree, "planned") == "text"
    assert "planned" not in listed(repo, taken.index_tree or "")


def test_unmerged_paths_are_captured_with_their_markers(repo: GitRepo) -> None:
    repo.git("checkout", "-q", "-b", "other")
    repo.commit("theirs", {"README": "theirs\n"})
    repo.git("checkout", "-q", "main")
    repo.commit("ours", {"README": "ours\n"})
    assert repo.run("merge", "other").returncode == 1
    taken = capture(repo)
    assert taken.index_tree is None
    assert "<<<<<<<" in content(repo, taken.tree, "README")


def test_embedded_repositories(repo: GitRepo) -> None:
    GitRepo.create(repo.path / "empty")
    GitRepo.create(repo.path / "full").commit("inner", {"x": "1"})
    repo.write("zz", "after them")
    assert listed(repo, capture(repo).tree) == {"README": "100644", "full": "160000", "zz": "100644"}


def test_sparse_checkout_keeps_what_is_not_on_disk(repo: GitRepo) -> None:
    repo.commit("more", {"in/a": "1\n", "out/b": "1\n"})
    repo.git("sparse-checkout", "set", "in")
    repo.write("in/a", "2\n")
    tree = capture(repo).tree
    assert listed(repo, tree).keys() == {"README", "in/a", "out/b"}
    assert content(repo, tree, "in/a") == "2"


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_an_unreadable_file_does_not_stop_the_rest(repo: GitRepo) -> None:
    repo.write("secret", mode=0o000)
    repo.write("zz")
    assert listed(repo, capture(repo).tree).keys() == {"README", "zz"}


def test_a_copied_worktree_is_believed_by_size_and_time(repo: GitRepo, tmp_path: Path) -> None:
    """A same-size edit with the old time goes unseen: proof that no file of the copy was read again."""
    os.utime(repo.path / "README", (1_000_000_000, 1_000_000_000))
    repo.git("update-index", "--refresh")
    copy = tmp_path / "copy"
    shutil.copytree(repo.path, copy, ignore=shutil.ignore_patterns(".git"))
    (copy / "README").write_text("HELLO\n")
    os.utime(copy / "README", (1_000_000_000, 1_000_000_000))
    git = Git(repo.path / ".git", copy)
    believed = snapshot.take(git, repo.path / ".git/index", tmp_path, copied=True)
    doubted = snapshot.take(git, repo.path / ".git/index", tmp_path)
    assert content(repo, believed.tree, "README") == "hello"
    assert content(repo, doubted.tree, "README") == "HELLO"


def test_a_partial_clone_does_not_fetch(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("more", {"in/a": "1\n", "out/b": "big\n"})
    repo.git("config", "uploadpack.allowFilter", "true")
    clone = GitRepo(tmp_path / "clone")
    repo.git("clone", "-q", "--filter=blob:none", "--sparse", f"file://{repo.path}", str(clone.path))
    missing = clone.git("rev-list", "--objects", "--missing=print", "HEAD")
    assert "?" in missing
    clone.git("config", "remote.origin.url", "/nowhere")
    clone.write("new", "1")
    assert listed(clone, capture(clone).tree).keys() == {"README", "in/a", "out/b", "new"}


def test_hooks_do_not_run_and_the_author_is_the_tool(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("config", "commit.gpgSign", "true")
    for name in ("pre-commit", "post-index-change", "reference-transaction"):
        repo.write(f".git/hooks/{name}", f"#!/bin/sh\ntouch {tmp_path}/ran\n", mode=0o755)
    taken = capture(repo)
    git = Git(repo.path / ".git", repo.path)
    made = snapshot.commit(git, taken, (Oid(repo.git("rev-parse", "HEAD")),), "kept\n")
    assert not (tmp_path / "ran").exists()
    assert repo.git("show", "-s", "--format=%an <%ae> %s|%T", oid(made)) == (
        f"git-sandbox <git-sandbox@localhost> kept|{taken.tree}"
    )


def test_an_object_store_that_cannot_be_written_is_no_empty_success(repo: GitRepo, tmp_path: Path) -> None:
    capture(repo)
    repo.write("new", "precious\n")
    git = Git(repo.path / ".git", repo.path).with_env(
        GIT_OBJECT_DIRECTORY="/proc", GIT_ALTERNATE_OBJECT_DIRECTORIES=str(repo.path / ".git/objects")
    )
    with pytest.raises(RepositoryError, match="could not be captured"):
        snapshot.take(git, repo.path / ".git/index", tmp_path)


def test_sha256(tmp_path: Path) -> None:
    repo = GitRepo.create(tmp_path / "repo", object_format="sha256")
    repo.commit("first", {"a": "1"})
    assert len(capture(repo).tree) == 64
    assert files(repo.path).keys() == {"a"}
