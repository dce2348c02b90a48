"""Repositories as others have them: nothing that git itself lives with refuses a start, and what arrives differently is
named.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from git_sandbox.git.repo import discover
from git_sandbox.workspace import nested
from git_sandbox.workspace.capture import Captured, capture
from git_sandbox.workspace.survey import CapturePolicy
from support import based
from support.captured import differences, same, take
from support.gitrepo import GitRepo


def worktree(repo: GitRepo, path: str, branch: str) -> GitRepo:
    repo.git("worktree", "add", "-q", "-b", branch, path)
    return GitRepo(repo.path / path)


def state(repo: GitRepo) -> tuple[str, ...]:
    return (
        repo.git("symbolic-ref", "-q", "HEAD"), repo.git("rev-parse", "HEAD"), repo.git("ls-files", "-s"),
        repo.status(), repo.git("log", "-g", "--format=%H %gs"),
    )  # fmt: skip


@pytest.mark.parametrize("path", [".worktrees/x", ".claude/worktrees/fix it", "x"])
def test_linked_worktrees_inside_arrive_alive(repo: GitRepo, tmp_path: Path, path: str) -> None:
    repo.commit("ignore", {".gitignore": ".worktrees/\n"})
    inner = worktree(repo, path, "topic")
    inner.commit("work", {"w": "w\n"})
    inner.write("w", "staged\n")
    inner.git("add", "w")
    inner.write("w", "dirty\n")
    inner.write("new", "n\n")
    worktree(repo, os.fspath(tmp_path / "outside"), "elsewhere")
    copy, captured = take(repo, tmp_path / "copy")
    assert differences(repo, copy) == []
    assert not [text for text in captured.warnings if path in text]
    living = GitRepo(copy.path / path)
    assert state(living) == state(inner)
    before = (repo.refs(), state(inner))
    made = living.commit("in the copy", {"made": "x\n"})
    assert (repo.refs(), state(inner)) == before
    assert copy.git("rev-parse", "topic") == made
    (own,) = (copy.path / ".git/worktrees").iterdir()
    assert (own / "gitdir").read_text() == f"/workspace/{path}/.git\n"
    assert (living.path / ".git").read_text().startswith("gitdir: ../")
    assert copy.run("checkout", "topic").returncode != 0, "it is checked out there, as on the host"


def test_an_operation_in_progress_in_a_linked_worktree_inside(repo: GitRepo, tmp_path: Path) -> None:
    inner = worktree(repo, "wt/a", "topic")
    inner.commit("ours", {"README": "ours\n"})
    repo.commit("theirs", {"README": "theirs\n"})
    assert inner.run("rebase", "main").returncode
    copy = same(repo, tmp_path / "copy")
    living = GitRepo(copy.path / "wt/a")
    living.write("README", "both\n")
    living.git("add", "README")
    living.git("-c", "core.editor=true", "rebase", "--continue")
    assert living.git("merge-base", "HEAD", "main") == copy.git("rev-parse", "main")


def test_from_a_linked_worktree_with_another_one_inside(repo: GitRepo, tmp_path: Path) -> None:
    outer = worktree(repo, os.fspath(tmp_path / "outer"), "outer")
    inner = worktree(outer, "sub/inner", "inner")
    inner.write("new", "n\n")
    copy, _ = take(outer, tmp_path / "copy")
    assert differences(outer, copy) == []
    assert state(GitRepo(copy.path / "sub/inner")) == state(inner)


def test_a_linked_worktree_inside_through_a_base(repo: GitRepo, tmp_path: Path) -> None:
    inner = worktree(repo, ".worktrees/x", "topic")
    inner.write("new", "n\n")
    assert based.through(repo.path, tmp_path / "based") == ""


def test_a_worktree_that_was_copied_has_no_life_of_its_own(repo: GitRepo, tmp_path: Path) -> None:
    inner = worktree(repo, "a", "topic")
    shutil.copytree(inner.path, repo.path / "b")
    copy, captured = take(repo, tmp_path / "copy")
    assert [text for text in captured.warnings if "share a repository" in text]
    assert (copy.path / "b/README").is_file()
    assert GitRepo(copy.path / "a").git("symbolic-ref", "HEAD") == "refs/heads/topic"


def test_a_worktree_of_another_repository_comes_as_files(repo: GitRepo, tmp_path: Path) -> None:
    other = GitRepo.create(tmp_path / "other")
    other.commit("first", {"secret": "s\n"})
    worktree(other, os.fspath(repo.path / "inner"), "topic")
    copy, captured = take(repo, tmp_path / "copy")
    assert (copy.path / "inner/secret").is_file()
    assert [text for text in captured.warnings if "inner is a linked worktree" in text]
    assert not (copy.path / ".git/worktrees").exists()


def test_a_git_dir_that_is_a_link_to_a_repository_inside(repo: GitRepo, tmp_path: Path) -> None:
    """`.git` leads into a directory that is a checkout of the same repository."""
    (repo.path / "real").mkdir()
    (repo.path / ".git").rename(repo.path / "real/.git")
    (repo.path / ".git").symlink_to("real/.git")
    copy, captured = take(repo, tmp_path / "copy")
    assert copy.run("config", "core.worktree").returncode != 0
    assert copy.git("rev-parse", "--show-toplevel") == os.fspath(copy.path)
    assert copy.status() == repo.status()
    assert GitRepo(copy.path / "real").git("rev-parse", "HEAD") == repo.git("rev-parse", "HEAD")
    assert [text for text in captured.warnings if "real and the whole worktree share a repository" in text]


def test_a_git_dir_that_is_a_link_into_a_plain_directory(repo: GitRepo, tmp_path: Path) -> None:
    (repo.path / "meta").mkdir()
    (repo.path / ".git").rename(repo.path / "meta/git")
    (repo.path / ".git").symlink_to("meta/git")
    copy, _ = take(repo, tmp_path / "copy")
    assert (copy.path / ".git").is_dir()
    assert copy.git("rev-parse", "HEAD") == repo.git("rev-parse", "HEAD")


def inner(repo: GitRepo) -> GitRepo:
    made = GitRepo.create(repo.path / "inner")
    made.commit("inner", {"i": "1\n"})
    return made


def link_loop(repo: GitRepo) -> None:
    made = inner(repo)
    shutil.rmtree(made.path / ".git/hooks", ignore_errors=True)
    (made.path / ".git/hooks").symlink_to("hooks")
    (made.path / ".git/loop").symlink_to("loop")
    (made.path / ".git/refs/heads/loop").symlink_to("loop")
    if not (made.path / ".git/objects/ab").exists():
        (made.path / ".git/objects/ab").symlink_to("ab")


def git_file_loop(repo: GitRepo) -> None:
    repo.write("inner/x")
    (repo.path / "inner/.git").symlink_to(".git")


def bad_config(repo: GitRepo) -> None:
    (inner(repo).path / ".git/config").write_text("[core\nrepositoryformatversion = = 0\n")


def unknown_extension(repo: GitRepo) -> None:
    made = inner(repo)
    made.git("config", "extensions.fromTheFuture", "true")
    made.git("config", "core.repositoryFormatVersion", "1")


def include_loop(repo: GitRepo) -> None:
    made = inner(repo)
    made.git("config", "include.path", "config")


def garbage(repo: GitRepo) -> None:
    for name in ("HEAD", "config", "index", "packed-refs", "refs/heads/x", "objects/pack/pack-1.pack"):
        repo.write(f"inner/.git/{name}", b"\xff\0garbage\n")


def garbage_file(repo: GitRepo) -> None:
    repo.write("inner/.git", b"\0\xff" * 5000)


def nowhere(repo: GitRepo) -> None:
    repo.write("inner/.git", "gitdir: /no/such/place\n")


def other_format(repo: GitRepo) -> None:
    GitRepo.create(repo.path / "inner", object_format="sha256").commit("inner", {"i": "1\n"})


def bare(repo: GitRepo) -> None:
    repo.git("clone", "-q", "--bare", ".", "inner.git")
    repo.git("clone", "-q", "--bare", ".", "inner/.git")


def without_objects(repo: GitRepo) -> None:
    made = inner(repo)
    for each in (made.path / ".git/objects").glob("??"):
        shutil.rmtree(each)


def broken_submodule(repo: GitRepo) -> None:
    library = inner(repo)
    repo.git("submodule", "--quiet", "add", os.fspath(library.path), "sub")
    shutil.rmtree(repo.path / ".git/modules/sub/objects")


NESTED = [
    link_loop, git_file_loop, bad_config, unknown_extension, include_loop, garbage, garbage_file, nowhere,
    other_format, bare, without_objects, broken_submodule,
]  # fmt: skip


@pytest.mark.parametrize("damage", NESTED)
def test_a_repository_inside_that_git_refuses_refuses_no_start(
    repo: GitRepo, tmp_path: Path, damage: Callable[[GitRepo], None]
) -> None:
    damage(repo)
    repo.write("README", "dirty\n")
    copy, captured = take(repo, tmp_path / "copy")
    records = nested.record(copy.path, captured.git_dirs)
    assert copy.git("diff", "--name-only", "--ignore-submodules") == "README"
    for path in repo.path.rglob("*"):
        below = path.relative_to(repo.path)
        if ".git" not in below.parts and path.is_file():
            assert (copy.path / below).read_bytes() == path.read_bytes()
    told = (*captured.warnings, *nested.broken(records))
    silent = {git_file_loop, garbage_file, nowhere, other_format, bare, link_loop, without_objects, broken_submodule}
    assert told or damage in silent


def missing_object(repo: GitRepo) -> None:
    blob = repo.git("rev-parse", "HEAD:README")
    (repo.path / f".git/objects/{blob[:2]}/{blob[2:]}").unlink()


def damaged_object(repo: GitRepo) -> None:
    blob = repo.git("rev-parse", "HEAD:README")
    place = repo.path / f".git/objects/{blob[:2]}/{blob[2:]}"
    place.chmod(0o600)
    place.write_bytes(b"garbage")


def broken_ref(repo: GitRepo) -> None:
    repo.write(".git/refs/heads/broken", "nothing\n")
    repo.write(".git/refs/heads/dangling", f"{'1' * 40}\n")
    repo.write(".git/refs/heads/empty", "")


def alternates_chain(repo: GitRepo) -> None:
    repo.write(".git/objects/info/alternates", "/no/such/objects\n../../other/objects\n")
    repo.write("other/objects/info/alternates", "/nor/this/one\n")
    (repo.path / "other/objects/pack").mkdir()


def missing_include(repo: GitRepo) -> None:
    repo.git("config", "include.path", "/no/such/file")
    repo.git("config", "--add", "include.path", "not-here")


def hooks_are_links(repo: GitRepo) -> None:
    hooks = repo.path / ".git/hooks"
    shutil.rmtree(hooks, ignore_errors=True)
    repo.write("scripts/hooks/pre-commit", "#!/bin/sh\n", mode=0o755)
    hooks.symlink_to("../scripts/hooks")


def huge_reflog(repo: GitRepo) -> None:
    log = repo.path / ".git/logs/HEAD"
    log.write_bytes(log.read_bytes() * 20_000)


def long_name(repo: GitRepo) -> None:
    """A path longer than the kernel takes at once, which programs reach step by step."""
    here = os.getcwd()  # noqa: PTH109
    try:
        os.chdir(repo.path)
        for _ in range(20):
            os.mkdir("d" * 250)  # noqa: PTH102
            os.chdir("d" * 250)
        Path("f").touch()
    finally:
        os.chdir(here)


WHOLE = [
    missing_object, damaged_object, broken_ref, alternates_chain, missing_include, hooks_are_links, huge_reflog,
    long_name,
]  # fmt: skip


@pytest.mark.parametrize("damage", WHOLE)
def test_a_repository_that_git_lives_with_starts(
    repo: GitRepo, tmp_path: Path, damage: Callable[[GitRepo], None]
) -> None:
    damage(repo)
    copy = GitRepo(tmp_path / "copy")
    captured = capture(discover(repo.path), copy.path, CapturePolicy(patience=1))
    assert copy.git("rev-parse", "HEAD") == repo.git("rev-parse", "HEAD")
    assert warned(captured, "too long") is (damage is long_name)
    assert warned(captured, "alternate") is (damage is alternates_chain)
    if damage is long_name:
        shutil.rmtree(repo.path / ("d" * 250))


def warned(captured: Captured, word: str) -> bool:
    return any(word in text for text in captured.warnings)
