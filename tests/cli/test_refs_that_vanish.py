"""Refs of sandboxes that something else removes: the record knows what came home, and it is put back."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from git_sandbox import notices, store
from git_sandbox.cli.main import main
from git_sandbox.git.repo import discover
from git_sandbox.store import State
from support.examples import examples
from support.fabricated import worked
from support.gitrepo import GitRepo

from .conftest import Cli


def sandbox_refs(repo: GitRepo) -> dict[str, str]:
    return {name: value for name, value in repo.refs().items() if name.startswith("refs/sandbox")}


def by_a_mirror(repo: GitRepo) -> None:
    """zulip#21901: a mirror's refspec is for all refs, and --prune removes what the other side has not got."""
    other = repo.path.with_name("other.git")
    if not other.exists():
        subprocess.run(["git", "clone", "-q", "--bare", repo.path, other], check=True)
        repo.git("remote", "add", "--mirror=fetch", "mirror", os.fspath(other))
    if repo.run("symbolic-ref", "-q", "HEAD").returncode == 0:
        repo.git("checkout", "-q", "--detach")
    repo.git("fetch", "-q", "--prune", "mirror")


def by_remote_prune(repo: GitRepo) -> None:
    by_a_mirror(repo)
    repo.git("remote", "prune", "mirror")


def by_a_script(repo: GitRepo) -> None:
    lines = "".join(f"delete {name}\n" for name in sandbox_refs(repo))
    subprocess.run(["git", "update-ref", "--stdin"], cwd=repo.path, input=lines.encode(), check=True)


def by_hand(repo: GitRepo) -> None:
    """Packed ones, too."""
    repo.git("pack-refs", "--all")
    packed = repo.path / ".git" / "packed-refs"
    packed.write_text(re.sub(r"(?m)^[0-9a-f]+ refs/sandbox.*\n(\^.*\n)?", "", packed.read_text()))


WAYS = [by_a_mirror, by_remote_prune, by_a_script, by_hand]


@pytest.mark.parametrize("removed", WAYS)
def test_they_are_put_back_and_drop_refuses(cli: Cli, repo: GitRepo, removed: Callable[[GitRepo], None]) -> None:
    made = worked(repo, "mir", {"new": "work\n"})
    (made.guest.path / "loose").write_text("uncommitted\n")
    made.home()
    assert cli("ls").code == 0
    before = sandbox_refs(repo)
    assert len(before) >= 4
    removed(repo)
    assert sandbox_refs(repo) == {}
    said = cli("drop", "mir")
    assert said.code == 17
    assert "refs of sandbox `mir` had been removed and were restored: refs/sandbox/mir" in said.err
    assert sandbox_refs(repo) == before
    assert "note:" not in cli("ls").err, "once is enough"
    for verb in (("log", "mir"), ("diff", "mir"), ("merge", "--dry-run", "mir"), ("ls", "--json")):
        removed(repo)
        done = cli(*verb)
        assert (done.code, done.err.count("were restored")) == (0, 1), done.err
        assert sandbox_refs(repo) == before


def test_a_dropped_sandbox_stays_dropped(cli: Cli, repo: GitRepo) -> None:
    worked(repo, "one", {"new": "work\n"})
    assert cli("drop", "--force", "one").code == 0
    assert "were restored" not in cli("ls").err
    assert sandbox_refs(repo) == {}
    assert cli("restore", "one").code == 0
    by_a_script(repo)
    assert "refs/sandbox/one" in cli("ls").err
    assert "refs/sandbox/one" in sandbox_refs(repo)


def test_what_is_collected_as_garbage_is_not_home(cli: Cli, repo: GitRepo) -> None:
    worked(repo, "one", {"new": "work\n"})
    assert cli("ls").code == 0
    by_a_script(repo)
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "-q", "--prune=now")
    said = cli("ls", "--json")
    assert said.envelope["data"][0]["state"] == "recoverable"
    assert "work of sandbox `one` is no longer in this repository" in said.err
    assert "`sandbox recover one` imports it again" in said.err
    assert "note:" not in cli("ls").err
    refused = cli("drop", "one")
    assert (refused.code, "`sandbox recover one`" in refused.err) == (17, True)


def test_one_that_cannot_be_put_back_holds_up_no_other(cli: Cli, repo: GitRepo) -> None:
    made = worked(repo, "one", {"new": "work\n"})
    made.guest.git("switch", "-q", "-c", "topic")
    made.guest.commit("more", {"more": "1\n"})
    made.home()
    cli("ls")
    before = sandbox_refs(repo)
    by_a_script(repo)
    repo.git("update-ref", "refs/sandbox-heads/one/topic/below", "HEAD")
    said = cli("ls")
    assert "other refs block their names: refs/sandbox-heads/one/topic" in said.err
    missing = before.items() - sandbox_refs(repo).items()
    assert {name for name, _ in missing} == {"refs/sandbox-heads/one/topic"}
    repo.git("update-ref", "-d", "refs/sandbox-heads/one/topic/below")
    cli("ls")
    assert before.items() <= sandbox_refs(repo).items()


def test_nothing_is_put_back_while_somebody_has_the_sandbox(cli: Cli, repo: GitRepo) -> None:
    worked(repo, "one", {"new": "work\n"})
    cli("ls")
    before = sandbox_refs(repo)
    by_a_script(repo)
    with store.directory(discover(repo.path), "one").lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli("ls", "--json").envelope["data"][0]["state"] == "running"
        assert sandbox_refs(repo) == {}
    assert "were restored" in cli("ls").err
    assert sandbox_refs(repo) == before


