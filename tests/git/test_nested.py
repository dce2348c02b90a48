"""Repositories inside the worktree: what is committed in them comes home too, each into its own repository."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from git_sandbox import notices, registry, store
from git_sandbox.errors import CollectError, StateError
from git_sandbox.protocol import manifest, stream
from git_sandbox.sandbox import nested, nested_refs, remove, trashed
from git_sandbox.sandbox_dir import SandboxDir
from git_sandbox.store import SandboxHandle
from git_sandbox.trash.note import DROPPED
from support.gitrepo import GitRepo
from support.nested import Journey, sandbox_refs, served


@pytest.fixture
def library(tmp_path: Path) -> GitRepo:
    made = GitRepo.create(tmp_path / "library")
    made.commit("library", {"lib.c": "1\n"})
    return made


@pytest.fixture
def super_(repo: GitRepo, library: GitRepo) -> GitRepo:
    """A superproject with an absorbed submodule `libs/one`."""
    allow = ("-c", "protocol.file.allow=always")
    repo.git(*allow, "submodule", "--quiet", "add", os.fspath(library.path), "libs/one")
    repo.git("commit", "-q", "-m", "with a submodule")
    return repo


def test_commits_of_an_absorbed_submodule_let_the_superproject_check_out(super_: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(super_, tmp_path)
    tip = trip.inside("libs/one").commit("inside", {"lib.c": "2\n"})
    trip.inside("libs/one").git("switch", "-q", "-c", "topic")
    trip.guest.git("add", "libs/one")
    top = trip.guest.commit("bump")
    brought = trip.home()
    assert brought.changed
    (inside,) = brought.nested.homes
    assert (inside.path, inside.borrowed, inside.collected.head) == ("libs/one", True, tip)
    module = GitRepo(super_.path / "libs/one")
    refs = sandbox_refs(module)
    assert refs["refs/sandbox/vm-1"] == refs["refs/sandbox-heads/vm-1/topic"] == tip
    assert module.git("rev-parse", "HEAD") != tip
    assert super_.status() == ""
    super_.git("merge", "-q", "--ff-only", top)
    super_.git("submodule", "--quiet", "update", "--no-fetch")
    assert module.git("rev-parse", "HEAD") == tip
    module.git("fsck", "--strict")


def test_a_superproject_that_was_moved_meanwhile_gets_what_is_its(super_: GitRepo, tmp_path: Path) -> None:
    own = GitRepo.create(super_.path / "own")
    own.commit("first", {"a": "1\n"})
    trip = Journey.begin(super_, tmp_path)
    tip = trip.inside("libs/one").commit("inside", {"lib.c": "2\n"})
    second = trip.inside("own").commit("second", {"a": "2\n"})
    with trip.handle.anchored():
        super_.path.rename(tmp_path / "moved")
        brought = trip.home()
        assert [each.borrowed for each in brought.nested.homes] == [True, True]
        assert sandbox_refs(GitRepo(tmp_path / "moved" / "libs" / "one"))["refs/sandbox/vm-1"] == tip
        assert sandbox_refs(GitRepo(tmp_path / "moved" / "own"))["refs/sandbox/vm-1"] == second
        assert len(nested_refs.holdings(trip.handle.repo, trip.handle, trip.record)) == 2


def test_refs_that_vanish_in_a_repository_inside_are_put_back(super_: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(super_, tmp_path)
    trip.inside("libs/one").commit("inside", {"lib.c": "2\n"})
    trip.handle.save(trip.record)
    trip.home()
    module = GitRepo(super_.path / "libs/one")
    before = sandbox_refs(module)
    assert before
    record = store.load(trip.handle.directory)
    assert record is not None
    for gone in (False, True):
        for name in before:
            module.git("update-ref", "-d", name)
        if gone:
            module.git("reflog", "expire", "--expire=now", "--all")
            module.git("gc", "-q", "--prune=now")
        (found,) = nested_refs.holdings(trip.handle.repo, trip.handle, record)
        assert (sandbox_refs(module) == before, set(found.gone) == set(before)) == (not gone, gone)
        with pytest.raises(StateError, match="no longer exists there" if gone else "nowhere else"):
            remove._refuse_nested(trip.handle.repo, "vm-1", [found])
    assert "libs/one had been removed and were restored" in " ".join(notices.heard())


def test_untouched_repositories_leave_no_trace(super_: GitRepo, tmp_path: Path) -> None:
    dirty = GitRepo.create(super_.path / "dirty")
    dirty.commit("first", {"a": "1\n"})
    dirty.write("a", "2\n")
    dirty.write("untracked")
    hidden = GitRepo.create(super_.path / "hidden")
    hidden.commit("first", {"a": "1\n"})
    hidden.git("update-index", "--assume-unchanged", "a")
    stashed = GitRepo.create(super_.path / "stashed")
    stashed.commit("first", {"a": "1\n"})
    stashed.write("a", "stash\n")
    stashed.git("stash", "push", "-q")
    trip = Journey.begin(super_, tmp_path)
    brought = trip.home()
    assert brought.nested == nested.NOTHING_NESTED
    for each in (dirty, hidden, stashed, GitRepo(super_.path / "libs/one")):
        assert sandbox_refs(each) == {}
    states = {each.git_dir: each.state is None for each in brought.manifest.nested}
    assert states == {
        ".git/modules/libs/one": False, "dirty/.git": True, "hidden/.git": True, "stashed/.git": False,
    }  # fmt: skip
    assert not trip.handle.directory.nested.exists()


def test_only_what_changed_is_asked_for_a_second_time(super_: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(super_, tmp_path)
    trip.inside("libs/one").commit("inside", {"lib.c": "2\n"})
    trip.home()
    (again,) = trip.home().nested.homes
    assert again.collected.updated == {}


@pytest.mark.parametrize("edit", ["tracked", "untracked", "assumed", "stash", "tag", "branch", "other", "detached"])
def test_every_kind_of_work_in_a_nested_repository_comes_home(repo: GitRepo, tmp_path: Path, edit: str) -> None:
    inner = GitRepo.create(repo.path / "vendor/inner")
    inner.commit("first", {"a": "1\n"})
    inner.git("update-index", *(["--assume-unchanged", "a"] if edit == "assumed" else ["--refresh"]))
    repo.write(".gitignore", "vendor\n")
    trip = Journey.begin(repo, tmp_path)
    there = trip.inside("vendor/inner")
    there.write("b" if edit == "untracked" else "a", "2\n")
    if edit == "stash":
        there.git("stash", "push", "-q")
    if edit in ("tag", "branch"):
        there.git("checkout", "-q", "--", ".")
        there.git(edit, "made-inside")
    if edit in ("other", "detached"):
        there.git("worktree", "add", "-q", "--detach", "apart")
        made = GitRepo(there.path / "apart").commit("apart", {"a": "3\n"})
        there.git("checkout", "-q", "--", ".")
        (there.path / ".git/info/exclude").write_text("apart\n")
    if edit == "other":
        there.git("worktree", "remove", "apart")
        there.git("update-ref", "refs/changes/1", made)
    trip.home()
    expected = {
        "stash": "refs/sandbox-stash/vm-1/0", "tag": "refs/sandbox-tags/vm-1/made-inside",
        "branch": "refs/sandbox-heads/vm-1/made-inside", "other": "refs/sandbox-other/vm-1/changes/1",
        "detached": "refs/sandbox-other/vm-1/worktrees/apart/HEAD",
    }.get(edit, "refs/sandbox-wip/vm-1")  # fmt: skip
    assert expected in sandbox_refs(inner)
    if expected == "refs/sandbox-wip/vm-1":
        assert inner.git("show", f"{expected}:{'b' if edit == 'untracked' else 'a'}") == "2"


def test_a_repository_the_host_has_not_got_comes_into_the_sandboxs_directory(repo: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(repo, tmp_path)
    fresh = GitRepo.create(trip.guest.path / "new one", object_format="sha256")
    tip = fresh.commit("first", {"a": "1\n"})
    GitRepo.create(trip.guest.path / "empty")
    (inside,) = trip.home().nested.homes
    assert not inside.borrowed
    assert inside.git_dir.parent == trip.handle.directory.nested
    assert sandbox_refs(GitRepo(inside.git_dir))["refs/sandbox/vm-1"] == tip
    assert [each.name for each in trip.handle.directory.nested.iterdir()] == [inside.git_dir.name]
    (held,) = nested_refs.holdings(trip.handle.repo, trip.handle, trip.record)
    assert nested_refs.lost(trip.handle.repo, held) == [tip]


def test_submodules_of_submodules_and_one_that_is_not_checked_out(super_: GitRepo, tmp_path: Path) -> None:
    allow = ("-c", "protocol.file.allow=always")
    one = GitRepo(super_.path / "libs/one")
    deep = GitRepo.create(tmp_path / "deep")
    deep.commit("deep", {"d": "1\n"})
    one.git(*allow, "submodule", "--quiet", "add", os.fspath(deep.path), "deep")
    one.git("commit", "-q", "-m", "deeper")
    trip = Journey.begin(super_, tmp_path)
    tip = trip.inside("libs/one/deep").commit("inside", {"d": "2\n"})
    module = trip.guest.path / ".git/modules/libs/one/modules/deep"
    shutil.rmtree(trip.guest.path / "libs")
    brought = trip.home()
    assert {each.path: each.collected.head for each in brought.nested.homes} == {
        ".git/modules/libs/one/modules/deep": tip
    }
    assert module.is_dir()
    assert sandbox_refs(GitRepo(super_.path / "libs/one/deep"))["refs/sandbox/vm-1"] == tip


def test_an_absorbed_old_style_submodule_is_recognised_by_its_path(repo: GitRepo, tmp_path: Path) -> None:
    inner = GitRepo.create(repo.path / "old")
    inner.commit("first", {"a": "1\n"})
    repo.git("-c", "advice.addEmbeddedRepo=false", "add", "old")
    repo.write(".gitmodules", '[submodule "old"]\n\tpath = old\n\turl = ./old\n')
    repo.commit("old style", {".gitmodules": repo.read(".gitmodules")})
    trip = Journey.begin(repo, tmp_path)
    trip.guest.git("submodule", "--quiet", "absorbgitdirs")
    assert (trip.guest.path / "old/.git").is_file()
    tip = trip.inside("old").commit("inside", {"a": "2\n"})
    (inside,) = trip.home().nested.homes
    assert inside.borrowed
    assert sandbox_refs(inner)["refs/sandbox/vm-1"] == tip


def test_drop_refuses_and_then_removes_the_refs_inside(super_: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(super_, tmp_path)
    tip = trip.inside("libs/one").commit("inside", {"lib.c": "2\n"})
    trip.home()
    (held,) = nested_refs.holdings(trip.handle.repo, trip.handle, trip.record)
    assert nested_refs.lost(trip.handle.repo, held) == [tip]
    module = GitRepo(super_.path / "libs/one")
    module.git("branch", "kept", tip)
    assert nested_refs.lost(trip.handle.repo, held) == []
    trashed.put(trip.handle, trip.record, DROPPED)
    assert sandbox_refs(module) == {}
    assert module.git("rev-parse", "kept") == tip


def test_refs_inside_come_back_from_the_trash(super_: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(super_, tmp_path)
    place = SandboxDir(registry.claim(trip.handle.repo) / "vm-1")
    trip.handle.directory.root.rename(place.root)
    trip = replace(trip, handle=SandboxHandle(trip.handle.repo, trip.handle.id, place))
    trip.handle.save(trip.record)
    tip = trip.inside("libs/one").commit("inside", {"lib.c": "2\n"})
    other = GitRepo.create(trip.guest.path / "made-inside")
    own = other.commit("only in there", {"x": "1\n"})
    trip.home()
    module = GitRepo(super_.path / "libs/one")
    before = sandbox_refs(super_), sandbox_refs(module)
    assert tip in before[1].values()
    trashed.put(trip.handle, trip.record, DROPPED)
    assert (sandbox_refs(super_), sandbox_refs(module), place.root.exists()) == ({}, {}, False)
    for each in (super_, module):
        each.git("reflog", "expire", "--expire=now", "--all")
        each.git("gc", "-q", "--prune=now")
    assert module.run("cat-file", "-e", tip).returncode != 0
    assert trashed.damage(trip.handle.repo) == ()
    absorbed = super_.path / ".git/modules/libs/one"
    absorbed.rename(tmp_path / "away")
    (row,) = trashed.damage(trip.handle.repo)
    assert "of its refs belong to a repository inside the worktree, which is gone" in row
    (tmp_path / "away").rename(absorbed)
    assert trashed.restore(trip.handle.repo, "vm-1").missing == {}
    assert (sandbox_refs(super_), sandbox_refs(module)) == before
    module.git("rev-list", "--objects", "--quiet", tip)
    (kept,) = place.nested.glob("*.git")
    assert own in GitRepo(kept).refs().values()


# --- a hostile guest --------------------------------------------------------------------------------------------------


def test_a_sandbox_of_the_same_name_in_the_submodule_is_not_touched(super_: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(super_, tmp_path)
    trip.inside("libs/one").commit("inside", {"lib.c": "2\n"})
    module = GitRepo(super_.path / "libs/one")
    module.git("update-ref", "refs/sandbox/vm-1", "HEAD")
    module.git("update-ref", "refs/sandbox-meta/vm-1", "HEAD")
    before = sandbox_refs(module)
    (inside,) = trip.home().nested.homes
    assert not inside.borrowed
    trashed.put(trip.handle, trip.record, DROPPED)
    assert sandbox_refs(module) == before


def test_a_host_path_that_became_a_symlink_is_not_followed(repo: GitRepo, tmp_path: Path) -> None:
    """The guest's commit, merged by the user, may have put a link where the repository was."""
    inner = GitRepo.create(repo.path / "inner")
    inner.commit("first", {"a": "1\n"})
    trip = Journey.begin(repo, tmp_path)
    trip.inside("inner").commit("inside", {"a": "2\n"})
    victim = tmp_path / "victim"
    shutil.move(inner.path, victim)
    (repo.path / "inner").symlink_to(victim)
    before = GitRepo(victim).refs()
    (inside,) = trip.home().nested.homes
    assert not inside.borrowed
    assert GitRepo(victim).refs() == before


