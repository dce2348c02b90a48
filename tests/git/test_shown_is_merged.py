"""What is shown is what is merged: the patch, applied to HEAD, gives the tree that the merge makes."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox.cli.main import main
from git_sandbox.errors import IntegrateError
from git_sandbox.integrate.merge import merge
from git_sandbox.integrate.modes import Mode, Request
from git_sandbox.integrate.preview import preview
from git_sandbox.integrate.review import diff_argv
from support.examples import examples
from support.fabricated import worked
from support.gitrepo import GitRepo
from support.sandboxed import ID, Trip

NAMES = ("a", "b", "dir/c", "dir/d", "späß e")
FILES = st.dictionaries(st.sampled_from(NAMES), st.one_of(st.none(), st.text("xyz\n", max_size=12)), max_size=4)
STEPS = st.lists(FILES, min_size=1, max_size=3)


def change(repo: GitRepo, files: dict[str, str | None], message: str) -> None:
    for name, content in files.items():
        if content is None:
            (repo.path / name).unlink(missing_ok=True)
        else:
            repo.write(name, content)
    repo.git("add", "-A")
    repo.git("commit", "-q", "--allow-empty", "-m", message)


@settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
@given(start=FILES, inside=STEPS, outside=STEPS | st.just([]), mode=st.sampled_from(list(Mode)))
def test_the_shown_patch_gives_the_merged_tree(
    start: dict[str, str | None], inside: list[dict[str, str | None]], outside: list[dict[str, str | None]], mode: Mode
) -> None:
    with tempfile.TemporaryDirectory() as place:
        repo = GitRepo.create(Path(place) / "repo")
        change(repo, start, "start")
        trip = Trip.spawn(repo)
        for number, step in enumerate(inside):
            change(trip.guest, step, f"inside {number}")
        for number, step in enumerate(outside):
            change(repo, step, f"outside {number}")
        tip = trip.home()
        request = Request(ID, tip, mode, (tip,) if mode is Mode.PICK else ())
        refused = contextlib.suppress(IntegrateError) if mode in (Mode.FF_ONLY, Mode.PICK) else contextlib.nullcontext()
        with refused, preview(trip.repo, trip.base, request) as seen:
            patch = seen.git.run(*diff_argv(seen.before, seen.after))
            assert seen.before == repo.git("rev-parse", "HEAD^{tree}")
            _same(repo, trip, request, patch, conflicts=bool(seen.conflicts))


def _same(repo: GitRepo, trip: Trip, request: Request, patch: bytes, *, conflicts: bool) -> None:
    if conflicts:
        with pytest.raises(IntegrateError):
            merge(trip.repo, trip.base, request)
        return
    if patch:
        repo.git("apply", "--cached", "-", input=patch)
    shown = repo.git("write-tree")
    repo.git("reset", "-q", "--hard")
    merge(trip.repo, trip.base, request)
    assert repo.git("rev-parse", "HEAD^{tree}") == shown


def test_what_diff_prints_is_that_patch(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(repo.path)
    worked(repo, "vm-1", {"a": "1\n", "b c": "2\n"})
    repo.commit("host", {"z": "1\n"})
    assert main(["diff", "vm-1"]) == 0
    patch = capfdbinary.readouterr().out
    repo.git("apply", "--cached", "-", input=patch)
    shown = repo.git("write-tree")
    repo.git("reset", "-q", "--hard")
    assert main(["merge", "vm-1"]) == 0
    assert repo.git("rev-parse", "HEAD^{tree}") == shown
