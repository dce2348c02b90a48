from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_sandbox.workspace import disk_usage
from git_sandbox.workspace.disk_usage import Census


def test_bytes_and_inodes_are_those_of_ext4(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "empty").touch()
    (tree / "one").write_bytes(b"x")
    (tree / "two").write_bytes(b"x" * 4097)
    os.link(tree / "two", tree / "d" / "twin")
    (tree / "short").symlink_to("x" * 59)
    (tree / "long").symlink_to("x" * 60)
    os.mkfifo(tree / "pipe")
    with (tree / "holes").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 29)
        file.write(b"data")
    census = Census()
    census.walk(tree)
    assert census.inodes == 9  # tree, d, empty, one, two with its twin, short, long, pipe, holes
    assert census.bytes == 4096 * (2 + 1 + 2 + 1 + 1)
    assert (census.unreadable, census.devices, census.mounts) == ([], [], [])


def test_unwanted_directories_are_not_entered(tmp_path: Path) -> None:
    for name in ("a/b/c", "x/y"):
        (tmp_path / name).mkdir(parents=True)
    heard: list[str] = []

    def wanted(path: str, _seen: os.stat_result) -> bool:
        heard.append(path)
        return path != "a"

    census = Census()
    census.walk(tmp_path, counts=wanted)
    assert heard == ["a", "x", "x/y"]
    assert census.inodes == 3


def test_a_missing_start_counts_nothing(tmp_path: Path) -> None:
    census = Census()
    census.walk(tmp_path, "gone")
    assert census.inodes == 0


def test_what_is_removed_and_made_again_while_it_is_looked_at_is_not_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "busy"
    place.mkdir()
    seen = place.lstat()
    real = os.access

    def between(path: str, mode: int, *, effective_ids: bool) -> bool:
        """It is gone when it is asked for, and there again a moment later."""
        monkeypatch.setattr(os, "access", real)
        place.rmdir()
        gone = real(path, mode, effective_ids=effective_ids)
        place.mkdir()
        return gone

    monkeypatch.setattr(os, "access", between)
    assert disk_usage.readable(str(place), seen)