def test_git_directories_outside_the_worktree_are_not_exported(repo: GitRepo, tmp_path: Path) -> None:
    trip = Journey.begin(repo, tmp_path)
    outside = GitRepo.create(tmp_path / "outside")
    outside.commit("secret", {"secret": "1\n"})
    trip.guest.write("pointer/.git", f"gitdir: {outside.path}/.git\n")
    (trip.guest.path / "linked").mkdir()
    (trip.guest.path / "linked/.git").symlink_to(outside.path / ".git")
    (trip.guest.path / "fifo").mkdir()
    os.mkfifo(trip.guest.path / "fifo/.git")
    (trip.guest.path / "loop").mkdir()
    (trip.guest.path / "loop/.git").symlink_to(".git")
    brought = trip.home()
    assert brought.nested.homes == ()
    assert sum("not in the worktree" in warning for warning in brought.warnings) == 2


@pytest.mark.parametrize("git_dir", ["../outside/.git", "/etc", ".git/../../outside/.git", "link/.git", "a\0b", "none"])
def test_the_exporter_refuses_places_that_are_not_inside(repo: GitRepo, tmp_path: Path, git_dir: str) -> None:
    trip = Journey.begin(repo, tmp_path)
    outside = GitRepo.create(tmp_path / "outside")
    outside.commit("secret", {"secret": "1\n"})
    (trip.guest.path / "link").symlink_to(outside.path)
    with served(trip.guest.path) as channel:
        reply = stream.request(channel, "export", extra={"git_dir": git_dir, "path": None})
        assert b"not a" in reply.header
        with pytest.raises(CollectError):
            manifest.parse(reply.header, object_format="sha1")
        with pytest.raises(CollectError):  # to the end: the exporter must not meet a closed channel
            list(reply.chunks)


