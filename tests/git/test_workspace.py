"""From a repository to the disk of a sandbox, through the cache of bases."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from git_sandbox import settings, store
from git_sandbox.cache import bases
from git_sandbox.errors import RepositoryError, RequirementError
from git_sandbox.git import gitdirs, snapshot
from git_sandbox.git.repo import discover
from git_sandbox.idspace import IdSpace
from git_sandbox.sandbox import provision
from git_sandbox.sandbox.options import Options
from git_sandbox.workspace import builder, stat_scan
from git_sandbox.workspace.builder import Workspace
from git_sandbox.workspace.capture import capture
from git_sandbox.workspace.survey import CapturePolicy
from support.gitrepo import GitRepo

FORMATS = ("raw", "qcow2")


@pytest.fixture
def large(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GitRepo:
    """Worth a base."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(builder, "WORTH_INODES", 10)
    monkeypatch.setattr(stat_scan, "SETTLED", 0)
    repo.commit("many", {f"many/{number}": f"{number}\n" for number in range(20)})
    return repo


seen: list[str] = []  # what the snapshots had at `many/3`


def made(repo: GitRepo, *, whole: bool = False) -> Workspace:
    with store.create(discover(repo.path), None) as box:
        found = builder.make(
            box, CapturePolicy(patience=1), settings.resolve()[0], FORMATS, lambda _text: None, whole=whole
        )
        assert box.directory.disk.stat().st_size
        content = gitdirs.reading(box.repo.git, box.directory.objects).try_run(
            "cat-file", "-p", f"{found.snapshot.tree}:many/3"
        )
        seen.append(content.stdout.decode())
        box.directory.disk.unlink()
        return found


def changing(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the second disk is made, after the files were copied."""
    original, left = snapshot.take, [True]

    def changed(*args: object, **options: object) -> object:
        taken = original(*args, **options)  # type: ignore[arg-type]
        if left:
            left.pop()
            repo.write("many/3", "changed\n")
        return taken

    monkeypatch.setattr(snapshot, "take", changed)


def test_the_second_has_the_base_of_the_first(large: GitRepo) -> None:
    assert made(large).base is None
    (base,) = bases.every()
    large.write("many/1", "dirty\n")
    second = made(large)
    assert second.base == base
    assert 0 < second.applying < 1


def test_what_changes_meanwhile_is_copied_again(large: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    made(large)
    changing(large, monkeypatch)
    second = made(large)
    assert second.base is not None
    assert seen[-1] == "changed\n"


def test_whole_means_over_no_base(large: GitRepo) -> None:
    made(large)
    assert made(large, whole=True).base is None


@pytest.mark.parametrize(("old", "new"), [(b" ", b"_"), (b"many/1", b"many 1"), (b"f 644", b"f")])
def test_a_damaged_list_means_a_whole_copy(large: GitRepo, old: bytes, new: bytes) -> None:
    made(large)
    (base,) = bases.every()
    base.known.write_bytes(base.known.read_bytes().replace(old, new.ljust(len(old), b"?")))
    found = made(large)
    assert found.base is None or new == b"many 1"  # a path that is not there only has to go
    assert large.git("show", f"{found.snapshot.tree}:many/1") == "1"


def test_a_base_made_right_after_a_checkout_is_made_anew(large: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stat_scan, "SETTLED", 2_000_000_000)
    monkeypatch.setattr("git_sandbox.workspace.incremental.HURRIED", 15)
    made(large)
    (hurried,) = bases.every()
    time.sleep(2.1)
    assert made(large).base is None
    assert bases.every() != [hurried]
    assert made(large).base == bases.every()[0]


@pytest.mark.parametrize("transport", ["disk", "share"])
def test_what_cannot_be_recorded_leaves_nothing(
    large: GitRepo, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    def fail(*_args: object, **_options: object) -> NoReturn:
        raise RepositoryError("the repository has gone")

    if transport == "share":
        try:
            IdSpace.ours()
        except RequirementError as error:
            pytest.skip(f"{error.message}: nothing can be given to them")
    monkeypatch.setattr(provision, "_record", fail)
    options = Options(settings.resolve({"transport": transport})[0])
    image: Any = SimpleNamespace(info=SimpleNamespace(suite="trixie"))
    with pytest.raises(RepositoryError), store.create(discover(large.path), None) as box:
        provision.prepare(box, options, image, "qemu", lambda _text: None, formats=FORMATS)
    assert not box.directory.root.exists()
    assert not [name for name in box.repo.refs() if name.startswith("refs/sandbox")]


def test_the_stash_that_went_in_is_recorded(repo: GitRepo, tmp_path: Path) -> None:
    """Else it came back from every sandbox as one that was made in it."""
    repo.commit("one", {"a": "1\n"})
    for text in ("2\n", "3\n"):
        repo.write("a", text)
        repo.git("stash")
    captured = capture(discover(repo.path), tmp_path / "copy", CapturePolicy())
    assert list(captured.stash) == repo.git("log", "-g", "--format=%H", "refs/stash").splitlines()
    assert len(captured.stash) == 2
    assert list(captured.refs) == ["refs/heads/main"]
