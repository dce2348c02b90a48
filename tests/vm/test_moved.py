"""A repository that is moved, replaced or deleted while its sandboxes run: the work finds it, or stays to be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from support.gitrepo import GitRepo
from support.vm import Sandboxes, wait_for

COMMIT = "echo {0} >{0}; git add {0}; git commit -qm {0}"


def move(boxes: Sandboxes, place: Path) -> None:
    """Another repository comes to the old place."""
    old = boxes.repo.path
    old.rename(place)
    GitRepo.create(old).commit("another one", {"x": "y\n"})
    boxes.repo = GitRepo(place)


def refs_of(repo: GitRepo) -> dict[str, str]:
    return {name: value for name, value in repo.refs().items() if name.startswith("refs/sandbox")}


def subjects(repo: GitRepo, name: str) -> list[str]:
    return repo.git("log", "--format=%s", name, "--not", "main").split("\n")


def test_moved_while_it_runs(boxes: Sandboxes, tmp_path: Path) -> None:
    first = boxes.repo.path
    with boxes.started("run", "--name", "inside", "--", "sh", "-ec", "echo up; sleep 600") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        boxes.ok("exec", "inside", "--", "sh", "-ec", COMMIT.format("one"))
        move(boxes, tmp_path / "second")
        assert boxes.listed()["inside"]["state"] == "running"
        boxes.ok("sync", "inside")
        assert subjects(boxes.repo, "sandbox/inside") == ["one"]
        boxes.ok("exec", "inside", "--", "sh", "-ec", COMMIT.format("two"))
        move(boxes, tmp_path / "third")  # nobody tells the tool
        child.terminate()
        done = boxes.finish(child)
    assert "1 commit came home" in done.said or "2 commits came home" in done.said, done.said
    assert subjects(boxes.repo, "sandbox/inside") == ["two", "one"]
    row = boxes.listed()["inside"]
    assert (row["state"], row["ahead"]) == ("stopped", 2)
    boxes.ok("shell", "--detach", "inside")
    boxes.ok("exec", "inside", "--", "sh", "-ec", COMMIT.format("three"))
    move(boxes, tmp_path / "fourth")
    boxes.ok("stop", "inside")
    assert subjects(boxes.repo, "sandbox/inside") == ["three", "two", "one"]
    assert "three" in boxes.ok("log", "inside").text
    boxes.ok("merge", "inside")
    boxes.ok("drop", "inside")
    for place in (first, tmp_path / "second", tmp_path / "third"):
        assert refs_of(GitRepo(place)) == {}


def test_deleted_while_it_runs_its_work_goes_to_another_repository(boxes: Sandboxes, tmp_path: Path) -> None:
    gone, other = boxes.repo.path, GitRepo.create(tmp_path / "other")
    other.commit("other", {"q": "q\n"})
    other.git("update-ref", "refs/sandbox/vm-1", "HEAD")  # the name is taken there
    script = f"{COMMIT.format('one')}; git branch topic; echo loose >loose; echo up; sleep 600"
    with boxes.started("run", "--", "sh", "-ec", script) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        disk = boxes.directory() / "workspace.ext4"
        shutil.rmtree(gone)
        child.terminate()
        done = boxes.finish(child)
    assert (done.code, "the repository is gone" in done.said) == (15, True), done.said
    assert disk.exists()
    boxes.repo = other
    found = boxes.ok("ls", "--everywhere", "--json").envelope["data"]
    (row,) = found["sandboxes"]
    assert (row["id"], row["state"], row["gone"], row["repository"]) == ("vm-1", "recoverable", True, str(gone))
    assert 0 < row["disk_bytes"] == found["disk_bytes"]
    assert f"{row['name']}/vm-1" not in done.said
    assert f"sandbox recover {row['name']} --into REPO" in done.said
    record = boxes.directory() / "record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"image": "0" * 16}))  # that image is gone
    (recovered,) = boxes.ok("recover", row["name"], "--into", ".", "--json").envelope["data"]
    assert (recovered["id"], recovered["moved"]) == ("vm-2", True)
    assert subjects(other, "sandbox/vm-2")[0] == "one"
    refs = refs_of(other)
    assert refs["refs/sandbox-heads/vm-2/topic"] == refs["refs/sandbox/vm-2"] == recovered["head"]
    assert other.git("show", "refs/sandbox-wip/vm-2:loose") == "loose"
    assert other.git("fsck", "--no-dangling", "--connectivity-only") == ""
    assert boxes.listed()["vm-2"]["state"] == "stopped"
    said = boxes.run("shell", "--detach", "vm-2")
    assert (said.code, "`sandbox recover vm-2`" in said.said) == (17, True), said.said
    assert boxes.run("drop", "vm-2").code == 17
    other.git("update-ref", "-d", "refs/sandbox/vm-1")
    boxes.ok("drop", "--force", "vm-2")
    assert refs_of(other) == {}


def test_gone_while_nothing_changed_is_no_reason_to_delete(boxes: Sandboxes) -> None:
    with boxes.started("run", "--name", "idle", "--", "sh", "-c", "echo up; sleep 600") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        shutil.rmtree(boxes.repo.path / ".git")
        child.terminate()
        boxes.finish(child)
    wait_for("nothing runs", lambda: not boxes.processes(), 15)
    assert (boxes.directory("idle") / "workspace.ext4").exists()
