"""What is taken for unchanged, and what makes a sandbox copy everything instead."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git.repo import discover
from git_sandbox.workspace import delta, filecopy, git_dir_entries, stat_scan
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.incremental import ChangeTracker, NotIncremental, SourceChanged
from support import based
from support.gitrepo import GitRepo


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    with based.settled_at_once():
        yield


@pytest.fixture
def base(repo: GitRepo, tmp_path: Path) -> based.Base:
    repo.commit("one", {"a": "a\n", "b": "b\n", "dir/c": "c\n", ".gitignore": "*.log\n"})
    repo.git("gc", "-q")
    repo.write("x.log", "before\n")
    return based.make(repo.path, tmp_path / "base")


def written(repo: GitRepo, base: based.Base, tmp_path: Path) -> set[str]:
    """Files of the worktree and packs that were copied, beside the small ignored one that always is."""
    found = based.proved(repo.path, base, tmp_path)
    files = {path for path in found.write if not (tmp_path / "difference" / path).is_dir()}
    return {path for path in files if not path.startswith(".git/") or "/pack/" in path} - {"x.log"}


def test_nothing_changed_nothing_copied(repo: GitRepo, base: based.Base, tmp_path: Path) -> None:
    assert written(repo, base, tmp_path) == set()


def test_an_edit_of_the_same_size_with_the_old_time_is_seen(repo: GitRepo, base: based.Base, tmp_path: Path) -> None:
    place, seen = repo.path / "a", (repo.path / "a").stat()
    place.write_text("A\n")
    os.utime(place, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert written(repo, base, tmp_path) == {"a"}


def test_a_young_file_of_the_base_is_copied_again(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.commit("one", {"a": "a\n"})
    monkeypatch.setattr(stat_scan, "SETTLED", 2_000_000_000)
    assert written(repo, based.make(repo.path, tmp_path / "base"), tmp_path) == {"a"} | {
        path for path in repo.git("ls-files").split() if path
    }


def test_names_of_one_file_stay_together(repo: GitRepo, base: based.Base, tmp_path: Path) -> None:
    os.link(repo.path / "a", repo.path / "linked")
    assert written(repo, base, tmp_path) == {"a", "linked"}


def test_a_pack_that_git_touched_is_not_copied_again(repo: GitRepo, base: based.Base, tmp_path: Path) -> None:
    for pack in (repo.path / ".git/objects/pack").iterdir():
        if pack.suffix in {".pack", ".idx"}:
            os.utime(pack)
    assert written(repo, base, tmp_path) == set()


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (lambda repo: GitRepo.create(repo.path / "inner").commit("x", {"f": "f\n"}), "another nested repository"),
        (lambda repo: os.mknod(repo.path / "device", 0o20600, os.makedev(1, 3)), "cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_difference_is_copied_whole(
    repo: GitRepo, base: based.Base, tmp_path: Path, step: Callable[[GitRepo], object], said: str
) -> None:
    try:
        step(repo)
    except PermissionError:
        pytest.skip("only root can make a device")
    with pytest.raises(NotIncremental, match=said):
        based.follow(repo.path, base, tmp_path / "difference")


def test_patterns_that_leave_files_out_are_copied_whole(repo: GitRepo, base: based.Base, tmp_path: Path) -> None:
    with pytest.raises(NotIncremental, match="patterns"):
        capture(
            discover(repo.path),
            tmp_path / "x",
            replace(based.policy(), exclude=("a",)),
            tracker=ChangeTracker(base.known),
        )


def test_too_much_is_copied_whole(repo: GitRepo, base: based.Base, tmp_path: Path) -> None:
    repo.write("large", "x" * 5000)
    with pytest.raises(NotIncremental, match="too many files"):
        capture(discover(repo.path), tmp_path / "x", based.policy(), tracker=ChangeTracker(base.known, room=4000))


def test_a_pack_that_goes_during_the_copy_is_noticed(
    repo: GitRepo, base: based.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = git_dir_entries.store_entries

    def repacked(store: Path, *, foreign: bool = False) -> list[str]:
        found = original(store, foreign=foreign)
        repo.commit("meanwhile", {"a": "new\n"})
        repo.git("gc", "-q", "--prune=now")
        return found

    monkeypatch.setattr(git_dir_entries, "store_entries", repacked)
    with pytest.raises((NotIncremental, RepositoryError)):
        based.follow(repo.path, base, tmp_path / "difference")


@pytest.mark.parametrize("name", ["a", "new", "dir/c"])
def test_a_change_after_the_copy_is_noticed(
    repo: GitRepo, base: based.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the snapshot read after the copy would otherwise not be what the guest sees."""
    original = filecopy.clone_directory

    def changed(source: Path, target: Path) -> None:
        original(source, target)
        if source == repo.path:  # the last step of a capture
            repo.write(name, "changed\n")

    monkeypatch.setattr(filecopy, "clone_directory", changed)
    with pytest.raises(SourceChanged):
        based.follow(repo.path, base, tmp_path / "difference")


def test_an_ignored_file_may_change_meanwhile(
    repo: GitRepo, base: based.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = filecopy.clone_directory

    def changed(source: Path, target: Path) -> None:
        original(source, target)
        if source == repo.path:
            repo.write("x.log", "more\n")
            repo.write("y.log", "new\n")

    monkeypatch.setattr(filecopy, "clone_directory", changed)
    based.follow(repo.path, base, tmp_path / "difference")
    assert (base.root / "x.log").read_text() == "before\n"


def test_a_second_change_within_one_tick_is_found_by_content(
    repo: GitRepo, base: based.Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stamps are the same before and after; only the bytes tell."""
    monkeypatch.setattr(stat_scan, "SETTLED", 2_000_000_000)
    repo.write("a", "1\n")
    tracker = ChangeTracker(base.known)
    target = tmp_path / "difference"
    captured = capture(discover(repo.path), target, based.policy(), tracker=tracker)
    assert "a" in tracker.young()
    (target / "a").write_text("0\n")  # as if cp had read it before the second change
    with pytest.raises(SourceChanged, match="twice"):
        delta.confirm_young(discover(repo.path).git, target, tracker, captured.git_dirs)


def test_a_young_pointer_to_a_git_directory_is_compared_by_where_it_leads(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy says another place than it does, and always did."""
    repo.commit("one", {"a": "a\n"})
    repo.git("worktree", "add", "-q", "-b", "wt", "wt")
    repo.git("worktree", "add", "-q", "-b", "other", "other")
    monkeypatch.setattr(stat_scan, "SETTLED", 2_000_000_000)
    tracker = ChangeTracker(based.make(repo.path, tmp_path / "base").known)
    target = tmp_path / "difference"
    captured = capture(discover(repo.path), target, based.policy(), tracker=tracker)
    assert {"wt/.git", "other/.git"} <= set(tracker.young())
    assert (target / "wt/.git").read_bytes() != (repo.path / "wt/.git").read_bytes()
    delta.confirm_young(discover(repo.path).git, target, tracker, captured.git_dirs)
    shutil.copyfile(repo.path / "other/.git", repo.path / "wt/.git")
    with pytest.raises(SourceChanged, match="twice"):
        delta.confirm_young(discover(repo.path).git, target, tracker, captured.git_dirs)
