"""Uncommitted work at the end, by policy: `refs/sandbox-wip/<id>` has it first, whatever becomes of it then."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from git_sandbox.cli import ask
from git_sandbox.errors import StateError
from git_sandbox.git.names import Oid
from git_sandbox.integrate.plan import Plan
from git_sandbox.sandbox import listing, remove, settle, uncommitted
from git_sandbox.sandbox.finished import Finished
from git_sandbox.sandbox.lookup import base_of
from git_sandbox.sandbox.settle import Questions, Settled
from support.fabricated import Sandbox, spawn
from support.gitrepo import GitRepo
from support.guest import Host


@pytest.fixture
def box(repo: GitRepo) -> Sandbox:
    made = spawn(repo, "vm-1")
    made.work("committed", {"a": "1\n"})
    made.guest.write("README", "edited\n")
    made.guest.write("new", "untracked\n")
    return made


def settled(box: Sandbox, dirty: str, *, on_exit: str = "keep", questions: Questions | None = None) -> Settled:
    home = box.home()
    asked = questions or Questions()
    return settle.settle(box.repo, box.record, home, asked, on_exit=on_exit, dirty=dirty)


def wip(box: Sandbox) -> str:
    return box.host.git("rev-parse", "refs/sandbox-wip/vm-1")


def still_lost(box: Sandbox) -> bool:
    refs = box.repo.refs("refs/sandbox", "refs/sandbox-wip")
    return uncommitted.lost(box.repo, base_of(box.repo, box.record), refs.get(box.refs.head), refs.get(box.refs.wip))


@pytest.mark.parametrize("policy", ["commit", "stash", "discard", "keep", "ask"])
def test_the_ref_has_it_whatever_is_chosen(repo: GitRepo, box: Sandbox, policy: str) -> None:
    before = repo.status()
    done = settled(box, policy)
    assert done.dirty == ("keep" if policy == "ask" else policy)
    assert repo.git("cat-file", "-p", f"{wip(box)}:README") == "edited"
    assert repo.git("cat-file", "-p", f"{wip(box)}:new") == "untracked"
    assert repo.status() == before
    assert still_lost(box) is (policy != "commit"), "a stash is no branch"


def test_commit_puts_it_on_top_as_the_user(repo: GitRepo, box: Sandbox) -> None:
    head = box.guest.git("rev-parse", "HEAD")
    done = settled(box, "commit")
    assert done.target == repo.git("rev-parse", "refs/sandbox/vm-1")
    assert repo.git("log", "-1", "--format=%P %an", str(done.target)) == f"{head} Test User"
    assert repo.git("rev-parse", f"{done.target}^{{tree}}") == repo.git("rev-parse", f"{wip(box)}^{{tree}}")


def test_without_a_name_to_commit_with_the_work_stays_and_the_rest_is_told(repo: GitRepo, box: Sandbox) -> None:
    (Path.home() / ".gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")
    done = settled(box, "commit", on_exit="merge")
    assert done.dirty == "keep"
    assert done.dirty_problem.endswith("git has no user name and email")
    assert done.merged is not None, "the commits are merged all the same"
    assert repo.git("cat-file", "-p", f"{wip(box)}:README") == "edited"
    assert still_lost(box)


def test_commit_and_merge(repo: GitRepo, box: Sandbox) -> None:
    done = settled(box, "commit", on_exit="merge")
    assert done.merged is not None
    assert (repo.read("README"), repo.read("new"), repo.status()) == (b"edited\n", b"untracked\n", "")


@pytest.mark.parametrize("parents", ["as it is", "no commit of the index", "unborn"])
def test_a_stash_that_git_can_apply(repo: GitRepo, tmp_path_factory: pytest.TempPathFactory, parents: str) -> None:
    host = GitRepo.create(tmp_path_factory.mktemp("unborn") / "repo") if parents == "unborn" else repo
    made = spawn(host, "vm-1")
    made.guest.write("new", "untracked\n")
    home = made.home()
    assert home.collected.wip is not None
    if parents == "no commit of the index":  # as when paths were unmerged
        bare = host.git("commit-tree", f"{home.collected.wip}^{{tree}}", "-p", "HEAD", "-m", "wip")
        host.git("update-ref", "refs/sandbox-wip/vm-1", bare)
        object.__setattr__(home.collected, "wip", Oid(bare))
    done = settle.settle(made.repo, made.record, home, Questions(), on_exit="keep", dirty="stash")
    assert done.dirty == "stash"
    assert host.git("stash", "list").startswith("stash@{0}: sandbox vm-1: uncommitted work")
    (row,) = listing.rows(made.repo)
    assert (row.stashed, row.merged) == (True, False)
    with pytest.raises(StateError, match="only in your stash"):
        remove.drop(made.repo, "vm-1", force=False)
    if parents == "unborn":
        host.commit("first", {"x": "1\n"})
    host.git("stash", "apply", "-q")
    assert host.read("new") == b"untracked\n"


def test_the_answer_counts_when_there_is_somebody_to_ask(box: Sandbox) -> None:
    seen = []

    def dirty(oid: Oid) -> str:
        seen.append(oid)
        return "discard"

    done = settled(box, "ask", questions=Questions(dirty=dirty))
    assert (done.dirty, seen) == ("discard", [wip(box)])


@pytest.mark.parametrize("policy", ["commit", "stash", "discard"])
def test_what_only_came_along_is_left_alone(repo: GitRepo, policy: str) -> None:
    repo.write("README", "dirty when it started\n")
    made = spawn(repo, "vm-1")
    made.work("other", {"a": "1\n"})
    done = settled(made, policy)
    assert done.dirty == ""
    assert repo.git("stash", "list") == ""
    assert done.target == made.guest.git("rev-parse", "HEAD")


def test_rewritten_history_is_explained_at_the_end(repo: GitRepo) -> None:
    made = spawn(repo, "vm-1")
    made.guest.git("commit", "-q", "--amend", "-m", "amended", "--allow-empty")
    made.work("more", {"a": "1\n"})
    before = repo.git("rev-parse", "HEAD")
    done = settled(made, "keep", on_exit="merge")
    assert done.merged is None
    assert "no common ancestor" in done.explained  # the amended commit was the first
    assert repo.git("rev-parse", "HEAD") == before


@pytest.mark.parametrize("before", [False, True])
def test_what_is_only_staged_is_uncommitted_work_too(repo: GitRepo, tmp_path: Path, *, before: bool) -> None:
    for each in [repo] if before else []:
        each.write("staged", "1\n")
        each.git("add", "staged")
        (each.path / "staged").unlink()
    made = spawn(repo, "vm-1")
    made.work("committed", {"a": "1\n"}) if not before else made.guest.git("commit", "-q", "--allow-empty", "-om", "a")
    if not before:
        made.guest.write("staged", "1\n")
        made.guest.git("add", "staged")
        (made.guest.path / "staged").unlink()
    Host(repo, tmp_path / "quarantine").bring_home(made.guest, given=dict(made.record.refs))
    repo.git("update-ref", "refs/heads/kept", "refs/sandbox/vm-1")
    assert repo.git("cat-file", "-p", "refs/sandbox-wip/vm-1^2:staged") == "1"
    assert still_lost(made) is not before
    (row,) = listing.rows(made.repo)
    assert (row.uncommitted, row.merged) == (not before, before)


def test_the_question_at_the_end_shows_what_a_merge_changes(
    repo: GitRepo, box: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    brought = box.home()
    repo.commit("host", {"TODO": "h\n"})
    asked: list[str] = []

    def answer(question: str, **_options: object) -> str:
        asked.append(question)
        return "no" if question.startswith("Merge") else "stash"

    monkeypatch.setattr(click, "prompt", answer)
    finished = Finished(box.repo, "vm-1", box.record, 0, brought, kept=True, warnings=())
    questions = ask.Asker(box.repo, finished).questions()
    done = settle.settle(box.repo, box.record, brought, questions, on_exit="auto", dirty="ask")
    said = capsys.readouterr().err
    assert (done.dirty, done.merged) == ("stash", None)
    assert [each.split()[0] for each in asked] == ["Keep", "Merge"]
    assert "Your branch has commits that the sandbox does not have" in said
    assert "TODO" not in said
    assert "1 file changed, 1 insertion(+)" in said
    (row,) = listing.rows(box.repo)
    assert (row.stashed, row.merged) == (True, False)


def test_nothing_that_runs_by_itself_merges_at_the_end_without_an_answer(repo: GitRepo) -> None:
    made = spawn(repo, "vm-1")
    made.work("committed", {".envrc": "echo\n"})
    for on_exit in ("merge", "auto"):
        done = settled(made, "keep", on_exit=on_exit)
        assert done.merged is None
        assert (".envrc" in done.reason) is (on_exit == "merge")
    asked: list[str] = []

    def no(plan: Plan) -> bool:
        asked.extend(risk.path for risk in plan.risky)
        return False

    assert settled(made, "keep", on_exit="merge", questions=Questions(merge=no)).merged is None
    assert asked == [".envrc"]


@pytest.mark.parametrize(
    ("branches", "line"),
    [
        (("topic", "main"), "The sandbox ended on topic; a merge puts its commits on main."),
        (("main", "other"), "The sandbox started on main; your checkout is on other now."),
        (("HEAD", "main"), "The sandbox ended on a detached HEAD; a merge puts its commits on main."),
        (("main", "main"), ""),
    ],
)
def test_a_question_says_why_it_is_asked(
    repo: GitRepo,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    branches: tuple[str, str],
    line: str,
) -> None:
    """`branches`: of the sandbox at its end, and of the checkout. That of the start is merged without a question."""
    there, here = branches
    made = spawn(repo, "vm-1")
    if there != "main":
        made.guest.git("switch", "-q", *(("--detach",) if there == "HEAD" else ("-c", there)))
    made.work("work", {"a": "1\n"})
    if here != "main":
        repo.git("switch", "-q", "-c", here)
    home = made.home()
    monkeypatch.setattr(ask, "choose", lambda *_: "no")
    asker = ask.Asker(made.repo, Finished(made.repo, "vm-1", made.record, 0, home, kept=True, warnings=()))
    done = settle.settle(made.repo, made.record, home, asker.questions(), on_exit="auto", dirty="keep")
    assert line in capsys.readouterr().err
    assert (done.merged is None) is bool(line)


def test_edits_that_a_merge_would_meet_are_named(
    repo: GitRepo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{number}\n" for number in range(30)]
    repo.commit("lines", {"f": "".join(lines)})
    made = spawn(repo, "vm-1")
    made.work("work", {"f": "".join([*lines, "end\n"])})
    repo.write("f", "".join(["begin\n", *lines]))
    home = made.home()
    monkeypatch.setattr(ask, "choose", lambda *_: "no")
    asker = ask.Asker(made.repo, Finished(made.repo, "vm-1", made.record, 0, home, kept=True, warnings=()))
    assert settle.settle(made.repo, made.record, home, asker.questions(), on_exit="auto", dirty="keep").merged is None
    assert "You have edited f since" in capsys.readouterr().err
