"""`sandbox merge` as typed: conflicts by hand, abort, rewritten and unrelated history, branch, patches, risky files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from git_sandbox.cli import common
from git_sandbox.cli.main import main
from support.fabricated import Sandbox, spawn, worked
from support.gitrepo import GitRepo
from support.sandboxed import everything


@pytest.fixture(autouse=True)
def _inside(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo.path)


def asked(*words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    """The JSON answer: data, or the error."""
    capsys.readouterr()
    assert main([*words, "--json"]) == code
    body = json.loads(capsys.readouterr().out)
    return body["data"] if body["status"] == "ok" else body["errors"][0]


def answer(monkeypatch: pytest.MonkeyPatch, *, yes: bool = True, text: str | None = None) -> list[str]:
    """A user at a terminal; the questions they were asked."""
    questions: list[str] = []

    def confirm(question: str, **_options: Any) -> bool:
        questions.append(question)
        return yes

    def prompt(question: str, **_options: Any) -> str:
        questions.append(question)
        return ("yes" if yes else "no") if text is None else text

    monkeypatch.setattr(common, "interactive", lambda: True)
    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr(click, "prompt", prompt)
    return questions


@pytest.fixture
def conflicting(repo: GitRepo) -> Sandbox:
    box = worked(repo, "vm-1", {"README": "sandbox\n", "new": "1\n"})
    repo.commit("host", {"README": "host\n", "other": "1\n"})
    return box


# --- conflicts -------------------------------------------------------------------------------------------------------


def test_conflicts_are_predicted_and_nothing_changes(
    repo: GitRepo, conflicting: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    assert conflicting.record.id == "vm-1"
    before = everything(repo)
    for words in (["merge", "vm-1"], ["merge", "--yes", "vm-1"], ["merge", "--dry-run", "vm-1"]):
        error = asked(*words, capsys=capsys, code=16)
        assert error["cause"] == "README"
        assert "--conflicts" in error["hint"]
    assert asked("merge", "--conflicts", "vm-1", capsys=capsys, code=2)["kind"] == "usage"
    assert everything(repo) == before


@pytest.mark.usefixtures("conflicting")
def test_an_ordinary_merge_begins(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    marker = repo.path.parent / "ran"
    hook = repo.write(".git/hooks/pre-merge-commit", f"#!/bin/sh\ntouch {marker}\n", mode=0o755)
    for name in ("post-checkout", "post-merge", "prepare-commit-msg", "post-index-change"):
        (hook.parent / name).write_bytes(hook.read_bytes())
        (hook.parent / name).chmod(0o755)
    head, target = repo.git("rev-parse", "HEAD"), repo.git("rev-parse", "refs/sandbox/vm-1")
    repo.write("unrelated", "dirty\n")
    started = asked("merge", "--conflicts", "--yes", "vm-1", capsys=capsys, code=16)
    assert started["conflicts"] == ["README"]
    assert (repo.git("rev-parse", "HEAD"), repo.git("rev-parse", "MERGE_HEAD")) == (head, target)
    assert b"<<<<<<<" in repo.read("README")
    assert repo.read("new") == b"1\n"
    assert repo.git("cat-file", "-p", f"{started['backup']}:unrelated") == "dirty"
    assert not marker.exists()
    assert "in progress" in asked("merge", "vm-1", capsys=capsys, code=16)["message"]
    repo.write("README", "both\n")
    repo.git("-c", "core.hooksPath=/dev/null", "commit", "-qa", "--no-edit")
    assert repo.git("log", "-1", "--format=%s %P") == f"Merge sandbox/vm-1 into main {head} {target}"


@pytest.mark.usefixtures("conflicting")
def test_abort_restores_and_keeps_what_was_resolved(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    repo.write("unrelated", "dirty\n")
    files, status = everything(repo)[0], repo.status()
    asked("merge", "--conflicts", "--yes", "vm-1", capsys=capsys, code=16)
    repo.write("README", "half resolved\n")
    repo.git("add", "README")
    aborted = asked("merge", "--abort", "vm-1", capsys=capsys)
    assert (everything(repo)[0], repo.status()) == (files, status)
    assert repo.run("rev-parse", "-q", "--verify", "MERGE_HEAD").returncode != 0
    assert repo.git("cat-file", "-p", f"{aborted['backup']}:README") == "half resolved"
    assert "no merge is in progress" in asked("merge", "--abort", "vm-1", capsys=capsys, code=16)["message"]


@pytest.mark.usefixtures("conflicting")
def test_abort_leaves_other_merges_alone(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    worked(repo, "vm-2", {"x": "1\n"})
    repo.git("merge", "-q", "--no-commit", "--no-ff", "refs/sandbox/vm-2")
    before = everything(repo)
    for name in ("vm-1", "vm-2"):
        assert "not one of sandbox" in asked("merge", "--abort", name, capsys=capsys, code=16)["message"]
    assert everything(repo) == before


@pytest.mark.usefixtures("conflicting")
@pytest.mark.parametrize("case", ["edited", "staged", "untracked", "ignored", "in the way", "elsewhere staged"])
def test_no_merge_by_hand_over_files_of_the_user(repo: GitRepo, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    match case:
        case "edited":
            repo.write("README", "edited\n")
        case "staged":
            repo.write("README", "edited\n")
            repo.git("add", "README")
        case "untracked":
            repo.write("new", "mine\n")
        case "ignored":
            repo.write(".git/info/exclude", "new\n")
            repo.write("new", "mine\n")
        case "in the way":
            repo.write("new/file", "mine\n")
        case _:
            repo.write("other", "edited\n")
            repo.git("add", "other")
    before = everything(repo)
    error = asked("merge", "--conflicts", "--yes", "vm-1", capsys=capsys, code=16)
    assert "would be overwritten" in error["message"]
    assert everything(repo) == before


@pytest.mark.usefixtures("conflicting")
def test_configuration_does_not_change_what_begins(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    repo.git("config", "branch.main.mergeOptions", "--squash")
    repo.git("config", "merge.autoStash", "true")
    repo.git("config", "pull.twohead", "ours")
    repo.git("config", "merge.ff", "only")
    asked("merge", "--conflicts", "--yes", "vm-1", capsys=capsys, code=16)
    assert repo.git("ls-files", "-u", "--format=%(path)").splitlines()[0] == "README"
    assert repo.git("stash", "list") == ""


@pytest.mark.parametrize("yes", [True, False])
def test_a_terminal_is_asked(
    repo: GitRepo, conflicting: Sandbox, monkeypatch: pytest.MonkeyPatch, *, yes: bool
) -> None:
    questions = answer(monkeypatch, yes=yes)
    before = everything(repo)
    assert main(["merge", conflicting.record.id]) == (16 if yes else 130)
    assert ["resolve" in question for question in questions] == [True]
    assert (everything(repo) == before) is not yes


def test_with_conflicts_allowed_a_clean_merge_is_just_made(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    worked(repo, "vm-1", {"a": "1\n"})
    repo.commit("host", {"b": "1\n"})
    merged = asked("merge", "--conflicts", "--yes", "vm-1", capsys=capsys)
    assert (merged["relation"], merged["after"]) == ("diverged", repo.git("rev-parse", "HEAD"))


# --- asking ----------------------------------------------------------------------------------------------------------


def test_what_is_risky_needs_a_yes_and_the_verb_is_one_for_the_rest(
    repo: GitRepo, capsys: pytest.CaptureFixture[str]
) -> None:
    worked(repo, "risky", {".github/workflows/ci.yml": "on: push\n"})
    worked(repo, "apart", {"a": "1\n"})
    before = everything(repo)
    for words in (["merge", "risky"], ["merge", "--ff-only", "risky"], ["merge", "--squash", "risky"]):
        error = asked(*words, capsys=capsys, code=2)
        assert "run by themselves" in error["message"]
        assert ".github/workflows/ci.yml" in error["cause"]
    assert everything(repo) == before
    asked("merge", "--yes", "risky", capsys=capsys)
    assert asked("merge", "apart", capsys=capsys)["relation"] == "diverged"
    assert repo.read("a") == b"1\n"


def test_the_question_shows_what_the_merge_changes(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worked(repo, "vm-1", {"one": "1\n", ".envrc": "echo\n"})
    repo.commit("host", {"TODO": "h\n"})
    answer(monkeypatch, yes=False)
    before = everything(repo)
    assert main(["merge", "vm-1"]) == 130
    said = capsys.readouterr().err
    assert "2 files changed, 2 insertions(+)" in said
    assert "TODO" not in said
    assert "warning: .envrc is run by direnv" in said
    assert everything(repo) == before


def test_a_second_squash_changes_nothing(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    worked(repo, "vm-1", {"a": "1\n"})
    repo.commit("host", {"b": "1\n"})
    assert main(["merge", "--squash", "vm-1"]) == 0
    assert "one commit with everything" in capsys.readouterr().out
    before = everything(repo)
    assert main(["merge", "--squash", "-m", "Squashed", "vm-1"]) == 0
    assert "Already up to date" in capsys.readouterr().out
    assert everything(repo) == before


def test_a_risky_fast_forward_is_asked_about(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worked(repo, "risky", {".envrc": "echo\n"})
    questions = answer(monkeypatch, yes=False)
    assert main(["merge", "risky"]) == 130
    assert "warning: .envrc" in capsys.readouterr().err
    assert len(questions) == 1
    assert not (repo.path / ".envrc").exists()


def test_a_plain_fast_forward_is_not_asked_about(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    worked(repo, "vm-1", {"a": "1\n"})
    questions = answer(monkeypatch, yes=False)
    assert main(["merge", "vm-1"]) == 0
    assert questions == []


# --- rewritten and unrelated history ---------------------------------------------------------------------------------


@pytest.fixture
def rewritten(repo: GitRepo) -> Sandbox:
    repo.commit("second", {"b": "1\n"})
    box = spawn(repo, "vm-1")
    box.guest.write("b", "2\n")
    box.guest.git("commit", "-qa", "--amend", "-m", "second, but \x1b[31mbetter")
    box.work("third", {"c": "1\n"})
    box.home()
    return box


def test_rewritten_history_is_explained(repo: GitRepo, rewritten: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    before = everything(repo)
    assert main(["merge", "vm-1"]) == 16
    said = capsys.readouterr().err
    base = (rewritten.record.base or "")[:10]
    assert f"2 commits instead of 1 commit up to {base}" in said
    assert "2:" in said  # range-diff numbers commits
    assert "third" in said
    assert "\x1b[31mbetter" not in said
    assert "--branch" in said
    assert everything(repo) == before


@pytest.mark.usefixtures("rewritten")
def test_rewritten_history_is_offered_as_a_branch(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, text="better")
    assert main(["merge", "vm-1"]) == 0
    assert repo.git("rev-parse", "better") == repo.git("rev-parse", "refs/sandbox/vm-1")
    answer(monkeypatch, text="")
    assert main(["merge", "vm-1"]) == 16


def test_dropped_commits(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    repo.commit("second", {"b": "1\n"})
    box = spawn(repo, "vm-1")
    box.guest.git("reset", "-q", "--hard", "HEAD~")
    box.work("instead", {"c": "1\n"})
    box.home()
    error = asked("merge", "vm-1", capsys=capsys, code=16)
    assert "1 commit instead of 1 commit" in error["cause"]
    assert asked("merge", "--no-ff", "vm-1", capsys=capsys)["relation"] == "rewritten"


def test_unrelated_history(repo: GitRepo, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    box = spawn(repo, "vm-1")
    box.guest.git("checkout", "-q", "--orphan", "fresh")
    box.work("root", {"c": "1\n"})
    box.home()
    error = asked("merge", "vm-1", capsys=capsys, code=16)
    assert "have no common ancestor" in error["cause"]
    assert "--branch" in error["hint"]
    made = asked("merge", "--patches", str(tmp_path / "out"), "vm-1", capsys=capsys)
    assert made["files"] == ["0001-root.patch"]


# --- patches ---------------------------------------------------------------------------------------------------------


def test_patches_apply(repo: GitRepo, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    box = worked(repo, "vm-1", {"a": "1\n", "bin": "\0\1"}, message="One: ../../x \x1b[0m\u202e")
    box.work("Two", {"a": "2\n"})
    box.home()
    repo.git("config", "format.outputDirectory", os.fspath(tmp_path / "elsewhere"))
    repo.git("config", "format.attach", "true")
    target = tmp_path / "deep" / "out"
    made = asked("merge", "--patches", str(target), "vm-1", capsys=capsys)
    assert (
        sorted(each.name for each in target.iterdir()) == made["files"] == ["0001-One-.-.-x-0m.patch", "0002-Two.patch"]
    )
    assert not (tmp_path / "elsewhere").exists()
    repo.git("am", "-q", *(os.fspath(target / name) for name in made["files"]))
    assert repo.git("rev-parse", "HEAD^{tree}") == box.guest.git("rev-parse", "HEAD^{tree}")


def test_patches_overwrite_nothing(repo: GitRepo, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    worked(repo, "vm-1", {"a": "1\n"})
    (tmp_path / "file").write_text("mine")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    assert "not empty" in asked("merge", "--patches", str(full), "vm-1", capsys=capsys, code=16)["message"]
    asked("merge", "--patches", str(tmp_path / "file"), "vm-1", capsys=capsys, code=18)
    assert ([each.name for each in full.iterdir()], (tmp_path / "file").read_text()) == (["mine"], "mine")
    repo.git("merge", "-q", "refs/sandbox/vm-1")
    assert "no commit" in asked("merge", "--patches", str(tmp_path / "n"), "vm-1", capsys=capsys, code=16)["message"]


def test_no_program_of_the_repository_runs(repo: GitRepo, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    repo.git("config", "diff.evil.textconv", f"touch {marker} #")
    repo.git("config", "diff.evil.command", f"touch {marker} #")
    repo.commit("attributes", {".gitattributes": "* diff=evil\n", "b": "1\n"})
    box = spawn(repo, "vm-1")
    box.guest.write("b", "2\n")
    box.guest.git("commit", "-qa", "--amend", "-m", "amended")
    box.home()
    assert "amended" in asked("merge", "vm-1", capsys=capsys, code=16)["cause"]
    asked("merge", "--patches", str(tmp_path / "out"), "vm-1", capsys=capsys)
    assert not marker.exists()


def test_options_that_do_not_go_together(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    worked(repo, "vm-1", {"a": "1\n"})
    for words in (
        ["--branch", "x", "--patches", "y"], ["--undo", "--abort"], ["--undo", "--dry-run"], ["--squash", "--rebase"],
        ["--pick", "HEAD", "--no-ff"], ["--branch", "x", "--squash"], ["-m", "x", "--rebase"], ["--undo", "-m", "x"],
        ["--dry-run", "--conflicts"],
    ):  # fmt: skip
        assert asked("merge", *words, "vm-1", capsys=capsys, code=2)["kind"] == "usage"


def test_undo_from_the_command_line(repo: GitRepo, capsys: pytest.CaptureFixture[str]) -> None:
    worked(repo, "vm-1", {"a": "1\n"})
    head = repo.git("rev-parse", "HEAD")
    asked("merge", "vm-1", capsys=capsys)
    asked("merge", "--undo", "vm-1", capsys=capsys)
    assert repo.git("rev-parse", "HEAD") == head
    assert not (repo.path / "a").exists()
