"""Directories that a devcontainer asks for, as the guest makes them: what a repository has there leads nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.guest import places


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    top = tmp_path / "repo"
    (top / "a/b").mkdir(parents=True)
    (top / "file").write_text("")
    (top / "out").symlink_to("/etc")
    (top / "a/up").symlink_to("..")
    return top


def test_a_part_of_the_workspace_is_shown_and_links_are_not_followed(repo: Path, tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []
    asked = [
        {"path": f"/{number}", "source": source}
        for number, source in enumerate([".", "a", "a/b", "out", "file", "none", "a/up", "a/up/a"])
    ]
    own = tmp_path / "x/y"
    asked.append({"path": str(own), "source": ""})
    config: dict[str, object] = {"user": {"uid": os.getuid(), "gid": os.getgid()}, "places": asked}
    places.prepare(config, lambda place, source: shown.append((str(place), os.path.relpath(source, repo))), repo)
    assert shown == [("/0", "."), ("/1", "a"), ("/2", "a/b")]
    assert own.is_dir()
    (own / "kept").write_text("")
    places.prepare(config, lambda _place, _source: None, repo)
    assert (own / "kept").exists()


def test_without_any_nothing_happens(repo: Path) -> None:
    places.prepare({"user": {"uid": 1, "gid": 1}}, lambda _place, _source: pytest.fail("nothing to show"), repo)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_home_of_another_number_becomes_the_user_s(tmp_path: Path) -> None:
    home, other = tmp_path / "home", tmp_path / "other"
    (home / "d").mkdir(parents=True)
    other.write_text("")
    for name, owner in {"own": 1000, "d/own": 1000, "roots": 0}.items():
        (home / name).write_text("")
        os.chown(home / name, owner, owner)
    (home / "link").symlink_to(other)
    for each in (home, home / "d"):
        os.chown(each, 1000, 1000)
    os.chown(home / "link", 1000, 1000, follow_symlinks=False)
    places.claim_home(home, 4321, 4321)
    owners = {str(each.relative_to(home)): each.lstat().st_uid for each in [home, *home.rglob("*")]}
    assert owners == {".": 4321, "d": 4321, "own": 4321, "d/own": 4321, "roots": 0, "link": 4321}
    assert other.stat().st_uid == 0
