"""Wherever the git directory lies, the copy has a real one of its own, and nothing done there reaches the source."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from support.captured import same, take
from support.gitrepo import GitRepo


def prove_independent(copy: GitRepo, source: GitRepo) -> None:
    """A commit in the copy must not land in the source, and the copy must not need it."""
    before = (source.refs(), source.git("log", "-g", "--format=%H %gs"), source.git("rev-parse", "HEAD"))
    made = copy.commit("made in the copy", {"made": "x\n"})
    assert (source.refs(), source.git("log", "-g", "--format=%H %gs"), source.git("rev-parse", "HEAD")) == before
    assert source.run("cat-file", "-e", made).returncode != 0
    assert (copy.path / ".git").is_dir()
    assert not (copy.path / ".git").is_symlink()


def linked(repo: GitRepo, path: Path) -> GitRepo:
    repo.git("worktree", "add", "-q", "-b", "linked", os.fspath(path))
    return GitRepo(path)


def test_linked_worktree(repo: GitRepo, tmp_path: Path) -> None:
    worktree = linked(repo, tmp_path / "linked")
    repo.write("README", "staged in the main worktree\n")
    repo.git("add", "README")
    worktree.write("staged")
    worktree.git("add", "staged")
    worktree.write("README", "dirty\n")
    copy = same(worktree, tmp_path / "copy")
    assert copy.git("symbolic-ref", "HEAD") == "refs/heads/linked"
    assert copy.git("worktree", "list").count("\n") == 0
    assert not (copy.path / ".git" / "worktrees").exists()
    prove_independent(copy, worktree)
    copy.git("checkout", "-q", "main")  # would be refused: "already checked out" at the host's path


def test_linked_worktree_leaves_the_main_ones_operation_behind(repo: GitRepo, tmp_path: Path) -> None:
    good = repo.git("rev-parse", "HEAD")
    for number in range(4):
        repo.commit(f"c{number}")
    worktree = linked(repo, tmp_path / "linked")
    repo.git("bisect", "start", "HEAD", good)
    (repo.path / ".git" / "MERGE_MSG").write_text("of the main worktree\n")
    copy = same(worktree, tmp_path / "copy")
    assert not list((copy.path / ".git").glob("BISECT_*"))
    assert not (copy.path / ".git" / "MERGE_MSG").exists()
    assert "bisect" not in copy.git("for-each-ref")
    worktree.git("bisect", "start", "HEAD", good)
    other = same(worktree, tmp_path / "bisecting")
    assert "refs/bisect/bad" in other.refs()


def test_linked_worktree_with_its_own_sparse_checkout(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("dirs", {"in/a": "a\n", "out/b": "b\n"})
    worktree = linked(repo, tmp_path / "linked")
    repo.git("sparse-checkout", "set", "out")
    worktree.git("sparse-checkout", "set", "in")
    copy = same(worktree, tmp_path / "copy")
    assert copy.git("sparse-checkout", "list") == "in"
    worktree.git("sparse-checkout", "disable")
    (repo.path / ".git/worktrees/linked/info/sparse-checkout").unlink()
    copy = same(worktree, tmp_path / "whole")
    assert not (copy.path / ".git/info/sparse-checkout").exists()


def test_linked_worktree_of_a_bare_repository(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("clone", "-q", "--bare", ".", os.fspath(tmp_path / "bare.git"))
    worktree = linked(GitRepo(tmp_path / "bare.git"), tmp_path / "linked")
    copy = same(worktree, tmp_path / "copy")
    prove_independent(copy, worktree)


def test_other_worktrees_stay_behind(repo: GitRepo, tmp_path: Path) -> None:
    linked(repo, tmp_path / "linked")
    copy, _ = take(repo, tmp_path / "copy")
    copy.git("checkout", "-q", "linked")
    assert not (copy.path / ".git/worktrees").exists()


def test_separate_git_dir(tmp_path: Path) -> None:
    path = tmp_path / "repo"
    path.mkdir()
    repo = GitRepo(path)
    repo.git("init", "-q", "-b", "main", "--separate-git-dir", os.fspath(tmp_path / "elsewhere"))
    repo.git("config", "core.worktree", os.fspath(path))
    repo.commit("first", {"a": "a\n"})
    copy = same(repo, tmp_path / "copy")
    prove_independent(copy, repo)


def test_git_dir_behind_a_symbolic_link(repo: GitRepo, tmp_path: Path) -> None:
    (repo.path / ".git").rename(tmp_path / "elsewhere")
    (repo.path / ".git").symlink_to(tmp_path / "elsewhere")
    copy = same(repo, tmp_path / "copy")
    prove_independent(copy, repo)


def test_git_new_workdir(repo: GitRepo, tmp_path: Path) -> None:
    """git's contrib/workdir/git-new-workdir, step by step."""
    repo.git("pack-refs", "--all")
    repo.write(".git/hooks/post-commit", "#!/bin/sh\n", mode=0o755)
    workdir = tmp_path / "workdir"
    (workdir / ".git" / "logs").mkdir(parents=True)
    for name in (
        "config",
        "refs",
        "logs/refs",
        "objects",
        "info",
        "hooks",
        "packed-refs",
        "remotes",
        "rr-cache",
        "svn",
    ):
        (workdir / ".git" / name).symlink_to(repo.path / ".git" / name)
    shutil.copy(repo.path / ".git" / "HEAD", workdir / ".git" / "HEAD")
    source = GitRepo(workdir)
    source.git("checkout", "-q", "-f")
    copy = same(source, tmp_path / "copy")
    assert not [each for each in (copy.path / ".git").rglob("*") if each.is_symlink()]
    prove_independent(copy, source)


