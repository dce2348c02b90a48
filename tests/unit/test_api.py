"""`import git_sandbox`: cheap, complete, documented."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import git_sandbox
from git_sandbox import settings
from git_sandbox.api import shared
from git_sandbox.api.shared import Given, streams
from git_sandbox.cli.main import VERBS
from git_sandbox.errors import UsageError
from support.gitrepo import GitRepo

DOCS = Path(__file__).parents[2] / "docs"


def test_importing_it_imports_nothing_else() -> None:
    script = "import sys; before = set(sys.modules); import git_sandbox; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"click", "msgspec", "rich", "subprocess", "git_sandbox.api", "git_sandbox.store"}
    assert "git_sandbox" in done.stdout.split()
    assert heavy & set(done.stdout.split()) == set()


def test_every_name_is_there_and_documented() -> None:
    page = (DOCS / "reference/python.md").read_text("utf-8")
    for name in git_sandbox.__all__:
        assert getattr(git_sandbox, name) is not None
        assert name in page
    with pytest.raises(AttributeError):
        git_sandbox.nothing  # noqa: B018
    for kind in (git_sandbox.Project, git_sandbox.Sandbox):
        for name in vars(kind):
            assert name.startswith("_") or f"`{name}" in page or name == "repository", name


def test_every_verb_is_a_method_or_named_as_none() -> None:
    page = (DOCS / "reference/python.md").read_text("utf-8")
    assert [verb for verb in VERBS if f"`sandbox {verb}" not in page] == []


def test_keywords_are_the_settings() -> None:
    assert set(Given.__annotations__) == set(settings.BY_NAME)


def test_what_cannot_work_is_said_before_anything_starts(repo: GitRepo, tmp_path: Path) -> None:
    project = git_sandbox.open(repo.path)
    assert project.sandboxes() == []
    with pytest.raises(UsageError, match="colour"):
        project.run(["true"], colour="red")  # type: ignore[call-arg]
    with pytest.raises(git_sandbox.SandboxError) as caught:
        project.sandbox("vm-1")
    assert caught.value.exit_code == 17
    with pytest.raises(git_sandbox.SandboxError) as caught:
        git_sandbox.open(tmp_path)
    assert caught.value.kind == "repository"
    with pytest.raises(UsageError):
        project.compare("vm-1")


def test_output_without_end_is_read_and_its_beginning_kept() -> None:
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with streams(b"input", 1000) as (stdin, out, err):
        words = ["sh", "-c", "cat; yes | head -c 100000000; echo said >&2"]
        subprocess.run(words, stdin=stdin, stdout=out.descriptor, stderr=err.descriptor, check=True)
        assert out.content == (b"input" + b"y\n" * 500)[:1000]
        assert (err.content, out.truncated, err.truncated) == (b"said\n", True, False)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun < 20_000  # KiB


def test_output_within_the_limit_is_whole_and_who_keeps_the_pipe_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "LATE", 0.5)
    with streams(b"", 5) as (stdin, out, err):
        words = ["sh", "-c", "echo said; sleep 60 & echo $! >&2"]
        subprocess.run(words, stdin=stdin, stdout=out.descriptor, stderr=err.descriptor, check=True)
        assert (out.content, out.truncated) == (b"said\n", False)
        os.kill(int(err.content), signal.SIGKILL)
