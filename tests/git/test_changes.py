"""Whether a session changed anything: the guest's own search on a real overlay, against a walk of both trees."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from git_sandbox.guest import changes, indexfile, sorting, start, walk
from support import states
from support.examples import examples
from support.gitrepo import GitRepo
from support.guest import export
from support.sessions import CHANGES, READS, Step, act, clean, differing, world
from support.states import STEPS

pytestmark = pytest.mark.skipif(
    os.getuid() != 0, reason="only root mounts an overlay, and looks as root in a guest does"
)


@settings(max_examples=examples(25))
@given(steps=st.lists(CHANGES, min_size=1, max_size=4), share=st.booleans())
@example(steps=[("same size and time", "w/same")], share=False)
@example(steps=[("append", "w/README")], share=False)
@example(steps=[("append", "w/private/key")], share=False)
@example(steps=[("remove", "w/out/result")], share=False)
@example(steps=[("mapped", "w/out/result")], share=False)
@example(steps=[("grow", "w/.git/index")], share=False)
@example(steps=[("chmod", "w/.git/index"), ("git", "add -A")], share=False)
@example(steps=[("rmdir", "s/srv")], share=False)
@example(steps=[("exchange", "s/opt")], share=False)
@example(steps=[("chmod", "s/opt")], share=False)
def test_no_difference_is_ever_missed(steps: list[Step], share: bool) -> None:
    with tempfile.TemporaryDirectory() as place, world(Path(place), share=share) as made:
        before = made.look()
        for step in steps:
            act(made, step)
        different = differing(before, made.look())
        found = made.inspect()
        assert found.state == "changed" or not different, (different, found)
        if different:
            assert made.inspect().state == "changed", "the search itself hid it"


@settings(max_examples=examples(12))
@given(steps=st.lists(READS, max_size=6), share=st.booleans())
def test_who_only_looks_changes_nothing(steps: list[Step], share: bool) -> None:
    with tempfile.TemporaryDirectory() as place, world(Path(place), share=share) as made:
        for step in steps:
            act(made, step)
        found = made.inspect()
        assert (found.state, found.kinds) == ("unchanged", {kind: [] for kind in found.kinds}), found


@pytest.mark.parametrize(
    ("path", "kind"),
    [("w/out/result", "ignored"), ("w/vendor/in/f", "nested"), ("w/.git/config", "git"), ("w/dir/b", "uncommitted")]
    + [(f"s/{path}", "outside") for path in ("etc/conf", "home/other/f", "var/lib/db", "home/user/.profile")],
)
def test_a_change_is_counted_where_it_is(path: str, kind: str) -> None:
    for verb in ("append", "remove"):
        with tempfile.TemporaryDirectory() as place, world(Path(place)) as made:
            act(made, (verb, path))
            told = made.inspect().as_dict()["changes"]
            counts = {each: told[each]["count"] for each in sorting.KINDS if told[each]["count"]}
            assert counts == {kind: 1}, told


def test_the_exporter_itself_changes_nothing() -> None:
    """What came home once, for a sync, is not taken for a change at the end."""
    with tempfile.TemporaryDirectory() as place, world(Path(place), clean) as made:
        store = made.repo.path / ".git/objects"
        for each in (*store.glob("??/*"), *store.glob("pack/*.pack")):
            os.utime(each)  # as git marks those that it would have written
        export(made.repo)
        export(made.repo)
        assert made.inspect().state == "unchanged", made.inspect()


def test_a_later_session_and_a_copy_of_the_disk_remember() -> None:
    """What init writes at later boots is no change, and hides none."""
    with tempfile.TemporaryDirectory() as place, world(Path(place)) as made:
        made.boot()
        made.boot()
        assert made.inspect().state == "unchanged", made.inspect()
        act(made, ("append", "s/etc/hostname"))  # init writes that one at every boot
        act(made, ("append", "w/out/result"))
        for _ in range(2):
            made.boot()
            found = made.inspect()
            assert found.kinds["outside"] == [b"/etc/hostname"]
            assert found.kinds["ignored"] == [b"out/result"]


def test_what_is_not_known_is_said() -> None:
    with tempfile.TemporaryDirectory() as place, world(Path(place)) as made:
        start.distrust(made.disk)
        told = made.inspect().as_dict()["changes"]
        assert (told["state"], told["reason"]) == ("unknown", "the clock was set")
    with tempfile.TemporaryDirectory() as place, world(Path(place)) as made:
        (made.disk / "start/record.json").write_text("{}")
        assert made.inspect().state == "unknown"
        (made.disk / "start/record.json").unlink()
        assert made.inspect().state == "unknown"


def test_a_disk_with_errors_or_that_cannot_be_written_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def readonly(_place: Path) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with tempfile.TemporaryDirectory() as place, world(Path(place)) as made:
        monkeypatch.setattr(changes, "damaged", lambda _disk: True)
        assert made.inspect().state == "unknown"
        monkeypatch.undo()
        monkeypatch.setattr(start, "now", readonly)
        found = made.inspect()
        assert (found.state, found.problems) == ("unknown", ["the disk cannot be written (Read-only file system)"])


def test_a_share_whose_clock_went_back_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as place, world(Path(place), share=True) as made:
        boot, present = start.watch()
        monkeypatch.setattr(start, "watch", lambda: (boot, present + 60_000_000_000))
        assert made.inspect().state == "unknown"


def test_a_boot_that_was_cut_off_is_begun_again_and_a_used_disk_is_not() -> None:
    with tempfile.TemporaryDirectory() as place, world(Path(place)) as made:
        (made.disk / "start/record.json").unlink()  # cut off before the end: nothing of the user's ran
        made.boot()
        assert made.inspect().state == "unchanged"
        shutil.rmtree(made.disk / "start")  # a disk of a version that did not write it
        made.boot()
        assert made.inspect().state == "unknown"


def test_what_cannot_be_read_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """`find` says less about it, so then the tree is walked once more, with the same outcome otherwise."""
    with tempfile.TemporaryDirectory() as place, world(Path(place)) as made:
        act(made, ("append", "w/out/result"))
        with_find = made.inspect()
        monkeypatch.setattr(walk, "FIND", "/nowhere/find")
        without = made.inspect()
        assert without.kinds == with_find.kinds
        assert without.problems == with_find.problems == []
        entries = walk._entries

        def failing(root: bytes, place: bytes) -> Iterator[tuple[bytes, bool]]:
            return entries(root, b"nowhere" if place == b"dir" else place)

        monkeypatch.setattr(walk, "_entries", failing)
        found = made.inspect()
        assert found.problems == ["cannot look at dir: No such file or directory"]
        assert found.files is None


@given(STEPS, st.integers(0, 3))
@settings(max_examples=examples(15))
def test_an_index_is_the_same_exactly_when_git_says_so(steps: list[states.Step], at: int) -> None:
    """Of any repository, in every version of the format, after any command."""
    with tempfile.TemporaryDirectory() as place:
        repo = GitRepo.create(Path(place, "r"))
        repo.commit("base", {"a": "1\n", "dir/c": "2\n", "dir/d": "3\n"})
        indexes: list[tuple[Path, bytes | None]] = []
        for verb, arguments in steps:
            states.act(repo, verb, arguments)
            repo.run("update-index", f"--index-version={(2, 3, 4, 4)[at]}")
            index = repo.path / ".git/index"
            kept = Path(place, f"{len(indexes)}")
            shutil.copy(index, kept) if index.exists() else kept.touch()
            split = b"link" in kept.read_bytes()
            indexes.append(
                (kept, None if split or not index.exists() else repo.run("ls-files", "-s", "-v", "-z").stdout)
            )
        for (one, said), (other, also) in itertools.pairwise(indexes):
            if said is not None and also is not None:
                assert indexfile.same(one, other) == (said == also)


def test_a_refreshed_index_of_a_linked_worktree_is_no_change(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "system/upper").mkdir(parents=True)
    repo = GitRepo.create(disk / "repo")
    repo.commit("first", {"a": "1\n"})
    repo.git("worktree", "add", "-q", "wt")
    os.utime(repo.path / "wt/a", (1_000_000_000, 1_000_000_000))
    start.complete(start.begin(disk), {"worktrees": {"wt": [None, None, None]}}, disk, repo.path)
    began = start.load(disk)
    repo.git("-C", "wt", "status")
    index = b".git/worktrees/wt/index"
    seen = walk.touched(os.fsencode(repo.path), began.disk)
    assert index in seen.others, "git refreshed it"
    assert changes._inside(began, seen, disk, repo.path) == []
    repo.git("-C", "wt", "add", "a")
    (repo.path / "wt/b").write_text("new\n")
    repo.git("-C", "wt", "add", "b")
    seen = walk.touched(os.fsencode(repo.path), began.disk)
    assert index in changes._inside(began, seen, disk, repo.path)