@pytest.fixture
def library(tmp_path: Path) -> GitRepo:
    made = GitRepo.create(tmp_path / "library")
    made.commit("library", {"lib": "lib\n"})
    return made


def test_absorbed_submodule(repo: GitRepo, library: GitRepo, tmp_path: Path) -> None:
    repo.git("submodule", "--quiet", "add", os.fspath(library.path), "deep/sub")
    repo.git("commit", "-qm", "submodule")
    repo.write("deep/sub/lib", "dirty\n")
    copy = same(repo, tmp_path / "copy")
    inner = GitRepo(copy.path / "deep" / "sub")
    prove_independent_submodule(inner, GitRepo(repo.path / "deep" / "sub"), copy)
    assert copy.git("submodule", "status").startswith("+")


def prove_independent_submodule(inner: GitRepo, source: GitRepo, copy: GitRepo) -> None:
    before = source.git("rev-parse", "HEAD")
    made = inner.commit("made in the copy", {"made": "x\n"})
    assert source.git("rev-parse", "HEAD") == before
    assert source.run("cat-file", "-e", made).returncode != 0
    assert Path(inner.git("rev-parse", "--absolute-git-dir")).is_relative_to(copy.path)
    git_dir = Path(inner.git("rev-parse", "--absolute-git-dir"))
    assert inner.git(f"--git-dir={git_dir}", "rev-parse", "--show-toplevel") == os.fspath(inner.path)
    if git_dir.name != ".git":  # by itself, from anywhere: through core.worktree
        there = GitRepo(git_dir).git("rev-parse", "--git-dir", "--is-bare-repository").splitlines()
        assert there[1] == "false"
        assert os.path.normpath(git_dir / inner.git("config", "core.worktree")) == os.fspath(inner.path)


def test_nested_submodules_with_absolute_pointers(repo: GitRepo, library: GitRepo, tmp_path: Path) -> None:
    middle = GitRepo.create(tmp_path / "middle")
    middle.commit("middle", {"m": "m\n"})
    middle.git("submodule", "--quiet", "add", os.fspath(library.path), "lib")
    middle.git("commit", "-qm", "submodule")
    repo.git("submodule", "--quiet", "add", "--name", "a/b", os.fspath(middle.path), "mid")
    repo.git("submodule", "--quiet", "update", "--init", "--recursive")
    repo.git("commit", "-qm", "submodule")
    git_dir = repo.path / ".git" / "modules" / "a" / "b"
    repo.write("mid/.git", f"gitdir: {git_dir}\n")
    repo.git("config", "-f", os.fspath(git_dir / "config"), "core.worktree", os.fspath(repo.path / "mid"))
    copy = same(repo, tmp_path / "copy")
    for path in ("mid", "mid/lib"):
        prove_independent_submodule(GitRepo(copy.path / path), GitRepo(repo.path / path), copy)


def test_submodule_in_a_linked_worktree(repo: GitRepo, library: GitRepo, tmp_path: Path) -> None:
    repo.git("submodule", "--quiet", "add", os.fspath(library.path), "sub")
    repo.git("commit", "-qm", "submodule")
    worktree = linked(repo, tmp_path / "linked")
    worktree.git("submodule", "--quiet", "update", "--init")
    worktree.write("sub/lib", "dirty in the linked worktree\n")
    copy = same(worktree, tmp_path / "copy")
    prove_independent_submodule(GitRepo(copy.path / "sub"), GitRepo(worktree.path / "sub"), copy)


