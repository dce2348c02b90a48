"""Any state that git commands can bring about is the same in the copy, and what is made in it comes home."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox.git import snapshot
from git_sandbox.git.repo import discover
from support.captured import differences, take
from support.examples import examples
from support.gitrepo import GitRepo
from support.guest import Host, export
from support.states import KINDS, STEPS, Step, act, start


@settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(KINDS), STEPS)
def test_every_reachable_state_is_the_same_in_the_copy(kind: str, steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        repo = start(Path(directory), kind)
        for verb, arguments in steps:
            act(repo, verb, arguments)
        copy, captured = take(repo, Path(directory) / "copy")
        different = differences(repo, copy)
        # What git refuses on the host, because of its configuration, is named and comes without that.
        refused = [text for text in different if text.startswith("nested: refused: ")]
        assert [text for text in different if text not in refused] == []
        assert any("refused/.git/config" in text for text in captured.warnings) is bool(refused)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(KINDS), STEPS, STEPS)
def test_everything_made_in_a_copy_comes_home(kind: str, before: list[Step], after: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        repo = start(place, kind)
        for verb, arguments in before:
            act(repo, verb, arguments)
        given_refs = repo.refs()
        guest, _ = take(repo, place / "guest")
        for verb, arguments in after:
            act(guest, verb, arguments)
        done = Host(repo, place / "quarantine").bring_home(guest, given=given_refs)
        assert done.head == (discover(guest.path).head().commit)
        assert missing(repo, guest) == []
        assert (done.wip is None) is clean(guest, place)
        if done.wip is not None:
            assert repo.git("rev-parse", f"{done.wip}^{{tree}}") == worktree(guest, place)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(KINDS), STEPS)
def test_the_tree_of_a_worktree_that_nobody_touched_is_the_snapshot(kind: str, steps: list[Step]) -> None:
    """Made by the host of the source, and by the guest of its copy."""
    with tempfile.TemporaryDirectory() as directory:
        repo = start(Path(directory), kind)
        for verb, arguments in steps:
            act(repo, verb, arguments)
        guest, _ = take(repo, Path(directory) / "guest")
        told = export(guest, object_format="sha256" if kind == "sha256" else "sha1").manifest
        found = discover(repo.path)
        with tempfile.TemporaryDirectory() as scratch:
            taken = snapshot.take(found.git, found.git_dir / "index", Path(scratch))
        assert told.worktree_tree == taken.tree
        assert told.wip is None or told.wip.index_tree == taken.index_tree


def missing(host: GitRepo, guest: GitRepo) -> list[str]:
    """Commits that some ref, stash or HEAD of the guest's leads to and the host has not got."""
    stashes = guest.run("rev-list", "-g", "refs/stash").stdout.decode().split()
    head = discover(guest.path).head().commit
    tips = [*stashes, *([head] if head else [])]
    listed = guest.git("rev-list", "--branches", "--tags", "--glob=refs/notes", "--glob=refs/mine", *tips).split()
    asked = "".join(f"{name}\n" for name in listed).encode()
    rows = host.git("cat-file", "--batch-check", input=asked).splitlines()
    return [row for row in rows if row.endswith("missing")]


def worktree(guest: GitRepo, place: Path) -> str:
    found = discover(guest.path)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        return snapshot.take(found.git, found.git_dir / "index", Path(scratch)).tree


def clean(guest: GitRepo, place: Path) -> bool:
    """Nothing uncommitted: worktree and index are as HEAD is."""
    found = discover(guest.path)
    head = found.head().commit
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        taken = snapshot.take(found.git, found.git_dir / "index", Path(scratch))
    empty = guest.git("hash-object", "-t", "tree", "--stdin", input=b"")
    tree = guest.git("rev-parse", f"{head}^{{tree}}") if head else empty
    return taken.tree == taken.index_tree == tree
