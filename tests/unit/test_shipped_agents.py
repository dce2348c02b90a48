"""What the shipped manifests write for a guest, run as there: what each leaves for the agent that it starts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from git_sandbox.agents import catalogue
from git_sandbox.agents.manifest import File

AGENT = """#!/bin/sh
echo "$0 $*"
env | grep ^GIT_CONFIG_
git config commit.gpgsign
GIT_CONFIG_GLOBAL=/dev/null git commit -q --allow-empty --no-gpg-sign -m one || :
"""


def written(name: str, path: str) -> File:
    return next(file for file in catalogue.find(name, None).manifest.files if file.path == path)


def placed(tmp_path: Path, name: str) -> tuple[Path, dict[str, str]]:
    """What starts the agent, and the environment in which a program stands for it."""
    start = tmp_path / "start"
    file = written(name, f"/etc/git-sandbox/{name}")
    assert file.executable
    start.write_text(file.content)
    start.chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / f"bin/{name}").write_text(AGENT)
    (tmp_path / f"bin/{name}").chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    return start, {"HOME": str(home), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "GIT_CONFIG_NOSYSTEM": "1"}


def test_geminis_shell_commits_as_the_user_who_may_be_another_in_this_repository(tmp_path: Path) -> None:
    start, env = placed(tmp_path, "gemini")
    work = tmp_path / "work"
    subprocess.run(["git", "init", "-q", work], check=True)
    subprocess.run(["git", "-C", work, "config", "user.email", "here@example.org"], check=True)
    names = '[user]\n\tname = Ada \\"A\\" Lovelace\n\temail = everywhere@example.org\n[commit]\n\tgpgsign = true\n'
    (tmp_path / "home/.gitconfig").write_text(names + '[credential]\n\thelper = "!echo s3cret"\n')
    words = [str(start), "--yolo", "a b"]
    run = subprocess.run(words, cwd=work, env=env, capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[0] == f"{tmp_path}/bin/gemini --yolo a b"
    assert run.stdout.splitlines()[-1] == "true"
    assert "s3cret" not in run.stdout
    log = ["git", "-C", str(work), "log", "-1", "--format=%an %ae %cn %ce"]
    who = 'Ada "A" Lovelace here@example.org'
    assert subprocess.run(log, capture_output=True, text=True, check=True).stdout.strip() == f"{who} {who}"


@pytest.mark.parametrize("before", ["", "{", "[]", '{"customApiKeyResponses": 3}'])
def test_claude_starts_without_its_questions_and_whatever_is_in_its_file(tmp_path: Path, before: str) -> None:
    start, env = placed(tmp_path, "claude")
    place = tmp_path / "home/.claude.json"
    place.write_text(before or written("claude", "~/.claude.json").content)
    key = "sk-ant-api03-" + "0123456789" * 8
    run = subprocess.run(
        [str(start), "-p", "a b"],
        cwd=tmp_path,
        env=env | {"ANTHROPIC_API_KEY": key},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[0] == f"{tmp_path}/bin/claude -p a b"
    assert bool(run.stderr.startswith("claude asks more than it has to")) is bool(before)
    if not before:
        answers = json.loads(place.read_text())
        assert answers["customApiKeyResponses"]["approved"] == [key[-20:]]
        assert answers["hasCompletedOnboarding"] is True
        assert answers["projects"][str(tmp_path)]["hasTrustDialogAccepted"] is True
