"""A merge or the like that waits inside: named at the end, never committed as files, gone on with on the host."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from git_sandbox.cli import words
from git_sandbox.cli.main import main
from git_sandbox.integrate import resume
from git_sandbox.integrate.operation import load
from git_sandbox.protocol import manifest, stream
from git_sandbox.sandbox import lookup, settle
from git_sandbox.sandbox.imported import Retrieval
from git_sandbox.sandbox.settle import Questions
from support.fabricated import Sandbox, spawn
from support.gitrepo import GitRepo
from support.guest import LIMITS, Host, exporter
from support.sandboxed import LINES, everything

STEPS = ("execute", "_set_index", "_set_files")
OURS, THEIRS = LINES.replace("line 3\n", "ours\n"), LINES.replace("line 3\n", "theirs\n")


@pytest.fixture
def box(repo: GitRepo, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox with a branch `topic` that conflicts with `main` in `text`, and adds `new`."""
    monkeypatch.chdir(repo.path)
    repo.commit("text", {"text": LINES, "other": "1\n"})
    made = spawn(repo, "vm-1")
    made.guest.git("switch", "-q", "-c", "topic")
    made.work("theirs", {"text": THEIRS, "new": "1\n"})
    made.guest.git("switch", "-q", "main")
    made.work("ours", {"text": OURS})
    return made


def bring(box: Sandbox, place: Path) -> Retrieval:
    """All of the way home, with what the guest says."""
    host = Host(box.host, place / "quarantine")
    collected = host.bring_home(box.guest, given=dict(box.record.refs))
    with exporter(box.guest.path) as sock:
        reply = stream.request(sock, "export", limits=LIMITS)
        told = manifest.parse(reply.header, object_format="sha1")
    return Retrieval(collected, told, changed=True)


def begin(box: Sandbox, kind: str) -> None:
    box.guest.run(kind, *({"merge": ["topic"], "cherry-pick": ["topic"], "rebase": ["topic"]}.get(kind, ["HEAD"])))


@pytest.mark.parametrize("dirty", ["commit", "stash", "ask"])
@pytest.mark.parametrize("kind", ["merge", "cherry-pick", "rebase"])
def test_it_is_named_and_not_committed(repo: GitRepo, box: Sandbox, tmp_path: Path, kind: str, dirty: str) -> None:
    begin(box, kind)
    head = box.guest.git("rev-parse", "HEAD")
    brought = bring(box, tmp_path)
    assert (brought.manifest.operation, brought.manifest.unmerged) == (kind, ("text",))
    done = settle.settle(box.repo, box.record, brought, Questions(), on_exit="keep", dirty=dirty)
    assert done.dirty == "keep"
    assert (f"a {kind} is in progress" in done.dirty_problem) is (dirty != "ask")
    assert done.target == head
    assert repo.git("stash", "list") == ""
    said = "\n".join(words.homecoming(box.repo, box.record, brought))
    assert f"A {kind} is in progress in sandbox vm-1; unmerged: text" in said
    assert ("--resume" in said) is (kind != "rebase")
    assert "operation/state" not in said