def test_what_a_merge_made_is_noted_at_once(cli: Cli, repo: GitRepo) -> None:
    worked(repo, "one", {"new": "work\n"})
    assert cli("merge", "one").code == 0
    backup = {name: value for name, value in sandbox_refs(repo).items() if name.startswith("refs/sandbox-backup/")}
    assert backup
    by_a_script(repo)
    assert cli("merge", "--undo", "one").code == 0
    assert backup.items() <= sandbox_refs(repo).items()


def test_what_another_one_replaces_is_kept_beside(cli: Cli, repo: GitRepo, tmp_path: Path) -> None:
    """Somebody has pushed his own sandboxes with --mirror, and their refs are fetched over ours."""
    made = worked(repo, "one", {"new": "work\n"})
    cli("ls")
    ours = sandbox_refs(repo)["refs/sandbox/one"]
    other = GitRepo.create(tmp_path / "other")
    theirs = other.commit("theirs", {"b": "1\n"})
    other.git("update-ref", "refs/sandbox/one", theirs)
    other.git("update-ref", "refs/sandbox-heads/one/main", theirs)
    repo.git("fetch", "-q", os.fspath(other.path), "+refs/sandbox*:refs/sandbox*")
    said = cli("ls")
    assert "refs of sandbox `one` were moved by something else: refs/sandbox/one" in said.err
    assert "note:" not in cli("ls").err
    assert sandbox_refs(repo)["refs/sandbox/one"] == theirs
    assert ours in sandbox_refs(repo).values()
    repo.git("reflog", "expire", "--expire=now", "--all")
    repo.git("gc", "-q", "--prune=now")
    assert repo.git("log", "-1", "--format=%s", ours) == "work of one"
    assert made.record.id == "one"


@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_of_them(repo: GitRepo, tmp_path: Path, data: st.DataObject) -> None:
    """Some refs of some sandboxes go, packed or loose: afterwards all is as before, and said of those it was about."""
    found = discover(repo.path)
    if not store.entries(found):
        for name in ("one", "two", "three"):
            made = worked(repo, name, {name: "work\n"})
            made.guest.git("switch", "-q", "-c", f"topic/{name}")
            made.guest.commit("more", {"more": name})
            (made.guest.path / "loose").write_text(name)
            made.home()
        store.entries(found)
    notices.heard()
    before = repo.refs()
    chosen = data.draw(st.sets(st.sampled_from(sorted(sandbox_refs(repo)))))
    if data.draw(st.booleans()):
        repo.git("pack-refs", "--all")
    for name in chosen:
        repo.git("update-ref", "-d", name)
    states = {str(each.id): each.state for each in store.entries(found)}
    assert repo.refs() == before
    assert set(states.values()) == {State.STOPPED}
    said = " ".join(notices.heard())
    about = {name for name in ("one", "two", "three") if f"`{name}`" in said}
    assert about == {name.split("/")[2] for name in chosen}
    assert tmp_path.exists()


@pytest.mark.parametrize("content", [b"nothing\n", b"1" * 40 + b"\n"], ids=["broken", "dangling"])
def test_a_ref_of_the_users_that_leads_to_nothing_stops_no_verb(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """`git rev-list --all` ends at one, and so did every question about what the user has."""
    monkeypatch.chdir(repo.path)
    worked(repo, "one", {"a": "1\n"})
    worked(repo, "two", {"b": "1\n"})
    before = repo.refs()
    repo.write(".git/refs/heads/broken", content)
    for words in (["ls"], ["log", "one"], ["diff", "one"], ["compare", "one", "two"], ["merge", "--yes", "one"]):
        assert main(words) == 0
    assert main(["drop", "one"]) == 0
    assert main(["drop", "two"]) != 0
    assert main(["drop", "--force", "two"]) == 0
    assert main(["restore", "two"]) == 0
    (repo.path / ".git/refs/heads/broken").unlink()
    after = repo.refs()
    assert {name: oid for name, oid in before.items() if "/two" in name}.items() <= after.items()


def damage_a_branch(repo: GitRepo) -> Path:
    """The host crashed: the commit of a branch of the user's is an empty file. `git log --all` ends at it."""
    oid = repo.git("commit-tree", "-m", "lost", "HEAD^{tree}")
    repo.git("update-ref", "refs/heads/damaged", oid)
    file = repo.path / ".git/objects" / oid[:2] / oid[2:]
    file.chmod(0o600)
    file.write_bytes(b"")
    return file


def test_damage_of_the_users_is_no_reason_to_forget_what_came_home(cli: Cli, repo: GitRepo) -> None:
    worked(repo, "one", {"new": "work\n"})
    assert cli("ls").code == 0
    before = sandbox_refs(repo)
    by_a_script(repo)
    damage_a_branch(repo)
    said = cli("ls")
    assert "were restored" in said.err
    assert "no longer in this repository" not in said.err
    assert sandbox_refs(repo) == before


def test_what_another_one_replaces_is_kept_beside_also_where_git_cannot_tell(
    cli: Cli, repo: GitRepo, tmp_path: Path
) -> None:
    worked(repo, "one", {"new": "work\n"})
    cli("ls")
    ours = sandbox_refs(repo)["refs/sandbox/one"]
    other = GitRepo.create(tmp_path / "other")
    other.git("update-ref", "refs/sandbox/one", other.commit("theirs", {"b": "1\n"}))
    repo.git("fetch", "-q", os.fspath(other.path), "+refs/sandbox*:refs/sandbox*")
    damage_a_branch(repo)
    cli("ls")
    assert sandbox_refs(repo)[f"refs/sandbox-other/one/replaced/{ours[:12]}"] == ours
