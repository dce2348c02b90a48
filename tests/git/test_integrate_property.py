"""Random edits on both sides: a merge does everything or nothing, and never eats an edit of the user's."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.errors import IntegrateError
from git_sandbox.integrate.modes import Mode
from git_sandbox.integrate.plan import plan
from git_sandbox.integrate.undo import undo
from support.examples import examples
from support.gitrepo import GitRepo
from support.sandboxed import ID, Trip, everything, files

NAMES = ("a", "b", "d/x", "d/y", "d", "n", "n/m", "i.log", "l")
CONTENTS = ("1\n2\n3\n4\n5\n6\n7\n", "one\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\n4\n5\n6\nseven\n", "other\n", "")
ACTIONS = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(NAMES), st.sampled_from(CONTENTS)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("exec"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("link"), st.sampled_from(NAMES), st.sampled_from(("a", "d", "nowhere"))),
    st.tuples(st.just("stage"), st.sampled_from(NAMES), st.just("")),
    st.tuples(st.just("commit"), st.just(""), st.just("")),
)
EDITS = st.lists(ACTIONS, max_size=5)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def act(repo: GitRepo, action: tuple[str, str, str]) -> None:
    verb, name, value = action
    path = repo.path / name
    with contextlib.suppress(OSError):
        if verb == "write":
            if path.is_dir() or path.is_symlink():
                remove(path)
            repo.write(name, value)
        elif verb == "remove":
            remove(path)
        elif verb == "exec":
            path.chmod(0o755)
        elif verb == "link":
            remove(path)
            path.symlink_to(value)
    if verb == "stage":
        repo.run("add", "-A", "--force", "--", name)
    elif verb == "commit":
        repo.git("commit", "-q", "--allow-empty", "-m", "some")


def start(place: Path, before: list[tuple[str, str, str]]) -> Trip:
    host = GitRepo.create(place / "host")
    host.commit("first", {"a": CONTENTS[0], "b": CONTENTS[0], "d/x": CONTENTS[0], ".gitignore": "*.log\n"})
    for action in before:
        act(host, action)
    return Trip.spawn(host)


@settings(max_examples=examples(25), deadline=None)
@given(
    before=EDITS,
    inside=EDITS,
    late=EDITS,
    whole=st.booleans(),
    mode=st.sampled_from([Mode.FF_OR_MERGE, Mode.SQUASH, Mode.REBASE]),
)
def test_all_or_nothing(
    before: list[tuple[str, str, str]],
    inside: list[tuple[str, str, str]],
    late: list[tuple[str, str, str]],
    mode: Mode,
    *,
    whole: bool,
) -> None:
    with tempfile.TemporaryDirectory() as place:
        trip = start(Path(place), before)
        host, guest = trip.host, trip.guest
        for action in inside:
            act(guest, action)
        if whole:
            guest.git("add", "-A")
        guest.git("commit", "-q", "--allow-empty", "-m", "agent")
        for action in late:
            act(host, action)
        check(trip, mode)


def check(trip: Trip, mode: Mode) -> None:
    host, target = trip.host, trip.home()
    entries, split = host.git("ls-files", "-s"), host.git("diff", "--raw")  # diff refreshes the index
    was, had, head = everything(host), files(host.path), host.git("rev-parse", "HEAD")
    possible = plan_says(trip, mode)
    assert everything(host) == was
    try:
        merged = trip.merge(mode)
    except IntegrateError:
        assert not possible
        assert everything(host) == was
        return
    assert possible
    if mode is Mode.FF_OR_MERGE:
        host.git("merge-base", "--is-ancestor", target, "HEAD")
    touched = set(host.git("diff", "--name-only", "--no-renames", head, "HEAD").splitlines())
    assert set(merged.changed) == touched
    now = files(host.path)
    assert {name: state for name, state in now.items() if name not in touched} == {
        name: state for name, state in had.items() if name not in touched
    }
    # What differs from the new HEAD is what differed before, or a late edit that was merged by content.
    dirty = set(host.git("diff", "--name-only", "--no-renames").splitlines())
    assert dirty & touched == set(merged.late) & dirty
    if merged.backup is None:
        return
    undo(trip.repo, ID)
    assert files(host.path) == had
    assert (host.git("ls-files", "-s"), host.git("diff", "--raw")) == (entries, split)
    assert host.git("rev-parse", "HEAD") == head


def plan_says(trip: Trip, mode: Mode) -> bool:
    try:
        return plan(trip.repo, trip.base, trip.request(mode)).possible
    except IntegrateError:
        return False
