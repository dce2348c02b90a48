"""The sandboxes of all repositories, and their names, from anywhere."""

from __future__ import annotations

import re
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


READ = (("log",), ("diff", "--stat"), ("branch", "--dry-run"), ("exec", "--", "true"), ("sync",), ("ssh-config",))
RUNNING = (*READ, ("shell",), ("attach",))
HERE = (("merge", "--dry-run"), ("compare",), ("run", "--from"))


def without(text: str, key: str) -> str:
    return text.replace(f"{key}/", "")


def same(text: str, key: str) -> str:
    """Without what the name of the repository and the time between two calls make different."""
    return re.sub(r"\b\d+[smh]( ago)?\b", "AGE", without(text, key))


def test_every_verb_takes_the_name_of_a_sandbox_of_any_repository(
    cli: Cli, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says and does the same as in the repository itself: from no repository, and from another one."""
    worked(repo, "one", {"a": "1\n"})
    key = next(paths.state_root().glob("repo-*")).name
    other = another(tmp_path / "other")
    cases = [*((verb[0], f"{key}/one", *verb[1:]) for verb in RUNNING), ("cp", f"{key}/one:a", "b")]
    for words in cases:
        monkeypatch.chdir(repo.path)
        wanted = cli(words[0], *(without(word, key) for word in words[1:]))
        for place in (tmp_path, other.path, repo.path):
            monkeypatch.chdir(place)
            said = cli(*words)
            assert (said.code, same(said.out, key), same(said.err, key)) == (
                wanted.code,
                same(wanted.out, key),
                same(wanted.err, key),
            ), (words, place)
    assert cli("log", f"{key}/two").code == cli("log", "nokey/one").code == 17
    assert cli("log", "../one/").code == 2


def test_what_is_about_a_checkout_takes_a_far_name_only_in_its_repository(
    cli: Cli, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked(repo, "one", {"a": "1\n"})
    name = f"{next(paths.state_root().glob('repo-*')).name}/one"
    for verb, *options in HERE:
        monkeypatch.chdir(another(tmp_path / verb).path)
        said = cli(verb, *options, name, *(["--", "true"] if verb == "run" else []))
        assert (said.code, "run it in" in said.err and str(repo.path) in said.err) == (2, True), said
    monkeypatch.chdir(repo.path)
    assert cli("merge", "--dry-run", name).code == 0


def ours(repo: GitRepo) -> dict[str, str]:
    return {name: value for name, value in repo.refs().items() if name.startswith("refs/sandbox")}


def test_a_far_sandbox_is_dropped_restored_and_pruned(
    cli: Cli, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another(tmp_path / "other")
    for owner in (repo, other):
        worked(owner, "one", {"a": "1\n"})
    name = f"{next(paths.state_root().glob('repo-*')).name}/one"
    before = ours(repo)
    monkeypatch.chdir(tmp_path)
    assert cli("drop", name).code != 0, "not merged"
    said = cli("drop", "--force", name)
    assert (said.code, f"sandbox restore {name}" in said.out) == (0, True), said
    assert not ours(repo)
    assert ours(other), "only that of the repository that was named"
    assert cli("restore", name).code == 0
    assert ours(repo) == before
    monkeypatch.chdir(other.path)
    assert cli("drop", "--force", name, "one").code == 0
    assert cli("prune", f"{name}x").code == 17
    said = cli("prune", name, "one")
    assert (said.code, said.out.count("Deleted")) == (0, 2), said
    assert not list(paths.state_root().glob("*/.trash/*/trash.json"))


def test_a_far_sandbox_whose_repository_is_gone_says_what_can_be_done(
    cli: Cli, repo: GitRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked(repo, "one", {"a": "1\n"})
    name = f"{next(paths.state_root().glob('repo-*')).name}/one"
    shutil.rmtree(repo.path)
    monkeypatch.chdir(tmp_path)
    for words in RUNNING:
        said = cli(words[0], name, *words[1:])
        assert (said.code, f"sandbox recover {name} --into REPO" in said.err) == (17, True), said
