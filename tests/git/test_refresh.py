"""An index that was copied believes its files' stamps in full afterwards, and is otherwise as it was."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from git_sandbox.guest.refresh import entries, refresh
from support.gitrepo import GitRepo

LONG = "n" * 300


@pytest.fixture(params=["2", "3", "4", "sha256"])
def guest(request: pytest.FixtureRequest, tmp_path: Path) -> GitRepo:
    """A copy whose files keep size and time, but no inode."""
    kind = request.param
    repo = GitRepo.create(tmp_path / "repo", object_format="sha256" if kind == "sha256" else "sha1")
    for key, value in (("user.name", "T"), ("user.email", "t@example.com")):
        repo.git("config", key, value)
    names = ["a", "dir/b", "dir/bc", "v", LONG[:240], f"{LONG[:200]}/{LONG[:200]}/x", "é"]
    repo.commit("all", dict.fromkeys(names, "aaaa"))
    for name in names:
        os.utime(repo.path / name, (1577836800, 1577836800))
    repo.git("add", "-A")
    repo.git("update-index", "--refresh")
    if kind == "3":
        repo.write("later", "l")
        repo.git("add", "-N", "later")
    if kind == "4":
        repo.git("update-index", "--index-version", "4")
    repo.git("update-index", "--assume-unchanged", "a")
    return repo.clone_files(tmp_path / "guest")


def seen(guest: GitRepo) -> str:
    return guest.git("-c", "core.checkStat=default", "-c", "core.trustctime=true", "status", "--porcelain")


def stamped(guest: GitRepo) -> dict[str, list[str]]:
    """What the index remembers of each file's stamps."""
    rows = guest.git("ls-files", "--debug").split("\n")
    found: dict[str, list[str]] = {}
    for row in rows:
        if not row.startswith("  "):
            name = row
        else:
            found.setdefault(name, []).append(row.strip())
    return found


def test_an_edit_of_the_same_size_and_time_is_seen(guest: GitRepo) -> None:
    listed = guest.git("ls-files", "-s", "-v"), guest.git("write-tree") if not (guest.path / "later").exists() else ""
    clean = seen_cheaply(guest)
    stamp = (guest.path / ".git/index").stat().st_mtime_ns
    assert refresh(guest.path, time.time_ns())
    assert (guest.path / ".git/index").stat().st_mtime_ns == stamp
    assert guest.git("ls-files", "-s", "-v") == listed[0]
    assert stamped(guest)["dir/b"][2].split()[3] == str((guest.path / "dir/b").stat().st_ino & 0xFFFFFFFF)
    assert seen(guest) == clean
    later(guest.path / "v")
    (guest.path / "v").write_bytes(b"bbbb")
    os.utime(guest.path / "v", (1577836800, 1577836800))
    assert seen_cheaply(guest) == clean, "else this test would prove nothing"
    assert " M v" in seen(guest).splitlines()


def later(path: Path) -> None:
    """Git as it is built by most compares whole seconds."""
    while int(time.time()) <= int(path.stat().st_ctime):
        time.sleep(0.05)


def seen_cheaply(guest: GitRepo) -> str:
    """As with the setting that a copy needs; the index is not written."""
    return guest.git(
        "--no-optional-locks", "-c", "core.checkStat=minimal", "-c", "core.trustctime=false", "status", "--porcelain"
    )


def test_what_was_touched_since_the_start_is_read_again(guest: GitRepo) -> None:
    since = time.time_ns()
    later(guest.path / "v")
    while (guest.path / "v").stat().st_ctime_ns <= since:
        (guest.path / "v").write_bytes(b"bbbb")
        os.utime(guest.path / "v", (1577836800, 1577836800))
    assert refresh(guest.path, since)
    assert " M v" in seen(guest).splitlines()


def test_an_index_somebody_works_on_and_one_that_is_damaged_are_left_alone(guest: GitRepo) -> None:
    index = guest.path / ".git/index"
    before = index.read_bytes()
    assert entries(index) >= 7
    guest.write(".git/index.lock", "")
    assert not refresh(guest.path, time.time_ns())
    assert index.read_bytes() == before
    assert (guest.path / ".git/index.lock").exists()
    index.write_bytes(bytes(400))
    assert (entries(index), refresh(guest.path, time.time_ns())) == (0, False)
