"""`sandbox ls`: what its columns say, and what it costs."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from git_sandbox import process, store
from git_sandbox.cli import columns, ls
from git_sandbox.cli.main import main
from git_sandbox.errors import Interrupted
from git_sandbox.git.repo import discover
from git_sandbox.integrate import overview as questions
from git_sandbox.sandbox import listing, uncommitted
from git_sandbox.sandbox.lookup import base_of
from support.fabricated import spawn, worked
from support.gitrepo import GitRepo


@pytest.fixture(autouse=True)
def _inside(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo.path)


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["ls", "--json"]) == 0
    return {row["id"]: row for row in json.loads(capsys.readouterr().out)["data"]}


def test_nothing_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    assert "No sandboxes" in capsys.readouterr().out


def test_ahead_moved_and_merged(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    one = worked(repo, "one", {"a": "1\n"})
    one.work("again", {"b": "1\n"})
    one.home()
    spawn(repo, "idle").home()
    assert listed(capsys)["one"]["moved"] is False
    repo.git("merge", "-q", "--ff-only", "refs/sandbox/one")
    worked(repo, "later", {"c": "1\n"})
    rows = listed(capsys)
    assert {name: row["ahead"] for name, row in rows.items()} == {"one": 2, "idle": 0, "later": 1}
    assert {name: row["moved"] for name, row in rows.items()} == {"one": True, "idle": True, "later": False}
    assert {name: row["merged"] for name, row in rows.items()} == {"one": True, "idle": True, "later": False}
    assert main(["ls"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines()] == ["ID", "one", "idle", "later"]
    assert f"main@{rows['one']['base'][:8]}+" in text


def test_commits_on_another_branch_or_tag_are_not_merged(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    box = spawn(repo, "one")
    box.guest.git("switch", "-q", "-c", "side")
    box.work("aside", {"a": "1\n"})
    box.guest.git("switch", "-q", "main")
    box.home()
    assert listed(capsys)["one"]["merged"] is False
    tip = repo.git("rev-parse", "refs/sandbox-heads/one/side")
    repo.git("branch", "kept", tip)
    assert listed(capsys)["one"]["merged"] is True
    spawn(repo, "two").home()
    repo.git("tag", "-a", "-m", "annotated", "v1", tip)
    repo.git("update-ref", "refs/sandbox-tags/two/v1", "refs/tags/v1")
    assert listed(capsys)["two"]["merged"] is True
    repo.git("tag", "-d", "v1")
    repo.git("branch", "-q", "-D", "kept")
    assert {name: row["merged"] for name, row in listed(capsys).items()} == {"one": False, "two": False}


def test_overlap_counts_files_of_unmerged_siblings(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "od\nd \x1b[31m"
    worked(repo, "one", {"a": "1\n", "b": "1\n", odd: "1\n"})
    worked(repo, "two", {"a": "2\n", odd: "2\n", "d": "2\n"})
    worked(repo, "three", {"e": "3\n"})
    rows = listed(capsys)
    assert {name: row["overlap"] for name, row in rows.items()} == {"one": {"two": 2}, "two": {"one": 2}, "three": {}}
    assert main(["ls"]) == 0
    assert "two (2)" in capsys.readouterr().out
    repo.git("merge", "-q", "--ff-only", "refs/sandbox/two")
    assert listed(capsys)["one"]["overlap"] == {}


def test_uncommitted_says_what_drop_goes_by(repo: GitRepo) -> None:
    repo.write("mine", "dirty when it started\n")
    untouched = worked(repo, "untouched", {"a": "1\n"})
    edited = spawn(repo, "edited")
    edited.guest.write("b", "new\n")
    edited.home()
    stored = spawn(repo, "stored")
    stored.guest.write("c", "new\n")
    wip = stored.home().collected.wip
    repo.git("branch", "kept", str(wip))
    boxes = {"untouched": untouched, "edited": edited, "stored": stored}
    rows = {row.id: row for row in listing.rows(edited.repo)}
    refs = {name: box.repo.refs("refs/sandbox", "refs/sandbox-wip") for name, box in boxes.items()}
    expected = {
        name: uncommitted.lost(
            box.repo, base_of(box.repo, box.record), refs[name].get(box.refs.head), refs[name].get(box.refs.wip)
        )
        for name, box in boxes.items()
    }
    assert {name: row.uncommitted for name, row in rows.items()} == expected
    assert expected == {"untouched": False, "edited": True, "stored": False}
    assert rows["edited"].merged is False


def test_an_unborn_repository(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = GitRepo.create(tmp_path_factory.mktemp("unborn") / "repo")
    monkeypatch.chdir(fresh.path)
    box = worked(fresh, "one", {"a": "1\n"})
    row = listing.rows(box.repo)[0]
    assert (row.base, row.ahead, row.moved, row.merged) == (None, 1, False, False)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    calls: list[tuple[str, ...]] = []
    real: Callable[..., Any] = process.run

    def run(argv: tuple[str, ...], **options: Any) -> Any:
        calls.append(tuple(argv))
        return real(argv, **options)

    monkeypatch.setattr(process, "run", run)
    return calls


def test_the_number_of_processes_does_not_grow(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    box = worked(repo, "box-0", {"a": "1\n"})
    found = box.repo
    with monkeypatch.context() as patch:
        few = counted(patch)
        listing.rows(found)
    for number in range(1, 5):
        worked(repo, f"box-{number}", {"a": f"{number}\n"})
    with monkeypatch.context() as patch:
        many = counted(patch)
        assert len(listing.rows(found)) == 5
    assert len(many) == len(few) <= 5
    for entry in store.entries(found):
        shutil.rmtree(entry.directory.root)
    with monkeypatch.context() as patch:
        only_refs = counted(patch)
        assert {row.base for row in listing.rows(found)} == {box.record.base}
    assert len(only_refs) <= len(few) + 2  # the records in the refs, and the branches that those name


def test_watch_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--watch"]) == 2
    assert "terminal" in capsys.readouterr().err


def test_watch_shows_until_interrupted(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worked(repo, "one", {"a": "1\n"})
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            worked(repo, "two", {"a": "2\n"})
        else:
            raise Interrupted(signal.SIGINT)

    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(ls, "time", SimpleNamespace(sleep=sleep))  # subprocess sleeps, too
    assert main(["ls", "--watch"]) == 0
    first, second = capsys.readouterr().out.split("ID ")[1:]
    assert slept == [ls.EVERY, ls.EVERY]
    assert "two" not in first
    assert "two (1)" in second


def test_more_commits_than_are_looked_at(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vm-1", "vm-2"):
        made = spawn(repo, name)
        for number in range(4):
            made.work(f"{name} {number}", {f"{name}-{number}": "1\n"})
        made.home()
    monkeypatch.setattr(questions, "MAX_COMMITS", 3)
    rows = listing.rows(discover(repo.path))
    assert [row.merged for row in rows] == [False, False]
    assert [row.ahead for row in rows] == [4, 4]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("make", "test"), "make test"),
        (("sh", "-c", "echo it's"), 'sh -c "echo it\'s"'),
        (("echo", "a b"), "echo 'a b'"),
        (("echo", "it's $x"), "echo " + shlex.quote("it's $x")),
        (("echo", ""), "echo ''"),
    ],
)
def test_a_command_is_shown_as_somebody_would_type_it(words: tuple[str, ...], shown: str) -> None:
    assert columns.command_line(words) == shown
    assert shlex.split(columns.command_line(words)) == list(words)