@pytest.mark.parametrize("resolved", [False, True])
@pytest.mark.parametrize("kind", ["merge", "cherry-pick", "revert"])
def test_it_can_be_gone_on_with_on_the_host(
    repo: GitRepo, box: Sandbox, tmp_path: Path, kind: str, *, resolved: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "revert":
        box.work("later", {"text": OURS.replace("ours", "later")})
        box.guest.run("revert", "--no-edit", "HEAD~1")
    else:
        begin(box, kind)
    if resolved:
        box.guest.write("text", "resolved\n")
        box.guest.git("add", "text")
    box.guest.write("untracked", "1\n")
    box.guest.write("other", "edited and\n")
    box.guest.git("add", "other")
    box.guest.write("other", "edited and more\n")
    bring(box, tmp_path)
    before = everything(repo)
    assert main(["merge", "--resume", "vm-1"]) == 16, "the commits come first"
    assert everything(repo) == before
    assert main(["merge", "vm-1"]) == 0
    capsys.readouterr()
    assert main(["log", "vm-1"]) == 0
    assert f"A {kind} is in progress" in capsys.readouterr().out
    assert main(["merge", "--resume", "vm-1"]) == (0 if resolved else 16)
    assert repo.status() == box.guest.status()
    assert repo.git("ls-files", "-s") == box.guest.git("ls-files", "-s")
    for name in ("text", "other", "untracked"):
        assert repo.read(name) == box.guest.read(name)
    for name in ("MERGE_MSG", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD"):
        inside, here = box.guest.path / ".git" / name, repo.path / ".git" / name
        assert inside.exists() == here.exists()
        assert not inside.exists() or inside.read_text().split() == here.read_text().split()
    again = everything(repo)
    assert main(["merge", "--resume", "vm-1"]) == 16, "not over an operation of the user's"
    assert everything(repo) == again
    repo.write("text", "resolved\n")
    repo.git("add", "text")
    repo.git("-c", "core.editor=true", *(["commit", "-q"] if kind == "merge" else [kind, "--continue"]))
    parents = repo.git("log", "-1", "--format=%P").split()
    assert len(parents) == (2 if kind == "merge" else 1)
    assert repo.git("fsck", "--strict", "--no-dangling") == ""


def test_not_over_what_the_user_did_meanwhile(repo: GitRepo, box: Sandbox, tmp_path: Path) -> None:
    begin(box, "merge")
    bring(box, tmp_path)
    assert main(["merge", "vm-1"]) == 0
    for name, staged in (("text", False), ("new", False), ("other", True)):
        repo.write(name, "mine\n")
        if staged:
            repo.git("add", name)
        before = everything(repo)
        assert main(["merge", "--resume", "vm-1"]) == 16
        assert everything(repo) == before
        repo.git("stash", "push", "-q", "-u")
    (repo.path / ".git/CHERRY_PICK_HEAD").write_text(repo.git("rev-parse", "HEAD") + "\n")
    before = everything(repo)
    assert main(["merge", "--resume", "vm-1"]) == 16
    assert everything(repo) == before


@pytest.mark.parametrize("moment", [f"{each} {step}" for step in STEPS for each in ("before", "after")])
def test_what_fails_in_the_middle_leaves_nothing(
    repo: GitRepo, box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    when, step = moment.split(" ")
    begin(box, "merge")
    box.guest.write("untracked", "1\n")
    bring(box, tmp_path)
    assert main(["merge", "vm-1"]) == 0
    repo.git("update-index", "-q", "--refresh")
    before = everything(repo)
    real = getattr(resume, step)

    def full(*words: Any) -> None:
        if when == "after":
            monkeypatch.setattr(resume, step, real)
            real(*words)
        monkeypatch.setattr(resume, step, real)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(resume, step, full)
    with pytest.raises(OSError, match="space"):
        resume.resume(box.repo, waiting(box))
    after = everything(repo)
    refs = {name: value for name, value in after[3].items() if not name.startswith("refs/sandbox-backup/")}  # type: ignore[attr-defined]
    assert (after[0], after[2], refs, after[4]) == (
        before[0], before[2],
        {name: value for name, value in before[3].items() if not name.startswith("refs/sandbox-backup/")}, before[4],  # type: ignore[attr-defined]
    )  # fmt: skip
    assert repo.status() == ""
    assert not list((repo.path / ".git").glob("*MERGE*"))
    assert main(["merge", "--resume", "vm-1"]) == 16
    assert "UU text" in repo.git("status", "--porcelain").splitlines()


def waiting(box: Sandbox) -> resume.Waiting:
    found = lookup.known(box.repo, "vm-1")
    operation = load(box.repo, found.refs, found.head, found.wip)
    assert operation
    return resume.Waiting(found.entry.id, found.base, found.head, operation)


def test_others_are_called_by_their_names(box: Sandbox, tmp_path: Path) -> None:
    patches = box.guest.git("format-patch", "-o", str(tmp_path), "topic~1..topic").splitlines()
    box.guest.run("am", *patches)
    assert bring(box, tmp_path).manifest.operation == "am"
    found = lookup.known(box.repo, "vm-1")
    operation = load(box.repo, found.refs, found.head, found.wip)
    assert operation
    assert operation.kind == "am"
    box.guest.git("am", "--abort")
    box.work("more", {"more": "1\n"})
    box.guest.run("cherry-pick", "topic", "topic~1")
    box.guest.write("text", "resolved\n")
    box.guest.git("commit", "-qam", "in the middle of two")
    told = bring(box, tmp_path).manifest
    assert (told.operation, told.unmerged) == ("cherry-pick", ())
    assert main(["merge", "vm-1"]) == 0
    assert main(["merge", "--resume", "vm-1"]) == 16


def test_what_was_ended_inside_is_not_in_progress(box: Sandbox, tmp_path: Path) -> None:
    begin(box, "merge")
    bring(box, tmp_path)
    assert main(["drop", "vm-1"]) == 17
    box.guest.git("merge", "--abort")
    again = bring(box, tmp_path)
    assert again.manifest.operation is None
    assert main(["merge", "vm-1"]) == 0
    assert main(["merge", "--resume", "vm-1"]) == 16
    begin(box, "merge")
    box.guest.git("commit", "-qam", "merged with markers")
    bring(box, tmp_path)
    assert main(["merge", "--resume", "vm-1"]) == 16


def test_the_same_state_is_told_once(repo: GitRepo, box: Sandbox, tmp_path: Path) -> None:
    begin(box, "merge")
    bring(box, tmp_path)
    before = repo.refs()
    bring(box, tmp_path)
    assert repo.refs() == before


def test_a_rebase_can_only_be_gone_on_with_inside(repo: GitRepo, box: Sandbox, tmp_path: Path) -> None:
    begin(box, "rebase")
    todo = box.guest.path / ".git/rebase-merge/git-rebase-todo"
    todo.write_text("exec touch /tmp/pwned\n")
    bring(box, tmp_path)
    repo.git("checkout", "-q", "--detach", "refs/sandbox/vm-1")
    before = everything(repo)
    assert main(["merge", "--resume", "vm-1"]) == 16
    assert everything(repo) == before