def test_a_broken_repository_holds_up_no_other(super_: GitRepo, tmp_path: Path) -> None:
    """What can be read of it comes, and what cannot is named."""
    inner = GitRepo.create(super_.path / "inner")
    inner.commit("first", {"a": "1\n"})
    trip = Journey.begin(super_, tmp_path)
    tip = trip.inside("libs/one").commit("inside", {"lib.c": "2\n"})
    second = trip.inside("inner").commit("second", {"a": "2\n"})
    (trip.guest.path / "inner/.git/config").write_text("[broken\n")
    (trip.guest.path / "inner/.git/refs/heads/lost").write_bytes(bytes(41))
    top = trip.guest.commit("top", {"x": "1\n"})
    brought = trip.home()
    assert brought.collected.head == top
    assert {each.collected.head for each in brought.nested.homes} == {tip, second}
    assert any("refs/heads/lost" in row for row in brought.partly)


def test_too_many_repositories_are_said(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trip = Journey.begin(repo, tmp_path)
    for number in range(201):
        place = trip.guest.path / f"many/{number}/.git"
        for name in ("objects", "refs"):
            (place / name).mkdir(parents=True)
        (place / "HEAD").write_text("ref: refs/heads/main\n")
    monkeypatch.setattr(nested, "BUDGET", 0.0)
    brought = trip.home()
    assert len(brought.manifest.nested) == 200
    assert any("repositories inside" in row and "201" in row for row in brought.partly)
    assert len(brought.nested.missing) == 200


def test_a_name_of_the_guests_names_no_file() -> None:
    for lie in ("../../../etc", "/etc/passwd", "\x1b[31m", "x" * 4000, "\udcff"):
        name = nested_refs.own_name(lie)
        assert "/" not in name
        assert name.isascii()
        assert name.isprintable()
        assert len(name) < 60


@pytest.mark.parametrize(("left", "most"), [("refs", 3), ("objects", 4), ("total", 10)])
def test_all_repositories_inside_share_one_sum(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, most: int
) -> None:
    """Each by itself may have as many: a hostile guest has two hundred."""
    names = ("one", "two", "three")
    for name in names:
        GitRepo.create(repo.path / name).commit("first", {"a": "1\n"})
    trip = Journey.begin(repo, tmp_path)
    for name in names:
        inner = trip.inside(name)
        inner.commit("second", {"a": f"{name}\n"})
        inner.git("branch", "other")
    monkeypatch.setattr("git_sandbox.sandbox.nested._Budget", partial(nested._Budget, **{left: most}))
    brought = trip.home().nested
    assert (len(brought.homes) + len(brought.missing), len(brought.homes) < 2) == (3, True)
    assert all("took more" in why or "limit" in why for why in brought.missing), brought.missing
    monkeypatch.undo()
    assert len(trip.home().nested.homes) == 3
