"""The sandboxes of all repositories, and their names, from anywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from git_sandbox import paths, record, store
from git_sandbox.errors import StateError, UsageError
from git_sandbox.git.repo import discover
from git_sandbox.sandbox import everywhere
from support.fabricated import changed, worked
from support.gitrepo import GitRepo

from .conftest import Cli


def another(place: Path) -> GitRepo:
    made = GitRepo.create(place)
    made.commit("first", {"README": "hello\n"})
    return made


def test_all_are_listed_and_those_whose_repository_is_gone_are_marked(
    cli: Cli, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, moved = another(tmp_path / "gone"), another(tmp_path / "moved \x1b[31m")
    worked(repo, "one", {"a": "1\n"})
    worked(gone, "one", {"a": "2\n"})
    worked(moved, "two", {"a": "3\n"})
    shutil.rmtree(gone.path)
    moved.path.rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    rows = {row["repository"]: row for row in cli("ls", "--everywhere", "--json").envelope["data"]["sandboxes"]}
    assert {place: (row["id"], row["gone"]) for place, row in rows.items()} == {
        str(repo.path): ("one", False),
        str(gone.path): ("one", True),
        str(moved.path): ("two", True),
    }
    said = cli("ls", "--everywhere")
    assert (said.code, said.out.count("(gone)"), "3 sandboxes" in said.out, "\x1b[31m" in said.out) == (
        0,
        2,
        True,
        False,
    )
    monkeypatch.chdir(tmp_path / "there")
    cli("ls")
    assert cli("ls", "--everywhere").out.count("(gone)") == 1, "who is used is found again"
    assert cli("ls", "--everywhere", "--watch").code == 2


def test_a_name_means_one_sandbox_or_says_which_there_are(repo: GitRepo, tmp_path: Path) -> None:
    other = another(tmp_path / "other")
    worked(repo, "one", {"a": "1\n"})
    worked(other, "one", {"a": "1\n"})
    worked(other, "two", {"a": "1\n"})
    mine, theirs = (next(each.name for each in paths.state_root().glob(f"{name}-*")) for name in ("repo", "other"))
    here = discover(repo.path)

    def found(name: str, *, from_here: bool = False) -> tuple[str, str]:
        each = everywhere.find(name, here if from_here else None)
        return each.of.key, each.entry.id

    assert found("two") == found("two", from_here=True) == (theirs, "two")
    assert found("one", from_here=True) == (mine, "one"), "the repository's own comes first"
    assert found(f"{theirs}/one", from_here=True) == found("other/one") == (theirs, "one")
    with pytest.raises(StateError, match="several") as caught:
        found("one")
    assert f"{mine}/one" in caught.value.hint
    assert f"{theirs}/one" in caught.value.hint
    for wrong in ("three", "repo/two", f"{mine}x/one"):
        with pytest.raises(StateError):
            found(wrong)
    for wrong in ("", "/", "../one", "repo/..", "repo/-x", "a/b/c", "\x1b/one", "x/" * 50 + "one"):
        with pytest.raises(UsageError):
            found(wrong)


def test_recover_into_refuses_what_cannot_be(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    worked(repo, "one", {"a": "1\n"})
    assert cli("recover", "--into", str(tmp_path)).code == 2
    assert cli("recover", "one", "--into", str(tmp_path)).code == 10, "that is no repository"
    GitRepo(tmp_path).git("init", "-q", "--object-format=sha256", "other")
    said = cli("recover", "one", "--into", str(tmp_path / "other"))
    assert (said.code, "sha1" in said.err, "sha256" in said.err) == (10, True, True)
    assert not list(paths.state_root().glob("other-*/one"))


SUPERVISOR = """
import fcntl, signal, sys
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
print("up", flush=True)
signal.sigwait({signal.SIGTERM})
"""


def test_one_that_runs_is_stopped_from_anywhere(
    cli: Cli, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can stand in a repository that is gone."""
    made = worked(repo, "one", {"a": "1\n"})
    directory = store.directory(made.repo, "one")
    words = [
        sys.executable,
        "-c",
        f"import signal\nsignal.pthread_sigmask(0, {{15}})\n{SUPERVISOR}",
        str(directory.lock),
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        record.write(directory, changed(made.record, pid=child.pid, brought_home=None))
        name = f"{directory.root.parent.name}/one"
        shutil.rmtree(repo.path)
        monkeypatch.chdir(tmp_path)
        assert cli("ls", "--everywhere", "--json").envelope["data"]["sandboxes"][0]["state"] == "running"
        said = cli("stop", name)
    assert (said.code, f"`sandbox recover {name} --into REPO`" in said.out) == (0, True), said
    assert child.returncode == 0
    assert cli("stop", name).code == 17
