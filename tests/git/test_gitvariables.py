"""Called by git (hooks, aliases, `git -c`) or with git's variables set: what they ask for is what goes in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from git_sandbox.errors import RepositoryError
from git_sandbox.git import gitvariables
from git_sandbox.git.repo import discover
from git_sandbox.workspace import guest_gitconfig
from support.captured import take
from support.gitrepo import GitRepo

# What a sandbox does first, as a hook: found repository, seconds, and what is staged in the copy.
HOOK = """#!{python}
import json, os, subprocess, sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from git_sandbox.workspace.capture import capture
from git_sandbox.git.repo import discover
from git_sandbox.workspace.survey import CapturePolicy
said, begun = [], time.monotonic()
repo = discover(Path.cwd())
done = capture(repo, Path({target!r}), CapturePolicy(patience=60, leave_out=()), progress=said.append)
took = time.monotonic() - begun
clean = {{key: value for key, value in os.environ.items() if not key.startswith("GIT_")}}
staged = subprocess.run(
    ["git", "-C", {target!r}, "diff", "--cached", "--name-only"], env=clean, capture_output=True, text=True
).stdout
Path({report!r}).write_text(json.dumps([os.fspath(repo.worktree), took, staged, said, done.warnings]))
"""


def hooked(repo: GitRepo, place: Path, name: str = "pre-commit") -> Path:
    report = place / "report"
    text = HOOK.format(
        python=sys.executable, path=[each for each in sys.path if each], target=os.fspath(place / "copy"),
        report=os.fspath(report),
    )  # fmt: skip
    git_dir = Path(repo.git("rev-parse", "--path-format=absolute", "--git-common-dir"))
    hook = git_dir / "hooks" / name
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(text)
    hook.chmod(0o755)
    return report


def seen(report: Path) -> tuple[str, list[str]]:
    """What was staged, after what had to be right in any case."""
    worktree, took, staged, said, warnings = json.loads(report.read_text())
    assert took < 30  # `patience` is 60
    assert not [text for text in (*said, *warnings) if "aiting" in text or "index.lock" in text]
    return worktree, staged.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["commit", "-qam", "x"], ["edited", "staged"]),
        (["commit", "-qm", "x"], ["staged"]),
        (["commit", "-qm", "x", "--", "edited"], ["edited"]),
        (["-c", "core.abbrev=9", "commit", "-qam", "x"], ["edited", "staged"]),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_hook_sees_the_index_that_is_about_to_be_committed_at_once(
    repo: GitRepo, tmp_path: Path, words: list[str], expected: list[str], *, linked: bool
) -> None:
    repo.commit("more", {"staged": "1\n", "edited": "1\n"})
    if linked:
        repo.git("worktree", "add", "-q", os.fspath(tmp_path / "linked"))
        repo = GitRepo(tmp_path / "linked")
    repo.write("staged", "2\n")
    repo.git("add", "staged")
    repo.write("edited", "2\n")
    report = hooked(repo, tmp_path)
    repo.git(*words)
    assert seen(report) == (os.fspath(repo.path), expected)


def test_a_hook_that_git_calls_while_it_holds_the_index(repo: GitRepo, tmp_path: Path) -> None:
    """No GIT_INDEX_FILE there: the lock of the git above us will not go as long as we wait for it."""
    repo.write(".git/index.lock", "")
    assert not gitvariables.within_git((repo.path / ".git/index.lock").stat().st_mtime - 100_000)
    (repo.path / ".git/index.lock").unlink()
    repo.commit("more", {"a": "1\n"})
    report = hooked(repo, tmp_path, "post-checkout")
    repo.git("checkout", "-q", "-b", "other")
    assert seen(report)[0] == os.fspath(repo.path)


def test_rebase_exec_and_an_alias(repo: GitRepo, tmp_path: Path) -> None:
    repo.commit("more", {"a": "1\n"})
    hook = hooked(repo, tmp_path).parent / "report"
    program = repo.path / ".git/hooks/pre-commit"
    repo.git("rebase", "-q", "--exec", os.fspath(program), "HEAD~1")
    assert seen(hook) == (os.fspath(repo.path), [])
    repo.git("config", "alias.box", f"!rm -rf {tmp_path}/copy; {program}")
    (repo.path / "sub").mkdir()
    subprocess.run(["git", "box"], cwd=repo.path / "sub", check=True)
    assert seen(hook)[0] == os.fspath(repo.path)


def test_git_dir_and_work_tree_name_the_repository(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = GitRepo.create(tmp_path / "other")
    other.commit("other", {"o": "o\n"})
    monkeypatch.setenv("GIT_DIR", os.fspath(other.path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", os.fspath(other.path))
    found = discover(repo.path)
    assert (found.worktree, found.git_dir) == (other.path, other.path / ".git")


def test_an_index_of_ones_own(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.write("new", "n\n")
    monkeypatch.setenv("GIT_INDEX_FILE", os.fspath(tmp_path / "mine"))
    repo.git("read-tree", "HEAD")
    repo.git("add", "new")
    monkeypatch.setenv("GIT_INDEX_FILE", os.fspath(tmp_path / "mine"))
    found = discover(repo.path)
    assert found.index == tmp_path / "mine"
    copy, _ = take(repo, tmp_path / "copy")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert copy.git("diff", "--cached", "--name-only") == "new"
    monkeypatch.setenv("GIT_INDEX_FILE", "no/such/index")  # to git, too, nothing is staged then
    copy, _ = take(repo, tmp_path / "again")
    monkeypatch.delenv("GIT_INDEX_FILE")
    assert copy.git("ls-files") == ""


@pytest.mark.parametrize(
    "name",
    [
        "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH", "GIT_SHALLOW_FILE",
        "GIT_GRAFT_FILE",
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_by_name(
    repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv(name, os.fspath(tmp_path / "elsewhere"))
    with pytest.raises(RepositoryError, match=name):
        discover(repo.path)


def test_an_object_directory_that_is_the_repositorys_own(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", os.fspath(repo.path / ".git/objects"))
    assert discover(repo.path).worktree == repo.path


def test_configuration_by_environment(repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is ignored by it is ignored on both sides; a ceiling is one."""
    (tmp_path / "ignore").write_text("*.tmp\n")
    repo.write("x.tmp")
    for name, value in (("COUNT", "1"), ("KEY_0", "core.excludesFile"), ("VALUE_0", os.fspath(tmp_path / "ignore"))):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    found = discover(repo.path)
    assert found.git.run("ls-files", "-o", "--exclude-standard") == b""
    assert dict(guest_gitconfig.effective(found, os.environ).contents)["core.excludesFile"] == b"*.tmp\n"
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.fspath(repo.path))
    (repo.path / "sub").mkdir()
    with pytest.raises(RepositoryError, match="not in a git repository"):
        discover(repo.path / "sub")
