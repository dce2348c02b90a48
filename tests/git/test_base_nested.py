"""Submodules and other repositories inside, through a base: as exact as a whole copy, or a whole copy."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox.git.repo import discover
from git_sandbox.guest.describe import describe
from git_sandbox.sandbox.describe_diff import compare
from git_sandbox.workspace import builder, nested
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.incremental import ChangeTracker, NotIncremental, SourceChanged
from support import based
from support.examples import examples
from support.gitrepo import GitRepo

INSIDE = ("lib", "deep/er", "ignored/clone", "lib/inner")  # absorbed; plain; plain, ignored; one in another


@pytest.fixture(autouse=True)
def _at_once() -> Iterator[None]:
    with based.settled_at_once():
        yield


def outer(place: Path) -> GitRepo:
    library = GitRepo.create(place / "library")
    library.commit("library", {"l": "l\n", "dir/m": "m\n", ".gitignore": "*.o\n"})
    repo = GitRepo.create(place / "repo")
    repo.commit("one", {"a": "a\n", ".gitignore": "/ignored\n", "deep/file": "f\n"})
    repo.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", os.fspath(library.path), "lib")
    repo.git("commit", "-qm", "submodule")
    for path in INSIDE[1:]:
        GitRepo.create(repo.path / path).commit(path, {"x": "x\n", "y/z": "z\n"})
    repo.git("gc", "-q")
    return repo


@pytest.fixture
def repo(tmp_path: Path) -> GitRepo:
    return outer(tmp_path)


def test_what_did_not_change_is_not_copied(repo: GitRepo, tmp_path: Path) -> None:
    base = based.make(repo.path, tmp_path / "base")
    based.proved(repo.path, base, tmp_path)
    staged = [path for path in (tmp_path / "difference").rglob("*") if path.is_file()]
    copied = [path for path in staged if ".git" not in path.parts or "objects" in path.parts]
    assert {path.parent.name for path in copied} <= {"info"}, "lists that git writes anew"


def test_what_is_recorded_of_them_is_the_same(repo: GitRepo, tmp_path: Path) -> None:
    base = based.make(repo.path, tmp_path / "base")
    GitRepo(repo.path / "lib").commit("more", {"l": "L\n"})
    GitRepo(repo.path / "lib").write("dir/m", "dirty\n")
    GitRepo(repo.path / "deep/er").write("new", "untracked\n")
    GitRepo(repo.path / "ignored/clone").git("checkout", "-q", "--detach")
    whole, tracker = capture(discover(repo.path), tmp_path / "whole", based.policy()), ChangeTracker(base.known)
    taken = capture(discover(repo.path), tmp_path / "difference", based.policy(), tracker=tracker)
    assert (taken.refs, taken.stash, taken.head) == (whole.refs, whole.stash, whole.head)
    assert taken.refs
    expected = nested.record(tmp_path / "whole", whole.git_dirs)
    found = nested.record(tmp_path / "difference", taken.git_dirs, whole=False)
    assert sorted(found, key=lambda each: each.git_dir) == sorted(expected, key=lambda each: each.git_dir)
    assert {each.path for each in found} == set(INSIDE)


@pytest.mark.parametrize(
    "step",
    [
        lambda repo: GitRepo.create(repo.path / "new").commit("x", {"f": "f\n"}),
        lambda repo: repo.git("mv", "lib", "moved"),
        lambda repo: (repo.path / "deep/er").rename(repo.path / "deep/moved"),
        lambda repo: (repo.path / "lib/.git").write_text(f"gitdir: {repo.path / 'deep/er/.git'}\n"),
        lambda repo: repo.git("worktree", "add", "-q", os.fspath(repo.path / "linked")),
    ],
)
def test_others_than_the_base_has_are_copied_whole(
    repo: GitRepo, tmp_path: Path, step: Callable[[GitRepo], object]
) -> None:
    base = based.make(repo.path, tmp_path / "base")
    step(repo)
    with pytest.raises(NotIncremental):
        based.follow(repo.path, base, tmp_path / "difference")


@pytest.mark.parametrize("step", ["lender commits", "lender collects", "fetch", "alone", "a second one", "chain"])
def test_borrowed_objects(repo: GitRepo, tmp_path: Path, step: str) -> None:
    """They are copied to `.git/alt/N`; which N a lender has, and whether it borrows itself, can change."""
    borrower, library = GitRepo(tmp_path / "borrower"), tmp_path / "library/.git/objects"
    repo.git("clone", "-q", "--shared", os.fspath(repo.path), os.fspath(borrower.path))
    base = based.make(borrower.path, tmp_path / "base")
    listing = borrower.path / ".git/objects/info/alternates"
    match step:
        case "lender commits":
            repo.commit("more", {"a": "aa\n"})
        case "lender collects":
            repo.commit("more", {"a": "aa\n"})
            repo.git("gc", "-q", "--prune=now")
        case "fetch":
            repo.commit("more", {"a": "aa\n"})
            borrower.git("fetch", "-q")
        case "alone":
            borrower.git("repack", "-a", "-d", "-q")
            listing.unlink()
        case "a second one":
            listing.write_text(f"{library}\n{repo.path / '.git/objects'}\n")
        case "chain":
            (repo.path / ".git/objects/info/alternates").write_text(f"{library}\n")
    based.proved(borrower.path, base, tmp_path)
    assert not (tmp_path / "difference/a").exists(), "only what git keeps was different"


@pytest.mark.parametrize("path", INSIDE)
def test_one_that_is_gone_is_gone(repo: GitRepo, tmp_path: Path, path: str) -> None:
    base = based.make(repo.path, tmp_path / "base")
    shutil.rmtree(repo.path / path)
    based.proved(repo.path, base, tmp_path)
    assert not (base.root / path).exists()


def test_a_commit_inside_after_the_copy_is_noticed(repo: GitRepo, tmp_path: Path) -> None:
    """Else the starting point would name a commit that the guest has not got."""
    base = based.make(repo.path, tmp_path / "base")
    taken = capture(discover(repo.path), tmp_path / "copy", based.policy(), tracker=ChangeTracker(base.known))
    records = nested.record(tmp_path / "copy", taken.git_dirs, whole=False)
    git = discover(repo.path).git
    nested.confirm_links(git, builder.take(git, taken).tree, records)
    GitRepo(repo.path / "lib").git("commit", "-q", "--allow-empty", "-m", "meanwhile")
    with pytest.raises(SourceChanged, match="nested repository"):
        nested.confirm_links(git, builder.take(git, taken).tree, records)


def test_a_repository_below_a_name_with_a_colon(tmp_path: Path) -> None:
    """Git parts directories of objects at colons; the sandbox then began on a branch without a commit."""
    repo = outer(tmp_path / "a:b")
    base = based.make(repo.path, tmp_path / "base")
    taken = capture(discover(repo.path), tmp_path / "copy", based.policy(), tracker=ChangeTracker(base.known))
    assert taken.head.commit == repo.git("rev-parse", "HEAD")
    assert all(each.base for each in nested.record(tmp_path / "copy", taken.git_dirs, whole=False))


_PLACES = st.sampled_from(["", *INSIDE])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), _PLACES, st.sampled_from(["x", "y/z", "l", "new", "ig.o"]), st.text("ab")),
        st.tuples(st.just("remove"), _PLACES, st.sampled_from(["x", "y/z", "y", "l", ".gitignore"])),
        st.tuples(
            st.just("git"),
            _PLACES,
            st.sampled_from([
                "add -A", "commit -qam m --allow-empty", "gc -q --prune=now", "checkout -q -b side", "stash -q -u",
                "pack-refs --all", "reset -q --hard HEAD~1", "checkout -q --detach", "submodule deinit -f lib",
                "submodule update", "tag t", "config user.nick n",
            ]),
        ),
    ),
    max_size=8,
)  # fmt: skip


def act(repo: GitRepo, verb: str, place: str, *rest: str) -> None:
    """Git or the file system may refuse: that leaves a state, too."""
    inner = GitRepo(repo.path / place)
    if not (inner.path / ".git").exists():
        return
    try:
        match verb:
            case "write":
                inner.write(*rest)
            case "remove":
                path = inner.path / rest[0]
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            case _:
                inner.run(*rest[0].split())
    except OSError:
        return


@settings(max_examples=examples(8), deadline=None, suppress_health_check=list(HealthCheck))
@given(_STEPS, _STEPS)
def test_base_and_difference_are_the_whole_copy(before: list[tuple[str, ...]], after: list[tuple[str, ...]]) -> None:
    with tempfile.TemporaryDirectory() as name, based.settled_at_once():
        repo = outer(Path(name))
        for step in before:
            act(repo, *step)
        base = based.make(repo.path, Path(name, "base"))
        for step in after:
            act(repo, *step)
        based.proved(repo.path, base, Path(name))
        assert compare(describe(repo.path), describe(base.root)) == []
