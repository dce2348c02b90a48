"""Where a guest's refs lead to what the user's repository has already, git only moves refs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from git_sandbox.collect.delivery import Delivery
from git_sandbox.errors import CollectError
from git_sandbox.git.names import Oid, RefName
from git_sandbox.git.repo import discover
from support.gitrepo import GitRepo
from support.guest import Host
from support.hostile import says

OURS = RefName("refs/sandbox/vm-1")


def test_no_fetch_is_started_for_what_is_here(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Delivery, "run", lambda _self: pytest.fail("fetch"))
    host, one = Host(repo, tmp_path / "quarantine"), repo.git("rev-parse", "HEAD")
    repo.git("commit", "-q", "--allow-empty", "-m", "two")
    two = repo.git("rev-parse", "HEAD")
    for head in (one, two, one):
        done = host.take(says(head), b"")
        assert (done.head, repo.git("rev-parse", OURS)) == (head, head)
    log = repo.git("reflog", "show", "--format=%H %gs", OURS).splitlines()
    assert log == [f"{each} sandbox: brought home" for each in (one, two, one)]
    assert host.take(says(one), b"").updated == {}


def moved(repo: GitRepo, tmp_path: Path, targets: Mapping[RefName, Oid], existing: Mapping[RefName, Oid]) -> None:
    Delivery(discover(repo.path), tmp_path, targets, 1 << 20, 60.0).point(existing)


def test_all_refs_move_or_none(repo: GitRepo, tmp_path: Path) -> None:
    one = Oid(repo.git("rev-parse", "HEAD"))
    other = RefName("refs/sandbox-heads/vm-1/main")
    for targets, existing in (
        ({OURS: one, RefName(f"{OURS}/below"): one}, {}),  # of which git can have one only
        ({OURS: one, other: one}, {other: Oid("1" * 40)}),  # somebody else has moved it meanwhile
        ({OURS: one, other: Oid("1" * 40)}, {}),  # an object that is not there
    ):
        with pytest.raises(CollectError, match="could not be stored"):
            moved(repo, tmp_path, targets, existing)
        assert repo.git("for-each-ref", "refs/sandbox", "refs/sandbox-heads") == ""
    moved(repo, tmp_path, {OURS: one, other: one}, {})
    assert repo.git("rev-parse", OURS, other).split() == [one, one]
