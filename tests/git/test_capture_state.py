"""Every state git keeps for a worktree is in the copy, and goes on working there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from git_sandbox.guest.describe import describe
from support.captured import differences, same, take
from support.gitrepo import GitRepo


@pytest.fixture
def conflict(repo: GitRepo) -> GitRepo:
    """`main` and `side` change the same line of README; `main` is checked out."""
    repo.git("branch", "side")
    repo.commit("ours", {"README": "ours\n"})
    repo.git("checkout", "-q", "side")
    repo.commit("theirs", {"README": "theirs\n"})
    repo.git("checkout", "-q", "main")
    return repo


def test_index_differs_from_head_and_worktree(repo: GitRepo, tmp_path: Path) -> None:
    repo.write("README", "staged\n")
    repo.git("add", "README")
    repo.write("README", "worktree\n")
    copy = same(repo, tmp_path / "copy")
    assert copy.git("show", ":README") == "staged"
    assert copy.read("README") == b"worktree\n"


def test_intent_to_add_and_flags(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("more", {"a": "a\n", "b": "b\n"})
    repo.write("new")
    repo.git("add", "-N", "new")
    repo.git("update-index", "--assume-unchanged", "a")
    repo.git("update-index", "--skip-worktree", "b")
    copy = same(repo, tmp_path / "copy")
    assert "h 100644" in copy.git("ls-files", "-sv")
    assert "S 100644" in copy.git("ls-files", "-sv")
    assert " A " in copy.git("status", "--short")


def test_split_index(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("update-index", "--split-index")
    repo.write("later")
    repo.git("add", "later")
    copy = same(repo, tmp_path / "copy")
    assert list((copy.path / ".git").glob("sharedindex.*"))


def test_stashes_with_their_reflog(repo: GitRepo, tmp_path: Path) -> None:
    for number in range(3):
        repo.write("README", f"stash {number}\n")
        repo.git("stash", "push", "-q", "-m", f"number {number}")
    copy = same(repo, tmp_path / "copy")
    assert len(copy.git("stash", "list").splitlines()) == 3
    copy.git("stash", "pop", "-q", "stash@{2}")
    assert copy.read("README") == b"stash 0\n"


def test_detached_and_unborn_heads(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("checkout", "-q", "--detach")
    _, captured = take(repo, tmp_path / "detached")
    assert captured.head.symref is None
    assert captured.head.commit == repo.git("rev-parse", "HEAD")
    repo.git("checkout", "-q", "--orphan", "fresh")
    copy, captured = take(repo, tmp_path / "unborn")
    assert (captured.head.symref, captured.head.commit) == ("refs/heads/fresh", None)
    assert captured.index == copy.path / ".git" / "index"
    assert differences(repo, copy) == []


def test_merge_conflict_is_finished_in_the_copy(conflict: GitRepo, tmp_path: Path) -> None:
    assert conflict.run("merge", "side").returncode == 1
    copy = same(conflict, tmp_path / "copy")
    assert {line.split()[2] for line in copy.git("ls-files", "-u").splitlines()} == {"1", "2", "3"}
    copy.write("README", "both\n")
    copy.git("commit", "-qam", "merged")
    assert copy.git("rev-parse", "HEAD^2") == conflict.git("rev-parse", "side")


@pytest.mark.parametrize("backend", ["--merge", "--apply"])
def test_stopped_rebase_continues_in_the_copy(conflict: GitRepo, tmp_path: Path, backend: str) -> None:
    conflict.commit("second", {"other": "x\n"})
    assert conflict.run("rebase", backend, "side").returncode != 0
    copy = same(conflict, tmp_path / "copy")
    copy.write("README", "both\n")
    copy.git("add", "README")
    copy.git("-c", "core.editor=true", "rebase", "--continue")
    assert copy.git("log", "--format=%s", "-3").splitlines() == ["second", "ours", "theirs"]
    assert copy.git("symbolic-ref", "HEAD") == "refs/heads/main"


def test_cherry_pick_and_revert_continue_in_the_copy(conflict: GitRepo, tmp_path: Path) -> None:
    assert conflict.run("cherry-pick", "side").returncode == 1
    copy = same(conflict, tmp_path / "pick")
    copy.write("README", "picked\n")
    copy.git("add", "README")
    copy.git("-c", "core.editor=true", "cherry-pick", "--continue")
    assert copy.git("log", "-1", "--format=%s") == "theirs"
    conflict.git("cherry-pick", "--abort")
    conflict.commit("again", {"README": "again\n"})
    assert conflict.run("revert", "--no-edit", "HEAD~1").returncode == 1
    copy = same(conflict, tmp_path / "revert")
    copy.write("README", "reverted\n")
    copy.git("add", "README")
    copy.git("-c", "core.editor=true", "revert", "--continue")
    assert copy.git("log", "-1", "--format=%s") == 'Revert "ours"'


def test_bisect_goes_on_in_the_copy(repo: GitRepo, tmp_path: Path) -> None:
    good = repo.git("rev-parse", "HEAD")
    for number in range(8):
        repo.commit(f"c{number}", {"n": f"{number}\n"})
    repo.git("bisect", "start", "HEAD", good)
    copy = same(repo, tmp_path / "copy")
    copy.git("bisect", "run", "sh", "-c", "test $(cat n) -lt 5")
    assert copy.git("log", "-1", "--format=%s", "refs/bisect/bad") == "c5"


def test_sparse_checkout(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("dirs", {"in/a": "a\n", "out/b": "b\n"})
    repo.git("sparse-checkout", "set", "in")
    copy = same(repo, tmp_path / "copy")
    assert not (copy.path / "out").exists()
    copy.git("sparse-checkout", "disable")
    assert copy.read("out/b") == b"b\n"


def test_hooks_notes_tags_and_packed_refs(repo: GitRepo, tmp_path: Path) -> None:
    repo.git("tag", "-m", "message", "v1")
    repo.git("notes", "add", "-m", "note")
    repo.git("pack-refs", "--all")
    repo.git("branch", "loose")
    repo.write(".git/hooks/pre-commit", "#!/bin/sh\nexit 1\n", mode=0o755)
    copy = same(repo, tmp_path / "copy")
    assert copy.run("commit", "--allow-empty", "-m", "refused").returncode == 1
    assert copy.git("notes", "show") == "note"


def test_sha256(tmp_path: Path) -> None:
    repo = GitRepo.create(tmp_path / "repo", object_format="sha256")
    repo.commit("first", {"a": "a\n"})
    copy, captured = take(repo, tmp_path / "copy")
    assert differences(repo, copy) == []
    assert len(captured.head.commit or "") == 64


def test_head_as_a_symbolic_link(repo: GitRepo, tmp_path: Path) -> None:
    (repo.path / ".git" / "HEAD").unlink()
    (repo.path / ".git" / "HEAD").symlink_to("refs/heads/main")
    same(repo, tmp_path / "copy").commit("in the copy")


ODD_NAMES = [
    b"new\nline",
    b"-dash",
    b"inv\xffalid",
    b" ",
    b"tab\t",
    b'quo"te',
    b"back\\slash",
    b"*",
    "ünï".encode(),
    b"~",
]


def test_odd_names(repo: GitRepo, tmp_path: Path) -> None:
    for number, name in enumerate(ODD_NAMES):
        repo.write(("" if number % 2 else "sub-dir/") + os.fsdecode(name), f"{number}\n")
    repo.git("add", "--", "sub-dir")
    copy = same(repo, tmp_path / "copy")
    names = {os.fsencode(each.name) for each in (*copy.path.iterdir(), *(copy.path / "sub-dir").iterdir())}
    assert names >= set(ODD_NAMES)


def test_files_keep_everything(repo: GitRepo, tmp_path: Path) -> None:
    repo.write("d/exec", mode=0o755)
    repo.write("private", mode=0o600)
    os.link(repo.path / "d" / "exec", repo.path / "twin")
    (repo.path / "dangling").symlink_to("/no/where")
    os.mkfifo(repo.path / "pipe")
    with (repo.path / "holes").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    repo.write("d/ro/file")
    (repo.path / "d" / "ro").chmod(0o555)
    (repo.path / "d" / "empty").mkdir()
    os.utime(repo.path / "README", ns=(1, 1_234_567_890_123_456_789))
    os.utime(repo.path / "d", ns=(1, 1_111_111_111_987_654_321))
    os.utime(repo.path, ns=(1, 1_222_222_222_987_654_321))
    copy, captured = take(repo, tmp_path / "copy")
    assert differences(repo, copy) == []
    assert describe(copy.path)["files"]["d/exec"] == ["twin", "", "", "twin"]
    assert (copy.path / "twin").stat().st_ino == (copy.path / "d" / "exec").stat().st_ino
    assert (copy.path / "holes").stat().st_blocks == 0
    assert captured.bytes < 8 * 1024 * 1024
    assert stat.S_ISFIFO((copy.path / "pipe").lstat().st_mode)
    for name in ("README", "d", ""):
        assert (copy.path / name).stat().st_mtime_ns == (repo.path / name).stat().st_mtime_ns
    (repo.path / "d" / "ro").chmod(0o755)


def test_extended_attributes(repo: GitRepo, tmp_path: Path) -> None:
    try:
        os.setxattr(repo.path / "README", "user.colour", b"blue")
    except OSError as error:
        pytest.skip(f"no user attributes on this file system: {error}")
    os.setxattr(repo.path, "user.top", b"1")
    copy = same(repo, tmp_path / "copy")
    os.setxattr(copy.path / "README", "user.colour", b"red")
    assert len(differences(repo, copy)) == 2
    os.setxattr(copy.path / "README", "user.colour", b"blue")
    assert differences(repo, copy) == []
    assert os.getxattr(copy.path, "user.top") == b"1"


def test_survey_counts_what_the_copy_takes(repo: GitRepo, tmp_path: Path) -> None:
    repo.write("big", os.urandom(300_000))
    copy, captured = take(repo, tmp_path / "copy")
    entries = [copy.path, *copy.path.rglob("*")]
    assert captured.inodes == len(entries)
    assert abs(captured.bytes - sum(each.lstat().st_blocks * 512 for each in entries)) <= 8192
