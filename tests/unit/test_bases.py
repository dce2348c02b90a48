"""The cache of repository bases: whole or not at all, never changed, kept small."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from git_sandbox.cache import bases
from git_sandbox.cache.bases import Base, BaseInfo

LIMIT = 1 << 30


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def make(repository: str, worktree: Path, *, key: str = "key", content: bytes = b"image", limit: int = LIMIT) -> Base:
    with bases.building(repository) as place:
        (place / "image.ext4").write_bytes(content)
        (place / "known").write_bytes(b"known")
        return bases.publish(place, BaseInfo(key, os.fspath(worktree), 1, 1.0), limit)


def test_the_newest_replaces_the_older_of_the_same_key_only(tmp_path: Path) -> None:
    make("repo", tmp_path, content=b"old")
    other = make("repo", tmp_path, key="other")
    newest = make("repo", tmp_path, content=b"new")
    found = bases.find("repo", "key")
    assert found == newest
    assert found.image.read_bytes() == b"new"
    assert bases.find("repo", "other") == other
    assert len(bases.every()) == 2
    assert bases.find("repo", "missing") is None


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with bases.building("repo") as place:
            (place / "image.ext4").write_bytes(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert bases.every() == []
    assert list((bases.bases_root() / "repo").iterdir()) == []
    assert tmp_path.exists()


def test_two_builds_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    with bases.building("repo") as one:
        (one / "image.ext4").write_bytes(b"one")
        (one / "known").write_bytes(b"known")
        make("repo", tmp_path, content=b"two")  # tidies up: `one` is held
        bases.publish(one, BaseInfo("key", os.fspath(tmp_path), 1, 1.0), LIMIT)
    found = bases.find("repo", "key")
    assert found is not None
    assert found.image.read_bytes() == b"one"


def test_left_overs_of_dead_builds_go(tmp_path: Path) -> None:
    make("repo", tmp_path)
    dead, held = (bases.bases_root() / "repo" / name for name in (".build-1-1", ".build-2-2"))
    for place in (dead, held):
        place.mkdir()
        (place / ".lock").touch()
    with (held / ".lock").open("r") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        bases.tidy(LIMIT)
        assert held.exists()
    assert not dead.exists()


def test_the_least_used_goes_first_and_a_worktree_that_is_gone_at_once(tmp_path: Path) -> None:
    size = 1 << 20
    first = make("a", tmp_path, content=os.urandom(size))
    second = make("b", tmp_path, content=os.urandom(size))
    gone = make("c", tmp_path / "gone", content=b"x")
    assert not gone.root.exists()
    os.utime(first.root / "base.json", (9e9, 9e9))
    os.utime(second.root / "base.json", (1, 1))
    bases.tidy(int(size * 1.5))
    assert bases.every() == [first]
    bases.tidy(0)
    assert bases.every() == []


def test_a_sandbox_keeps_its_image(tmp_path: Path) -> None:
    base = make("repo", tmp_path)
    (tmp_path / "link").hardlink_to(base.image)
    bases.remove(base)
    assert (tmp_path / "link").read_bytes() == b"image"


def test_a_damaged_base_is_none(tmp_path: Path) -> None:
    base = make("repo", tmp_path)
    (base.root / "base.json").write_text("{")
    assert bases.find("repo", "key") is None
    bases.tidy(LIMIT)
    assert not base.root.exists()