def test_submodule_not_checked_out(repo: GitRepo, library: GitRepo, tmp_path: Path) -> None:
    repo.git("submodule", "--quiet", "add", os.fspath(library.path), "sub")
    repo.git("commit", "-qm", "submodule")
    repo.git("submodule", "--quiet", "deinit", "-f", "sub")
    copy = same(repo, tmp_path / "copy")
    shutil.rmtree(library.path)
    copy.git("submodule", "--quiet", "update", "--init")  # from .git/modules, nothing else is left
    assert copy.read("sub/lib") == b"lib\n"


def test_old_style_and_untracked_nested_repositories(repo: GitRepo, library: GitRepo, tmp_path: Path) -> None:
    repo.git("clone", "-q", os.fspath(library.path), "old")
    repo.git("-c", "advice.addEmbeddedRepo=false", "add", "old")
    repo.git("commit", "-qm", "old style")
    repo.git("clone", "-q", os.fspath(library.path), "untracked/nested")
    repo.write("untracked/nested/lib", "dirty\n")
    copy = same(repo, tmp_path / "copy")
    for path in ("old", "untracked/nested"):
        prove_independent_submodule(GitRepo(copy.path / path), GitRepo(repo.path / path), copy)


def test_nested_repository_with_its_git_dir_outside(repo: GitRepo, library: GitRepo, tmp_path: Path) -> None:
    repo.git("clone", "-q", "--separate-git-dir", os.fspath(tmp_path / "outside"), os.fspath(library.path), "nested")
    copy = same(repo, tmp_path / "copy")
    prove_independent_submodule(GitRepo(copy.path / "nested"), GitRepo(repo.path / "nested"), copy)
    _, captured = take(repo, tmp_path / "again")
    assert captured.warnings == (f"nested includes {tmp_path / 'outside'} from outside",)


def test_alternates_are_brought_along_recursively(repo: GitRepo, tmp_path: Path) -> None:
    for name, lender in (("second", "repo"), ("third", "second")):
        repo.git("clone", "-q", "--shared", os.fspath(tmp_path / lender), os.fspath(tmp_path / name))
        GitRepo(tmp_path / name).commit(name, {name: f"{name}\n"})
    # A cycle, and one that is lost: git says a word about both and goes on.
    (repo.path / ".git/objects/info").mkdir(exist_ok=True)
    lenders = "".join(f"{tmp_path}/{name}/.git/objects\n" for name in ("second", "third"))
    (repo.path / ".git/objects/info/alternates").write_text(f"# comment\n{lenders}/no/such\n")
    source = GitRepo(tmp_path / "third")
    copy, captured = take(source, tmp_path / "copy")
    assert any("/no/such" in warning for warning in captured.warnings)
    for name in ("repo", "second", "third"):
        (tmp_path / name).rename(tmp_path / f"gone-{name}")
    copy.git("fsck", "--connectivity-only")
    assert copy.git("show", "HEAD~2:README") == "hello"
    listed = (copy.path / ".git/objects/info/alternates").read_text().split()
    assert listed == ["../alt/0", "../alt/1"]


def test_a_copy_of_a_copy_has_the_same_alternates(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("clone", "-q", "--shared", ".", os.fspath(tmp_path / "second"))
    once, _ = take(GitRepo(tmp_path / "second"), tmp_path / "once")
    twice = same(once, tmp_path / "twice")
    (repo.path).rename(tmp_path / "gone")
    (tmp_path / "once").rename(tmp_path / "gone-too")
    twice.git("fsck", "--connectivity-only")


def test_shallow(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("second")
    repo.git("clone", "-q", "--depth=1", f"file://{repo.path}", os.fspath(tmp_path / "shallow"))
    copy = same(GitRepo(tmp_path / "shallow"), tmp_path / "copy")
    assert copy.git("rev-list", "--count", "HEAD") == "1"


def test_partial_clone(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("second", {"README": "second\n"})
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.git("clone", "-q", "--filter=blob:none", f"file://{repo.path}", os.fspath(tmp_path / "partial"))
    copy = same(GitRepo(tmp_path / "partial"), tmp_path / "copy")
    assert copy.git("show", "HEAD~1:README") == "hello"  # fetched from the promisor: it still knows that it has one
