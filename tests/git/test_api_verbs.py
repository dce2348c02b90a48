"""What the verbs can, the API can: on real repositories, with sandboxes that no machine made."""

from __future__ import annotations

from pathlib import Path

import pytest

import git_sandbox
from git_sandbox import Project, SandboxError, Span, State, Style, record, store
from git_sandbox.errors import StateError, UsageError
from support.fabricated import Sandbox, changed, worked
from support.gitrepo import GitRepo


@pytest.fixture
def project(repo: GitRepo) -> Project:
    return git_sandbox.open(repo.path)


@pytest.fixture
def made(repo: GitRepo) -> Sandbox:
    return worked(repo, "one", {"new": "1\n"})


@pytest.mark.usefixtures("made")
def test_another_name_and_another_machine(repo: GitRepo, project: Project) -> None:
    two = project.sandbox("one").rename("two")
    assert [(row.id, two.id) for row in project.sandboxes()] == [("two", "two")]
    assert "refs/sandbox/two" in repo.refs()
    sized = two.set(memory="2G", cpus=3)
    assert (sized.id, sized.memory, sized.cpus) == ("two", 2048, 3)
    with pytest.raises(UsageError):
        two.set()
    with pytest.raises(UsageError):
        two.set(memory="lots")
    with pytest.raises(UsageError):
        two.rename("No Name")
    assert [row.id for row in git_sandbox.everywhere().sandboxes if row.id.endswith("/two") or row.id == "two"]


@pytest.mark.usefixtures("made")
def test_the_trash(project: Project) -> None:
    box = project.sandbox("one")
    box.drop(force=True)
    assert (box.state, [row.id for row in project.trash()]) == (State.TRASH, ["one"])
    assert project.prune().sandboxes == [], "it has not expired"
    assert [freed.id for freed in project.prune(everything=True, dry_run=True).sandboxes] == ["one"]
    assert box.restore().state is State.STOPPED
    box.drop(force=True)
    with pytest.raises(StateError):
        project.prune("two")
    with pytest.raises(UsageError):
        project.prune("one", everything=True)
    assert [freed.id for freed in project.prune("one").sandboxes] == ["one"]
    assert project.trash() == []


def test_differences_patches_and_branches(repo: GitRepo, project: Project, made: Sandbox, tmp_path: Path) -> None:
    made.guest.git("branch", "topic")
    made.guest.write("draft", "not committed\n")
    made.home()
    repo.commit("host", {"host": "1\n"})
    box = project.sandbox("one")
    assert b"+1" in box.diff().raw
    assert b"host" not in box.diff().raw, "what a merge changes, and no commit of the user's"
    assert box.diff(Span.WIP, style=Style.NAME_ONLY).raw == b"draft\n"
    assert box.diff(Span.SPAWN, style=Style.NAME_ONLY).raw.split() == [b"draft", b"new"]
    assert box.diff(Span.BASE, paths=["nowhere"]).raw == b""
    assert not box.diff(limit=10).whole
    assert [Path(name).name for name in box.patches(tmp_path / "patches").files] == ["0001-work-of-one.patch"]
    assert [branch.name for branch in box.branch("topic")] == ["topic"]
    assert "refs/heads/topic" in repo.refs()
    box.undo_branch()
    assert "refs/heads/topic" not in repo.refs()
    worked(repo, "two", {"other": "1\n"})
    worked(repo, "three", {"other": "1\n"})
    assert [group.ids for group in project.groups()] == [("three", "two"), ("one",)]


@pytest.mark.usefixtures("made")
def test_a_merge_with_conflicts_begins_and_is_taken_back(repo: GitRepo, project: Project) -> None:
    mine = repo.commit("host", {"new": "2\n"})
    box = project.sandbox("one")
    with pytest.raises(SandboxError):
        box.merge(yes=True)
    assert box.begin_merge().conflicts == ("new",)
    assert b"<<<<<<<" in repo.read("new")
    assert box.abort_merge().head == mine
    assert (repo.read("new"), repo.status()) == (b"2\n", "")
    worked(repo, "risky", {".vscode/tasks.json": "{}\n", "new": "3\n"})
    repo.commit("host again", {"new": "4\n"})
    with pytest.raises(UsageError, match="without your consent"):
        project.sandbox("risky").begin_merge()
    assert repo.status() == ""


def test_output_and_network(project: Project, made: Sandbox) -> None:
    entry, box = store.find(made.repo, "one"), project.sandbox("one")
    with pytest.raises(StateError, match="no output"):
        box.logs()
    entry.directory.output.write_bytes(b"first\nlast\n")
    assert (box.logs(), box.logs(limit=5)) == (b"first\nlast\n", b"last\n")
    with pytest.raises(StateError, match="net allow"):
        box.allow()
    with pytest.raises(UsageError):
        box.allow("no rule at all")
    assert [str(rule) for rule in box.allow("pypi.org")] == ["pypi.org"]
    assert (box.requests(), store.find(made.repo, "one").record.net) == ([], "allow")  # type: ignore[union-attr]
    record.write(entry.directory, changed(made.record, net="none"))
    with pytest.raises(StateError):
        box.ssh_config()
