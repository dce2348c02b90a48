"""A git directory that git refuses, or that is gone: what can be read of it comes home, and the files always do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from git_sandbox.guest.repair import repair
from git_sandbox.protocol import manifest, stream
from support.gitrepo import GitRepo
from support.guest import LIMITS, Host, content, exporter, tree_of

WIP = "refs/sandbox-wip/vm-1"


@pytest.fixture
def guest(repo: GitRepo, tmp_path: Path) -> GitRepo:
    made = repo.clone_files(tmp_path / "guest")
    made.commit("inside", {"a": "1\n"})
    made.git("branch", "other")
    made.write("a", "2\n")
    made.write("new", "n\n")
    return made


def zeros(path: Path) -> None:
    path.write_bytes(bytes(len(path.read_bytes())))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff[garbage\n" * 20)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = [zeros, truncated, garbage, emptied, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["HEAD", "index", "config", "refs/heads/main", "packed-refs", "logs/HEAD"])
def test_one_damaged_file_costs_nothing_else(
    host: Host, guest: GitRepo, name: str, damage: Callable[[Path], None]
) -> None:
    if name == "packed-refs":
        guest.git("pack-refs", "--all")
        lost = damage is not truncated
    else:
        lost = False
    tip = guest.git("rev-parse", "HEAD")
    damage(guest.path / ".git" / name)
    done = host.bring_home(guest)
    assert (done.head, done.head_symref) == (tip, "refs/heads/main")
    assert "main" in done.branches
    assert "other" in done.branches or lost
    assert tree_of(host.repo, WIP).keys() == {"README", "a", "new"}
    assert content(host.repo, f"{WIP}:a") == b"2\n"
    assert content(host.repo, f"{WIP}:new") == b"n\n"


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", ["pack-*.idx", "multi-pack-index", "pack-*.bitmap", "../info/commit-graph"])
def test_what_git_derives_from_packs_is_made_again(
    host: Host, guest: GitRepo, name: str, damage: Callable[[Path], None]
) -> None:
    """By the export, or before the next session."""
    guest.git("repack", "-adqb")
    guest.git("commit-graph", "write", "--reachable")
    if name == "multi-pack-index":
        guest.git("multi-pack-index", "write")
    again = guest.clone_files(guest.path.with_name("again"))
    for repo in (guest, again):
        path = next((repo.path / ".git/objects/pack").glob(name))
        path.chmod(0o600)
        damage(path)
    tip = (guest.path / ".git/refs/heads/main").read_text().strip()
    done = host.bring_home(guest)
    assert (done.head, done.set_aside) == (tip, ())
    assert content(host.repo, f"{WIP}:a") == b"2\n"
    repair(str(again.path), again.path / ".git")
    assert again.status().splitlines()[1:] == ["? new"]
    assert again.git("log", "--format=%s") == "inside\nfirst"


def test_a_branch_without_a_reflog_that_is_zeros_is_named(host: Host, guest: GitRepo) -> None:
    zeros(guest.path / ".git/refs/heads/other")
    (guest.path / ".git/logs/refs/heads/other").unlink()
    done = host.bring_home(guest)
    assert done.branches.keys() == {"main"}
    assert [each.name for each in done.set_aside] == ["refs/heads/other"]


def test_a_repository_that_says_it_has_no_worktree(host: Host, guest: GitRepo) -> None:
    tip = guest.git("rev-parse", "HEAD")
    guest.git("config", "core.bare", "true")
    done = host.bring_home(guest)
    assert done.head == tip
    assert tree_of(host.repo, WIP).keys() == {"README", "a", "new"}


def deleted(path: Path) -> None:
    shutil.rmtree(path / ".git")


def a_file(path: Path) -> None:
    deleted(path)
    (path / ".git").write_text("gone\n")


def a_file_to_nowhere(path: Path) -> None:
    deleted(path)
    (path / ".git").write_text("gitdir: /nowhere\n")


def a_link_to_nothing(path: Path) -> None:
    deleted(path)
    (path / ".git").symlink_to("/nowhere/at/all")


def empty(path: Path) -> None:
    deleted(path)
    (path / ".git").mkdir()


@pytest.mark.parametrize(
    "end", [deleted, a_file, a_file_to_nowhere, a_link_to_nothing, empty], ids=lambda x: x.__name__
)
def test_without_a_repository_the_files_come(host: Host, guest: GitRepo, end: Callable[[Path], None]) -> None:
    end(guest.path)
    done = host.bring_home(guest)
    assert done.head is None
    assert tree_of(host.repo, WIP).keys() == {"README", "a", "new"}
    assert content(host.repo, f"{WIP}:a") == b"2\n"
    assert any("damaged" in each for each in done.warnings)


def test_a_repository_made_anew_comes_with_its_own_history(host: Host, guest: GitRepo) -> None:
    deleted(guest.path)
    fresh = GitRepo.create(guest.path)
    for key, value in (("user.name", "T"), ("user.email", "t@example.com")):
        fresh.git("config", key, value)
    tip = fresh.commit("another beginning", {"a": "2\n"})
    done = host.bring_home(guest)
    assert done.head == tip
    assert content(host.repo, f"{WIP}:new") == b"n\n"
    host.repo.git("fsck", "--strict", "--no-dangling")


def test_of_a_repository_of_another_object_format_the_files_come(host: Host, guest: GitRepo) -> None:
    deleted(guest.path)
    fresh = GitRepo.create(guest.path, object_format="sha256")
    for key, value in (("user.name", "T"), ("user.email", "t@example.com")):
        fresh.git("config", key, value)
    fresh.commit("another beginning", {"a": "2\n"})
    with exporter(guest.path) as sock:
        reply = stream.request(sock, "export", extra={"object_format": "sha1"}, limits=LIMITS)
        told = manifest.parse(reply.header, object_format="sha1")
        host.take(told, b"".join(reply.chunks))
    assert tree_of(host.repo, WIP).keys() == {"README", "a", "new"}
    assert {each.name for each in told.set_aside} == {"HEAD", "refs/heads/main"}


def test_nothing_of_the_users_is_written(host: Host, guest: GitRepo) -> None:
    zeros(guest.path / ".git/HEAD")
    before = (guest.path / ".git/config").read_bytes(), sorted(guest.path.rglob("*"))
    host.bring_home(guest)
    assert ((guest.path / ".git/config").read_bytes(), sorted(guest.path.rglob("*"))) == before
