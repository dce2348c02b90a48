"""What git only marked as still used is told from what somebody changed, by content."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from git_sandbox.guest.objects import only_marked
from support.gitrepo import GitRepo


@pytest.fixture(params=["sha1", "sha256"])
def split(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A repository with a split index, and the name of the shared part."""
    made = GitRepo.create(tmp_path / "repo", object_format=request.param)
    made.commit("one", {"a": "1\n"})
    made.git("update-index", "--split-index")
    (shared,) = (made.path / ".git").glob("sharedindex.*")
    os.utime(shared)
    return made.path, f".git/{shared.name}"


def marked(repo: Path, name: str) -> bool:
    return os.fsencode(name) in only_marked(repo, [".git"], [os.fsencode(name)], time.time_ns())


def test_the_shared_part_of_a_split_index_is_marked_when_it_is_read(split: tuple[Path, str]) -> None:
    assert marked(*split)


@pytest.mark.parametrize("change", ["content", "end", "mode", "link", "name"])
def test_what_somebody_changed_is_not_marked(split: tuple[Path, str], change: str) -> None:
    repo, name = split
    file = repo / name
    match change:
        case "content":
            file.write_bytes(file.read_bytes().replace(b"DIRC", b"DIRK"))
        case "end":
            file.write_bytes(file.read_bytes() + b"more")
        case "mode":
            file.chmod(0o755)
        case "link":
            (repo / "other").hardlink_to(file)
        case "name":
            name = ".git/sharedindex." + "0" * len(file.suffix[1:])
            file.rename(repo / name)
    assert not marked(repo, name)
    assert not only_marked(repo, [".git"], [os.fsencode(name)], 1), "it is younger than the start"
