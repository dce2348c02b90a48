"""Branches of a sandbox become the user's: made or moved forward, all or none, never overwritten, taken back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from git_sandbox.cli.main import main
from git_sandbox.git.names import SandboxRefs, sandbox_id
from git_sandbox.integrate import branches
from support.examples import examples
from support.fabricated import Sandbox, spawn
from support.gitrepo import GitRepo


@pytest.fixture
def box(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    repo.git("branch", "old")
    repo.git("branch", "grown")
    made = spawn(repo, "vm-1")
    monkeypatch.chdir(repo.path)
    made.guest.git("switch", "-q", "-c", "topic")
    made.work("topic", {"a": "1\n"})
    made.guest.git("branch", "feature/x")
    made.guest.git("branch", "-f", "grown", "HEAD")
    made.guest.git("switch", "-q", "main")
    made.work("main", {"b": "1\n"})
    made.home()
    return made


def heads(repo: GitRepo) -> dict[str, str]:
    return {name.removeprefix("refs/heads/"): v for name, v in repo.refs().items() if name.startswith("refs/heads/")}


def test_all_that_are_new_or_moved(repo: GitRepo, box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    before, tip = heads(repo), box.guest.git("rev-parse", "topic")
    assert main(["branch", "vm-1", "--dry-run"]) == 0
    assert heads(repo) == before
    assert main(["branch", "vm-1"]) == 0
    shown = capsys.readouterr()
    assert heads(repo) == before | {"topic": tip, "feature/x": tip, "grown": tip}
    assert "main is in use" in shown.err
    assert main(["branch", "vm-1"]) == 0, "a second time is none too many"
    assert "already up to date" in capsys.readouterr().out
    assert main(["branch", "vm-1", "--undo"]) == 0
    assert heads(repo) == before
    assert main(["branch", "vm-1", "--undo"]) == 16
    assert repo.status() == ""


def test_what_was_moved_since_is_not_taken_back(repo: GitRepo, box: Sandbox) -> None:
    assert main(["branch", "vm-1", "topic", "feature/x"]) == 0
    repo.git("branch", "-f", "topic", "main")
    assert main(["branch", "vm-1", "--undo"]) == 0
    assert set(heads(repo)) == {"main", "old", "grown", "topic"}
    assert heads(repo)["topic"] == heads(repo)["main"]
    del box


def test_named_ones_are_all_or_none(repo: GitRepo, box: Sandbox, capsys: pytest.CaptureFixture[str]) -> None:
    repo.git("checkout", "-q", "grown")
    repo.commit("mine", {"mine": "1\n"})
    repo.git("checkout", "-q", "main")
    before = heads(repo)
    for words in (["topic", "grown"], ["topic", "main"], ["topic", "nowhere"], ["topic:a", "feature/x:a"],
                  ["topic:-x"], ["topic", "feature/x:old/below"], ["topic:a..b"], ["topic:HEAD"]):  # fmt: skip
        assert main(["branch", "vm-1", *words]) in (2, 16), words
        assert heads(repo) == before, words
    assert main(["branch", "vm-1", "grown:grown-2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["data"]["branches"]
    assert (row["name"], row["move"], row["before"]) == ("grown-2", "create", None)
    assert heads(repo) == before | {"grown-2": box.guest.git("rev-parse", "grown")}


def test_a_branch_in_another_worktree_or_a_rebase_stays(repo: GitRepo, box: Sandbox, tmp_path: Path) -> None:
    repo.git("worktree", "add", "-q", os.fspath(tmp_path / "other"), "grown")
    before = heads(repo)
    assert main(["branch", "vm-1", "grown"]) == 16
    other = GitRepo(tmp_path / "other")
    other.git("checkout", "-q", "--detach")
    (repo.path / ".git/worktrees/other/rebase-merge").mkdir()
    (repo.path / ".git/worktrees/other/rebase-merge/head-name").write_text("refs/heads/grown\n")
    assert main(["branch", "vm-1", "grown"]) == 16
    assert heads(repo) == before
    del box


def test_a_name_that_cannot_be_shown_needs_another(
    repo: GitRepo, box: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    box.guest.git("branch", "evil\u202ename", "topic")
    box.home()
    before = heads(repo)
    assert main(["branch", "vm-1", "evil\u202ename"]) == 16
    assert "\u202e" not in capsys.readouterr().err
    assert heads(repo) == before
    ref = next(name for name in repo.refs() if name.startswith("refs/sandbox-heads/vm-1/evil"))
    assert main(["branch", "vm-1", f"{ref}:tame"]) == 0
    assert heads(repo)["tame"] == box.guest.git("rev-parse", "topic")


_NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" ~^:?*[\\/"), min_size=1, max_size=20
)


@settings(max_examples=examples(200))
@given(_NAMES)
def test_the_name_it_had_inside_is_found_again(name: str) -> None:
    ref = SandboxRefs(sandbox_id("vm-1")).branch(name)
    assert branches.guest_name(ref) == name


def test_what_runs_by_itself_is_named_and_a_branch_here_needs_a_yes(
    repo: GitRepo, box: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    box.guest.git("switch", "-q", "grown")
    box.work("hook", {".envrc": "echo\n"})
    box.home()
    before = heads(repo)
    assert main(["branch", "vm-1", "grown"]) == 2
    assert heads(repo) == before
    assert main(["branch", "vm-1", "grown:new"]) == 0
    assert "warning: .envrc" in capsys.readouterr().err
    assert main(["branch", "--yes", "vm-1", "grown"]) == 0
    assert main(["merge", "--branch", "x", "vm-1"]) == 0
