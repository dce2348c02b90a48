"""A sandbox of which something could not come: it is said, and it does not go by itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from git_sandbox import store
from git_sandbox.cli.main import main
from git_sandbox.git.repo import discover
from support.fabricated import changed, worked
from support.gitrepo import GitRepo

WHY = "refs/heads/evil: tree 1234: hasDotgit: contains '.git'"


@pytest.fixture(autouse=True)
def _inside(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo.path)
    made = worked(repo, "x", {"a": "1\n"})
    repo.git("merge", "-q", "--ff-only", "refs/sandbox/x")
    with store.open_existing(discover(repo.path), "x") as (box, _):
        box.save(changed(made.record, partly=(WHY,)))


def test_ls_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls"]) == 0
    assert "partly home" in capsys.readouterr().out
    assert main(["ls", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["data"]
    assert (row["partly"], row["merged"]) == ([WHY], False)


@pytest.mark.parametrize("args", [["x"], ["--merged"]])
def test_drop_wants_force(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    main(["drop", *args])
    said = capsys.readouterr()
    assert [each.id for each in store.entries(discover(Path.cwd()))] == ["x"]
    if args == ["x"]:
        assert WHY in said.err
        assert "--bundle" in said.err
        assert main(["drop", "--force", "x"]) == 0
        assert store.entries(discover(Path.cwd())) == []


@pytest.mark.parametrize("args", [["--bundle", "f"], ["x", "--bundle", "f", "--into", "."]])
def test_a_bundle_is_of_one_sandbox_and_goes_to_one_place(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    assert main(["recover", *args]) == 2
    assert "error: " in capsys.readouterr().err
