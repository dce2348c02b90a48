"""`sandbox diff` and `sandbox log` as typed: what they compare, where it goes, and that guest text stays text."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from git_sandbox.cli import pager
from git_sandbox.cli.main import main
from support.fabricated import Sandbox, spawn, worked
from support.gitrepo import GitRepo

HOSTILE = "\x1b]0;owned\x07"


@pytest.fixture(autouse=True)
def _inside(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo.path)
    for name in ("GIT_PAGER", "PAGER", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def box(repo: GitRepo) -> Sandbox:
    repo.write("mine", "dirty when it started\n")
    made = worked(repo, "vm-1", {"src/a": f"{HOSTILE}\n", "docs/b": "1\n"})
    made.guest.write("left", "uncommitted\n")
    made.home()
    return made


def shown(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main([*words]) == 0
    return capsys.readouterr().out


def names(*words: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    return shown("diff", "--name-only", *words, capsys=capsys).splitlines()


@pytest.mark.usefixtures("box")
def test_what_is_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert names("vm-1", capsys=capsys) == ["docs/b", "src/a"]
    assert names("vm-1", "--from-start", capsys=capsys) == ["docs/b", "left", "src/a"]
    assert names("vm-1", "--from-base", capsys=capsys) == ["docs/b", "src/a"]
    assert names("vm-1", "--wip", capsys=capsys) == ["left", "mine"]
    assert "2 files changed" in shown("diff", "--stat", "--from-base", "vm-1", capsys=capsys)


@pytest.mark.usefixtures("box")
def test_paths(repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert names("vm-1", "--", "src", "docs/b", capsys=capsys) == ["docs/b", "src/a"]
    assert names("vm-1", "--", "*", capsys=capsys) == []  # a name, not a pattern
    assert names("vm-1", "--", "--stat", capsys=capsys) == []
    (repo.path / "src").mkdir()
    monkeypatch.chdir(repo.path / "src")
    assert names("vm-1", "--", "a", capsys=capsys) == ["src/a"]
    assert names("vm-1", "--", ".", "../left", capsys=capsys) == ["src/a"]
    assert names("vm-1", "--from-start", "--", ".", "../left", capsys=capsys) == ["left", "src/a"]


@pytest.mark.usefixtures("box")
def test_colours_are_ours_and_only_where_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    plain = shown("diff", "vm-1", capsys=capsys)
    assert "\x1b" not in plain
    assert "+�]0;owned�" in plain
    vivid = shown("diff", "--color", "always", "vm-1", capsys=capsys)
    assert "\x1b[32m+�]0;owned�\x1b[0m" in vivid
    assert "\x1b]" not in vivid
    assert shown("diff", "--color", "never", "vm-1", capsys=capsys) == plain


@pytest.mark.usefixtures("box")
@pytest.mark.parametrize("winner", ["GIT_PAGER", "core.pager", "PAGER"])
def test_the_pager_is_the_one_git_would_use(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], winner: str
) -> None:
    order = ["GIT_PAGER", "core.pager", "PAGER"]
    for name in order[order.index(winner) :]:
        program = f"cat > '{tmp_path / name}'"
        if name == "core.pager":
            repo.git("config", name, program)
        else:
            monkeypatch.setenv(name, program)
    monkeypatch.setenv("TERM", "xterm")
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["diff", "vm-1"]) == 0
    assert capsys.readouterr().out == ""
    written = {name: (tmp_path / name).read_text() for name in order if (tmp_path / name).exists()}
    assert list(written) == [winner]
    assert "\x1b[32m+�]0;owned�" in written[winner]


@pytest.mark.usefixtures("box")
def test_a_pager_that_has_seen_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("GIT_PAGER", "exit 3")
    assert main(["diff", "vm-1"]) == 0


@pytest.mark.usefixtures("box")
def test_diff_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads(shown("diff", "--json", "--name-only", "vm-1", capsys=capsys))["data"]
    assert (data["diff"].splitlines(), data["uncommitted"]) == (["docs/b", "src/a"], "left")


@pytest.mark.parametrize("words", [["--wip", "--from-base"], ["--from-start", "--wip"], ["--stat", "--name-only"]])
@pytest.mark.usefixtures("box")
def test_diff_refuses_options_that_contradict_each_other(words: list[str]) -> None:
    assert main(["diff", "vm-1", *words]) == 2


def test_what_is_committed_and_taken_back_in_the_files_only_is_shown(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repo.commit("auth", {"auth.py": "return check()\n"})
    box = spawn(repo, "vm-1")
    box.work("docs", {"README": "1\n", "auth.py": "return True\n"})
    box.guest.write("auth.py", "return check()\n")
    box.home()
    repo.commit("host", {"mine": "1\n"})
    capsys.readouterr()
    assert main(["diff", "vm-1"]) == 0
    said = capsys.readouterr()
    assert "+return True" in said.out
    assert "mine" not in said.out
    assert "uncommitted" in said.err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("GIT_PAGER", "cat 1>&2; :")
    monkeypatch.setattr(pager, "show", print)
    assert main(["diff", "--color", "never", "vm-1"]) == 0
    merge, heading, rest = capsys.readouterr().out.partition("Uncommitted in sandbox vm-1, not part of a merge:")
    assert "+return True" in merge
    assert heading
    assert "-return True" in rest


def test_conflicts_and_histories_that_no_merge_joins(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    worked(repo, "apart", {"README": "sandbox\n"})
    other = spawn(repo, "other")
    other.guest.git("checkout", "-q", "--orphan", "fresh")
    other.work("root", {"c": "1\n"})
    other.home()
    repo.commit("host", {"README": "host\n"})
    capsys.readouterr()
    assert main(["diff", "apart"]) == 0
    said = capsys.readouterr()
    assert "+<<<<<<< " in said.out
    assert "in conflict" in said.err
    assert main(["diff", "other"]) == 0
    said = capsys.readouterr()
    assert "+1" in said.out
    assert "cannot be merged" in said.err


def test_log_names_branches_and_marks_merged_commits(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    box = spawn(repo, "vm-1")
    first = box.work("first of it", {"a": "1\n"})
    box.guest.git("branch", "kept")
    box.guest.git("switch", "-q", "-c", "side")
    second = box.work(f"aside {HOSTILE}", {"b": "1\n"})
    box.guest.git("switch", "-q", "main")
    box.home()
    repo.git("merge", "-q", "--ff-only", "refs/sandbox/vm-1")
    text = shown("log", "vm-1", capsys=capsys)
    assert f"{first[:10]} [HEAD, kept, main] merged first of it" in text
    assert f"{second[:10]} [side] aside �]0;owned�" in text
    data = json.loads(shown("log", "--json", "vm-1", capsys=capsys))["data"]
    assert data["branches"] == {first: ["HEAD", "kept", "main"], second: ["side"]}
    assert data["merged"] == [first]
