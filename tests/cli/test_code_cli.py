"""`sandbox code` as typed, with an editor that writes down what it was started with. No machine starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from git_sandbox import paths, store
from git_sandbox.cli import life
from git_sandbox.cli.main import main
from git_sandbox.cli.result import Result
from git_sandbox.sandbox import live
from support.fabricated import Sandbox, spawn
from support.gitrepo import GitRepo

Written = Callable[[], list[str]]


@pytest.fixture
def made(repo: GitRepo) -> Sandbox:
    return spawn(repo, "dev")


@pytest.fixture
def editor(made: Sandbox, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """What the editor was started with. The sandbox is one that runs, and ssh knows it."""
    programs, out = tmp_path / "programs", tmp_path / "written"
    programs.mkdir()
    (place,) = paths.state_root().glob("*/dev")
    login = f"printf 'user me\\nidentityfile %s\\n' '{place}/keys/login'"
    for name, script in (("ssh", login), ("ed", f'printf "%s\\n" "$@" > {out}; exit 3'), ("vim", f"echo vim > {out}")):
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.chdir(repo.path)
    monkeypatch.setattr(life, "resume", lambda *_, **__: Result("code"))
    monkeypatch.setattr(live, "running", lambda repository, name: (store.find(repository, name), made.record))
    return lambda: out.read_text().splitlines()


def test_the_editor_gets_host_and_path_and_its_code_is_the_verbs(editor: Written) -> None:
    assert main(["code", "dev", "src/a b", "--editor", "ed --x={host} {path} {user} '{netrw_path}'"]) == 3
    assert editor() == ["--x=sandbox-dev", "/workspace/src/a b", "me", "/workspace/src/a b"]
    assert main(["code", "dev", "--editor", "ed {host} {netrw_path}"]) == 3
    assert editor() == ["sandbox-dev", "/workspace/"]


def test_what_would_run_is_printed_or_given_to_a_program(
    editor: Written, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SANDBOX_EDITOR_COMMAND", "zed")
    assert main(["code", "dev", "--print"]) == 0
    assert capfd.readouterr().out == "zed ssh://sandbox-dev/workspace\n"
    assert main(["code", "dev", "--editor", "ed {host}", "--json"]) == 3
    data: dict[str, Any] = json.loads(capfd.readouterr().out)["data"]
    assert (data["host"], data["argv"], data["exit_code"]) == ("sandbox-dev", ["ed", "sandbox-dev"], 3)
    assert editor() == ["sandbox-dev"]


def test_a_new_sandbox_is_left_running_and_opened(editor: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def started(_verb: str, _command: object, given: dict[str, Any]) -> Result:
        asked.append(given)
        return Result("spawn", {"id": "dev", "detached": True}, text="Sandbox dev is running.")

    monkeypatch.setattr(life, "live", started)
    monkeypatch.setenv("SANDBOX_EDITOR_COMMAND", "gedit")
    assert main(["--open", "--name", "dev"]) == 2
    assert asked == [], "an editor that opens nothing is refused before anything starts"
    monkeypatch.setenv("SANDBOX_EDITOR_COMMAND", "vim")
    assert main(["--open", "--name", "dev"]) == 0
    assert [given["detach"] for given in asked] == [True]
    assert editor() == ["vim"]


def test_a_repository_names_no_editor(editor: Written, repo: GitRepo, capfd: pytest.CaptureFixture[str]) -> None:
    repo.write("sandbox.toml", 'editor_command = "ed {host} evil"\n')
    assert main(["code", "dev", "--print"]) == 0
    assert "evil" not in capfd.readouterr().out
    assert main(["code", "dev", "--editor", "ed {host}"]) == 3
    assert editor() == ["sandbox-dev"]
