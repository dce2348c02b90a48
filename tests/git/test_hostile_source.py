"""Git directories that came out of an archive: they run nothing, bring no file of the user's along, change none."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from git_sandbox.collect import collect
from git_sandbox.git.names import SandboxId, SandboxRefs
from git_sandbox.git.repo import discover
from git_sandbox.protocol.manifest import GuestHead, GuestRef, Manifest
from git_sandbox.workspace import nested
from support.captured import take
from support.gitrepo import GitRepo

SECRET = "the user's private key"  # noqa: S105 - of the test's own


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    place = tmp_path / "home" / ".ssh"
    place.mkdir(parents=True)
    place.joinpath("id_test").write_text(SECRET)
    return place


@pytest.fixture
def inner(repo: GitRepo) -> GitRepo:
    """A repository inside the worktree that git in the outer one never looks into."""
    made = GitRepo.create(repo.path / "vendor" / "lib")
    made.commit("first", {"x": "hello\n", ".gitattributes": "x filter=a=b\n"})
    return made


def leaked(copy: GitRepo) -> list[str]:
    return [os.fspath(each) for each in copy.path.rglob("*") if each.is_file() and SECRET in each.read_text("latin-1")]


@pytest.mark.parametrize("name", ["info", "foo", "lfs", "logs", "branches", "remotes", "worktrees", "modules"])
def test_a_link_in_the_git_directory_brings_nothing_along(
    repo: GitRepo, inner: GitRepo, keys: Path, tmp_path: Path, name: str
) -> None:
    for each in (repo, inner):
        place = each.path / ".git" / name
        shutil.rmtree(place, ignore_errors=True)
        place.symlink_to(keys)
    copy, _ = take(repo, tmp_path / "copy")
    for path in copy.path.rglob("*"):
        if path.is_symlink():
            path.unlink()  # as a link it is only a name
    assert leaked(copy) == []


@pytest.mark.parametrize("link", ["objects/pack", "objects/aa", "objects/info", "lfs/.ssh", "lfs/objects"])
def test_a_link_in_a_store_brings_nothing_along(
    repo: GitRepo, inner: GitRepo, keys: Path, tmp_path: Path, link: str
) -> None:
    place = inner.path / ".git" / link
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(keys)
    copy, _ = take(repo, tmp_path / "copy")
    assert leaked(copy) == []


def test_alternates_bring_nothing_but_objects(repo: GitRepo, inner: GitRepo, keys: Path, tmp_path: Path) -> None:
    for each in (repo, inner):
        each.write(".git/objects/info/alternates", f"{keys}\n{keys.parent}\n")
    copy, _ = take(repo, tmp_path / "copy")
    assert leaked(copy) == []


@pytest.mark.parametrize("directory", ["branches", "remotes"])
def test_a_link_among_the_remotes_is_not_written_through(
    repo: GitRepo, inner: GitRepo, tmp_path: Path, directory: str
) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text("https://user:token@example.com\n")
    (inner.path / ".git" / directory).mkdir(exist_ok=True)
    (inner.path / ".git" / directory / "x").symlink_to(credentials)
    take(repo, tmp_path / "copy")
    assert credentials.read_text() == "https://user:token@example.com\n"


@pytest.mark.parametrize("key", ["clean", "process"])
@pytest.mark.parametrize("dirty", [False, True])
def test_filters_of_a_nested_repository_do_not_run(
    repo: GitRepo, inner: GitRepo, tmp_path: Path, key: str, *, dirty: bool
) -> None:
    mark = tmp_path / "ran on the host"
    inner.git("config", "filter.a=b.required", "true")
    inner.git("config", f"filter.a=b.{key}", f"touch '{mark}'; cat")
    if dirty:
        inner.write("x", "changed\n")
        inner.write("untracked", "new\n")
    copy, captured = take(repo, tmp_path / "copy")
    mark.unlink(missing_ok=True)  # `take` itself compares with plain git
    (recorded,) = nested.record(copy.path, captured.git_dirs)
    assert not mark.exists()
    assert (recorded.snapshot is None) is not dirty
    copy.run("-C", "vendor/lib", "add", "-A")
    assert mark.exists()  # git itself runs it


def test_configuration_of_a_nested_repository_runs_nothing_on_the_way_home(
    repo: GitRepo, inner: GitRepo, tmp_path: Path
) -> None:
    mark = tmp_path / "ran on the host"
    guest = inner.clone_files(tmp_path / "guest")
    new = guest.commit("work", {"new": "new\n"})
    pack = guest.run("pack-objects", "--revs", "--stdout", "-q", input=f"{new}\n".encode()).stdout
    lender = repo.path / ".git" / "objects"
    inner.write(".git/objects/info/alternates", f"{lender}\n")
    inner.git("config", "core.alternateRefsCommand", f"touch '{mark}'; true")
    inner.git("config", "protocol.ext.allow", "always")
    manifest = Manifest(
        "sha1", GuestHead("refs/heads/main", new), (GuestRef("refs/heads/main", new),), (), None, None, None, ()
    )
    refs = SandboxRefs(SandboxId("vm-1"))
    with tempfile.TemporaryDirectory() as scratch:
        collect(discover(inner.path), refs, manifest, [pack], quarantine=Path(scratch, "quarantine"))
    assert not mark.exists()
    assert inner.refs()[refs.head] == new
    inner.git("config", f"url.ext::touch '{mark}' .insteadOf", "/")
    inner.git("update-ref", "-d", refs.head)
    with tempfile.TemporaryDirectory() as scratch, pytest.raises(Exception, match="could not be stored"):
        collect(discover(inner.path), refs, manifest, [pack], quarantine=Path(scratch, "quarantine"))
    assert not mark.exists()
